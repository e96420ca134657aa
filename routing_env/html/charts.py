"""Charts of a report as plotly figures: curves with intervals, and a radar. Axes and shapes are in the docstrings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike, NDArray

from routing_env.drawing.style import line_colour
from routing_env.names import printable

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Attributes:
        x: [E].
        mean: [E].
        half: [E], half the width of its interval; NaN where there is none.
    """

    x: ArrayLike
    mean: NDArray[np.floating[Any]]
    half: NDArray[np.floating[Any]]


def line_style(number: int) -> tuple[str, str]:
    """Colour, as in the other figures, and dash of the line with this number; who sees no colours has the dashes."""
    return to_hex(line_colour(number % 10)), DASHES[number % len(DASHES)]


def line_styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and dash of every line."""
    return {name: line_style(number) for number, name in enumerate(names)}


def label(name: str, longest: int = 40) -> str:
    """A name for plotly, which reads tags and entities in it: shown as it is, and cut if long."""
    name = printable(name)
    return escape(name if len(name) <= longest else name[: longest - 1] + "…", quote=False)


def curves(
    lines: Mapping[str, Curve],
    names: Sequence[str],
    x: str,
    y: str,
    *,
    unit: str = "",
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> go.Figure:
    """Curves with a band for each interval.

    Args:
        lines: By the names of their entrants.
        names: All entrants of the legend, whose numbers decide on colours and dashes.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        unit: Of the values, for the numbers beside the pointer.
        limits: Of possible values, which cut the bands.
    """
    figure = go.Figure()
    for name, curve in lines.items():
        number = names.index(name)
        colour, dash = line_style(number)
        x_values = np.asarray(curve.x, dtype=float)
        low, high = (np.clip(curve.mean + sign * curve.half, *limits) for sign in (-1, 1))
        if known := np.isfinite(curve.half).all() and bool(np.any(curve.half > 0)):
            figure.add_scatter(
                x=np.concatenate([x_values, x_values[::-1]]).round(6),
                y=np.concatenate([high, low[::-1]]).round(4),
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=str(number),
            )
        figure.add_scatter(
            x=x_values.round(6),
            y=np.asarray(curve.mean).round(4),
            customdata=curve.half.round(4) if known else None,
            name=label(name),
            mode="lines+markers" if len(x_values) < 15 else "lines",
            marker={"size": 5},
            line={"color": colour, "dash": dash, "width": 2},
            legendgroup=str(number),
            hovertemplate=f"%{{y:.2f}}{' ± %{customdata:.2f}' if known else ''}{unit}",
        )
    ticks = {"tickformat": ",d", "tick0": 0, "dtick": _whole_step(lines)} if x == "epoch" else {"nticks": 8}
    figure.update_layout(
        template="none",
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        margin={"l": 58, "r": 12, "t": 12, "b": 48},
        xaxis={"title": {"text": x}, "fixedrange": True, **ticks},
        yaxis={"title": {"text": y}, "fixedrange": True},
    )
    return figure


def _whole_step(lines: Mapping[str, Curve]) -> int:
    """A step between whole numbers, 1, 2 or 5 times a power of ten, that gives at most seven ticks."""
    longest = max((float(np.max(np.asarray(curve.x))) for curve in lines.values()), default=1.0)
    return next(step for step in (m * 10**e for e in range(12) for m in (1, 2, 5)) if longest <= 7 * step)


def radar(scores: Mapping[str, Sequence[float]], names: Sequence[str], scenarios: Sequence[str]) -> go.Figure:
    """A spoke for each scenario, a closed line for each entrant; scores below -0.25 are drawn there.

    Args:
        scores: For each entrant a score per scenario; NaN where it has none.
        names: All entrants of the legend.
        scenarios: Names of the spokes.
    """
    figure = go.Figure()
    spokes = [label(name, 14) for name in scenarios]
    for name, values in scores.items():
        number = names.index(name)
        colour, dash = line_style(number)
        drawn = [None if value != value else max(float(value), -0.25) for value in values]
        figure.add_scatterpolar(
            r=[*drawn, drawn[0]],
            theta=[*spokes, spokes[0]],
            customdata=[*values, values[0]],
            name=label(name),
            mode="lines+markers",
            marker={"size": 5},
            line={"color": colour, "dash": dash, "width": 2},
            legendgroup=str(number),
            hovertemplate="%{theta}: %{customdata:.2f}",
        )
    known = [value for values in scores.values() for value in values if value == value]
    low, high = min(known, default=0.0), max(known, default=1.0)
    figure.update_layout(
        template="none",
        showlegend=False,
        dragmode=False,
        margin={"l": 72, "r": 72, "t": 40, "b": 40},
        polar={
            "radialaxis": {
                "range": [max(-0.25, min(0.0, low)), max(1.1, high)],
                "tickvals": [0, 0.5, 1],
                "angle": 90,
                "tickangle": 90,
            },
            "angularaxis": {"tickfont": {"size": 11}, "direction": "clockwise", "rotation": 90},
        },
    )
    return figure
