"""Figures of a benchmark: learning curves with the paper's numbers, performance profiles, routing, rho, tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from routing_env.benchmark.damage import remedied
from routing_env.benchmark.jobs import Job, scale
from routing_env.benchmark.paper import EPOCHS, TABLE_2
from routing_env.benchmark.statistics import mean_interval, performance_profile
from routing_env.checkpoint import DamagedError
from routing_env.drawing.style import DPI, folded, legend_beside, line_colour, plain, shown
from routing_env.names import file_name
from routing_env.runs.directory import RunDirectory
from routing_env.runs.run import Run
from routing_env.runs.settings import FigureFormat

Measure = Callable[[Job], float]
"""Computes a number from a finished run."""


def save_comparison_figures(
    jobs: Sequence[Job], folder: Path, formats: Sequence[FigureFormat] = ("png",)
) -> list[Path]:
    """Draw the finished runs: learning curves, routing, and accuracy and cost over rho or the number of tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    done = [job for job in jobs if job.epochs_done() >= job.epochs]
    names = dict.fromkeys(job.arena.name for job in done)
    arenas = {name: [job for job in done if job.arena.name == name] for name in names}
    drawn: dict[str, Figure] = {}
    over_the_tasks = len({job.arena.game.get("tasks") for job in done}) > 1
    if over_the_tasks:
        drawn["curves"] = learning_curves(done)
        drawn["tasks"] = over_tasks(done)
    for arena, own in arenas.items():
        name = file_name(arena)
        if not over_the_tasks:
            drawn[name] = learning_curves(own)
            drawn[f"{name}-profile"] = performance_profiles(own)
        routed = [job for job in own if "test_routes" in job.rows()[-1]]
        if routed:
            drawn[f"{name}-routing"] = routing(routed)
        if len({job.entrant.game.get("rho") for job in own}) > 1:
            drawn[f"{name}-rho"] = over_rho(own)
    paths = {folder / f"{name}.{kind}": figure for name, figure in drawn.items() for kind in formats}
    for path, figure in paths.items():
        figure.savefig(path, dpi=DPI)
    return list(paths)


def learning_curves(jobs: Sequence[Job]) -> Figure:
    """Draw each entrant's mean test accuracy per epoch with its 95 % t-interval over seeds, a panel per arena.

    Crosses are the paper's numbers; they are drawn only if all training samples are used, as in the paper.
    """
    arenas = list(dict.fromkeys(job.arena.name for job in jobs))
    names = list(dict.fromkeys(job.entrant.name for job in jobs))
    columns = min(2, len(arenas))
    rows = -(-len(arenas) // columns)
    figure = Figure(figsize=(2.2 + 5.0 * columns, 0.6 + 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    papers = False
    for axes, arena in zip(panels, arenas, strict=False):
        own = [job for job in jobs if job.arena.name == arena]
        printed = TABLE_2.get(own[0].arena.figure or "", {}) if own[0].fraction == 1 else {}
        for number, name in enumerate(names):
            runs = [job for job in own if job.entrant.name == name]
            if runs:
                _curve(axes, runs, color := line_colour(number))
                points = [(e, v) for e, v in zip(EPOCHS, printed.get(name, ()), strict=False) if e <= runs[0].epochs]
                if points:
                    papers = True
                    axes.plot(*zip(*points, strict=True), color=color, marker="x", ls=":", alpha=0.8, lw=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel("test accuracy in %")
        axes.set_title(f"{shown(arena, 30)}: {scale(own)}", loc="left", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes)
    for axes in panels[len(arenas) :]:
        axes.set_axis_off()
    handles: list[Artist] = [
        Line2D([], [], color=line_colour(number), label=folded(name)) for number, name in enumerate(names)
    ]
    if len({job.seed for job in jobs}) > 1:
        handles.append(Patch(color="0.5", alpha=0.2, lw=0, label="95 % interval"))
    if papers:
        handles.append(Line2D([], [], color="0.4", marker="x", ls=":", label="the paper's Table 2"))
    legend_beside(figure, handles)
    return figure


def routing(jobs: Sequence[Job]) -> Figure:
    """Draw measures of routing over the epochs: means over seeds with 95 % t-intervals."""
    measures = {
        "policy_entropy": "policy entropy (nats)",
        "effective_blocks": "effective number of blocks",
        "mutual_information": "mutual information of task and block (nats)",
    }
    figure = Figure(figsize=(12.0, 3.8), layout="constrained")
    panels = figure.subplots(1, len(measures))
    for axes, (key, label) in zip(panels, measures.items(), strict=True):
        for number, name in enumerate(dict.fromkeys(job.entrant.name for job in jobs)):
            _curve(axes, [job for job in jobs if job.entrant.name == name], line_colour(number), key, name, scale=1)
        axes.set_xlabel("epoch")
        axes.set_title(label, fontsize=10, loc="left")
        _from_zero(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes)
    legend_beside(figure, panels[0].get_legend_handles_labels()[0])
    return figure


def performance_profiles(jobs: Sequence[Job]) -> Figure:
    """Draw for each entrant the share of tasks whose test accuracy exceeds tau, over tau (Agarwal et al. 2021).

    Bands are pointwise 95 % t-intervals over seeds. The higher a curve, the better; where two curves cross, the
    entrants differ in how even their tasks are.
    """
    names = dict.fromkeys(job.entrant.name for job in jobs)
    runs = {name: [_last(job)["test_task_accuracy"] for job in jobs if job.entrant.name == name] for name in names}
    every = 100 * np.concatenate([np.ravel(own) for own in runs.values()])
    margin = max(0.02 * float(np.ptp(every)), 0.1)
    tau = np.linspace(every.min() - margin, every.max() + margin, 500)
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, own) in enumerate(runs.items()):
        mean, half = performance_profile(100 * np.array(own), tau)
        axes.plot(tau, mean, color=line_colour(number), label=folded(name))
        low, high = np.maximum(mean - half, 0), np.minimum(mean + half, 1)
        axes.fill_between(tau, low, high, color=line_colour(number), alpha=0.12, lw=0)
    axes.set_xlabel("tau: test accuracy in %")
    axes.set_ylabel("share of tasks above tau")
    axes.set_title(f"{shown(jobs[0].arena.name)}: {scale(jobs)}", loc="left", fontsize=10)
    plain(axes)
    legend_beside(figure, axes.get_legend_handles_labels()[0])
    return figure


def over_rho(jobs: Sequence[Job]) -> Figure:
    """Draw the paper's Figure 12: accuracy after the last epoch, effective blocks and policy entropy over rho."""
    jobs = [job for job in jobs if "rho" in job.entrant.game]
    measures: dict[str, Measure] = {
        "test accuracy in %": lambda job: 100 * _last(job)["test_accuracy"],
        "effective number of blocks": lambda job: _last(job)["effective_blocks"],
        "policy entropy (nats)": lambda job: _last(job)["policy_entropy"],
    }
    figure = Figure(figsize=(12.0, 3.8), layout="constrained")
    for axes, (label, measure) in zip(figure.subplots(1, len(measures)), measures.items(), strict=True):
        _points(axes, jobs, lambda job: job.entrant.game["rho"], measure, "C0")
        axes.set_xlabel("rho")
        axes.set_title(label, loc="left", fontsize=10)
        if axes.get_ylim()[0] < 0.5 * axes.get_ylim()[1]:
            _from_zero(axes)
        plain(axes)
    title = f"Weight of the collaboration reward on {shown(jobs[0].arena.name)}: {scale(jobs)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def over_tasks(jobs: Sequence[Job]) -> Figure:
    """Draw accuracy (the paper's Figure 15) and seconds per epoch and task (Figure 13) over the number of tasks."""
    jobs = [job for job in jobs if "tasks" in job.arena.game]
    measures: dict[str, Measure] = {
        "test accuracy in %": lambda job: 100 * _last(job)["test_accuracy"],
        "seconds per epoch and task": lambda job: _last(job)["seconds"] / job.epochs / job.arena.game["tasks"],
    }
    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    names = list(dict.fromkeys(job.entrant.name for job in jobs))
    for axes, (label, measure) in zip(panels, measures.items(), strict=True):
        for number, name in enumerate(names):
            own = [job for job in jobs if job.entrant.name == name]
            _points(axes, own, lambda job: job.arena.game["tasks"], measure, line_colour(number), name)
        axes.set_xlabel("tasks, with a block per task in each layer")
        axes.set_xticks(sorted({job.arena.game["tasks"] for job in jobs}))
        axes.set_title(label, loc="left", fontsize=10)
        plain(axes)
    _from_zero(panels[1])
    title = f"The first tasks of {jobs[0].arena.game['data']}: {scale(jobs)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    legend_beside(figure, panels[0].get_legend_handles_labels()[0])
    return figure


def policies(jobs: Sequence[Job]) -> Iterator[Path]:
    """Draw the paper's Figures 9, 10 and 11 for each router, into the folder of its first finished run.

    Raises:
        FileNotFoundError: Files of the data set are missing.
        ValueError: Checkpoints are damaged; all others have been drawn.
    """
    first = {(job.arena.name, job.entrant.name): job for job in reversed(jobs) if job.epochs_done() >= job.epochs}
    damaged: list[str] = []
    for job in reversed(list(first.values())):
        directory = RunDirectory(job.path)
        if "test_routes" in job.rows()[-1]:
            run = Run.stored(directory, directory.read_config(), named=job.given)
            try:
                run.restore(directory)
            except DamagedError as error:
                damaged.append(remedied(error, job.path))
                continue
            yield from run.draw(directory)
    if damaged:
        raise ValueError("\n".join(("policies that could not be drawn:", *damaged)))


def _curve(
    axes: Axes, runs: Sequence[Job], color: str, key: str = "test_accuracy", label: str = "", scale: float = 100
) -> None:
    """Draw one entrant's metric over the epochs: mean over its runs with the 95 % t-interval."""
    epochs = [row["epoch"] for row in runs[0].rows()]
    curves = np.array([[row[key] for row in job.rows()] for job in runs], dtype=float)
    mean, half = mean_interval(scale * curves)
    top = 100 if scale == 100 else np.inf
    axes.plot(epochs, mean, color=color, label=folded(label), marker="." if len(epochs) < 3 else "")
    axes.fill_between(epochs, np.maximum(mean - half, 0), np.minimum(mean + half, top), color=color, alpha=0.15, lw=0)


def _points(axes: Axes, jobs: Sequence[Job], place: Measure, measure: Measure, color: str, label: str = "") -> None:
    """Draw one entrant's metric over a setting: mean over its runs with the 95 % t-interval."""
    values: dict[float, list[float]] = {}
    for job in jobs:
        values.setdefault(place(job), []).append(measure(job))
    places = sorted(values)
    means, halves = np.array([mean_interval(values[one]) for one in places]).T
    axes.errorbar(places, means, halves, color=color, marker="o", ms=4, capsize=3, label=folded(label))


def _last(job: Job) -> dict[str, Any]:
    """The last evaluation of a finished run."""
    return job.rows()[-1]


def _from_zero(axes: Axes) -> None:
    """Start the vertical axis at zero."""
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
