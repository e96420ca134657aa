"""The figures of the speed table: ratios with their bars, and the cost of adding blocks and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from routing_env.drawing.style import plain
from routing_env.maintenance.speed.measure import Result


def ratio_figure(results: Sequence[Result]) -> Figure:
    """Draw ratios as dots with their quartiles, and each bar as a black tick.

    Results without a bar that belong to the growth figure are left out.
    """
    measured = [result for result in results if result.rounds and (result.bar is not None or result.point is None)]
    figure = Figure(figsize=(9.5, 1.2 + 0.2 * len(measured)), layout="constrained")
    axes = figure.subplots()
    places = range(len(measured))
    colors = {True: "C2", False: "C3", None: "0.4"}
    for place, result in zip(places, measured, strict=True):
        color, ratio = colors[result.holds], result.ratio
        axes.plot([ratio.low, ratio.high], [place, place], color=color, lw=3, alpha=0.4, solid_capstyle="butt")
        axes.plot(ratio.median, place, "o", color=color, ms=5)
        if result.bar is not None:
            axes.plot([result.bar, result.bar], [place - 0.4, place + 0.4], color="black", lw=1.5)
    axes.set_yticks(list(places), [f"{result.row}) {result.title}: {result.name}" for result in measured], fontsize=7)
    axes.set_ylim(len(measured) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", lw=0.6)
    axes.set_xlabel("ratio to the base, median and quartiles; black tick: bar that it must not exceed")
    axes.set_title("Speed: green within the bar, red above it, grey without a bar", loc="left")
    plain(axes)
    return figure


def growth_figure(results: Sequence[Result]) -> Figure:
    """Draw the milliseconds per training step over the number of blocks and of tasks (the paper's Figure 13)."""
    lines: dict[str, dict[str, dict[int, float]]] = {}
    for result in results:
        for point, value in ((result.base_point, result.base_value), (result.point, result.value)):
            if point is not None and not isnan(value.median):
                lines.setdefault(result.title, {}).setdefault(point[0], {})[point[1]] = value.median
    figure = Figure(figsize=(4.9 * len(lines), 4.0), layout="constrained")
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    for (title, families), axes in zip(lines.items(), panels, strict=True):
        for name, points in families.items():
            axes.plot(*zip(*sorted(points.items()), strict=True), marker="o", label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        counts = sorted({count for points in families.values() for count in points})
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(title.rpartition(", ")[2].removesuffix(" added"))
        axes.legend(frameon=False, fontsize=8)
        plain(axes)
    panels[0].set_ylabel("milliseconds per step")
    return figure
