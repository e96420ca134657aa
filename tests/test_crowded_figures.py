"""Figures of many tasks and of long names: nothing is cut off by the edge, and no name covers another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from routing_env.drawing.routing_map import draw_routing_map, routing_map
from routing_env.drawing.style import folded, legend_beside
from routing_env.drawing.training_figures import block_probability
from routing_env.types import GameSpec

LONG = "a name of eighty letters, which nobody would ever write but somebody's options do"


def game(tasks: int) -> GameSpec:
    return GameSpec(tasks, 2, 6, 4, torch.ones(2, 6, dtype=torch.bool), ((0,), (0,)), torch.device("cpu"))


def legend_fits(figure: Figure) -> bool:
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    return box.y0 >= 0 and box.x0 >= 0 and box.y1 <= figure.bbox.height and box.x1 <= figure.bbox.width


@pytest.mark.parametrize("tasks", [10, 40, 100])
def test_the_edge_of_a_routing_map_is_blank(tasks: int) -> None:
    routes = np.random.default_rng(0).integers(0, 6, (tasks, 2))
    image = routing_map(routes, game(tasks), [f"{task} {LONG}" for task in range(tasks)])
    for edge in (image[:, -3:], image[:, :3], image[:3], image[-3:]):
        assert (edge == 255).all()


def test_slanted_names_keep_a_line_apart() -> None:
    figure = Figure(figsize=(16, 8))
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.6))
    draw_routing_map(axes, np.zeros((100, 2), int), game(100), [f"{task} {LONG}" for task in range(100)])
    names = [text for text in axes.texts if text.get_rotation() == 40]
    places = sorted(axes.transData.transform([text.xy for text in names])[:, 0])  # pyright: ignore[reportAttributeAccessIssue]
    apart = np.diff(places) * 72 / figure.dpi * np.sin(np.deg2rad(40))
    assert len(names) > 20
    assert apart.min() > 8  # their size in points


def test_a_legend_of_a_hundred_tasks_shows_some_and_says_so() -> None:
    policies = np.random.default_rng(0).dirichlet(np.ones(6), size=(5, 100, 2))
    figure = block_probability(np.arange(5), policies, [f"{task} {LONG}" for task in range(100)], "wpl")
    assert legend_fits(figure)
    (legend,) = figure.legends
    shown = len(legend.get_texts())
    assert 10 <= shown < 100
    assert legend.get_title().get_text() == f"agent of task ({shown} of 100)"


@pytest.mark.parametrize("number", [1, 8, 40])
def test_a_figure_grows_with_its_legend(number: int) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    figure.subplots()
    legend_beside(figure, [Line2D([], [], label=folded(f"{one} {LONG}")) for one in range(number)])
    assert legend_fits(figure)
    assert figure.get_figwidth() == 7
