"""The routing map (paper, Figure 11), as a matplotlib drawing and as an image.

Nothing here uses pyplot: figures are made, drawn and discarded without global state, so environments can render in
threads, in notebooks and on machines without a display.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

from routing_env.drawing.map_layout import (
    Edge,
    Node,
    blocks_at,
    columns,
    edges_of,
    lost_routes,
    shares_of,
    side_by_side,
)
from routing_env.drawing.style import Colour, lightness, shown, task_colours
from routing_env.types import GameSpec

RIGHT, WRONG = "✓", "✗"
MARK_COLOURS = {RIGHT: "#1a7f37", WRONG: "#cf222e"}
INK, PALE, PALE_INK, PAPER = "#2b2b2b", "#e4e4e4", "#bdbdbd", "#ffffff"
MARGIN = 0.3
"""Space above the tasks and below the last blocks, in rows."""
LONGEST = 24
"""Number of letters of a task's name that are shown."""
_SLANTED_STEP = 15.0
"""Points between slanted names that do not touch."""


def draw_routing_map(
    axes: Axes,
    routes: ArrayLike,
    spec: GameSpec,
    task_names: Sequence[str],
    *,
    marks: Sequence[str] = (),
    tasks: Sequence[int] | None = None,
) -> None:
    """Draw which blocks each task goes through: tasks on top, and below them one row of blocks per depth.

    Lines have the colour of their task and lie side by side where tasks share a block; blocks that no task takes are
    pale. PASS has no block: its line goes straight through the row, between two blocks. Blocks are labelled with the
    number of their action; in a recursive game a row holds the blocks of all layers that apply at that depth.

    Args:
        axes: axes to draw on; their frame and ticks are removed. Names are placed above them and notes to their left:
            leave room there, or save with ``bbox_inches="tight"``. Sizes follow the size of the axes at the time of the
            call.
        routes: int [T, d] with one route per task, or counts [T, d, A] of how often each task took each action, as in
            an ``Evaluation``; d may be less than D for unfinished routes. A negative action ends
            its line with a cross. A line drawn from counts is as wide as its share of the task's samples; counts do not
            tell which blocks follow each other in one sample, so the shares at one depth are spread evenly over those
            at the depth before.
        spec: the sizes of the game.
        task_names: T names.
        marks: for each task ``RIGHT``, ``WRONG`` or an empty string; if given, room is left for them.
        tasks: the task of each row of ``routes``; by default row t is task t.
    """
    rows = list(range(spec.tasks) if tasks is None else tasks)
    known = shares_of(np.asarray(routes), spec.actions)
    shares = np.zeros((spec.tasks, known.shape[1], spec.actions))
    shares[rows] = known
    blocks = [blocks_at(spec, depth) for depth in range(spec.depth)]
    edges = edges_of(shares, blocks)
    colours = task_colours(spec.tasks)
    used: dict[Node, dict[int, float]] = defaultdict(dict)
    for task, source, target, _ in edges:
        used[source].setdefault(task, source[1])
        used[target].setdefault(task, source[1])

    axes.set_axis_off()
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(spec.depth + MARGIN, -MARGIN)
    width, height = axes.bbox.width * 72 / axes.figure.dpi, axes.bbox.height * 72 / axes.figure.dpi
    widest = max(spec.tasks, *map(len, blocks))
    row_height = height / (spec.depth + 2 * MARGIN)
    diameter = min(0.74 * width / (1.02 * widest), 0.42 * row_height, 26.0)
    crowd = max((len(tasks) for tasks in used.values()), default=1)
    line = float(np.clip(0.8 * diameter / crowd, 0.9, 0.16 * diameter))
    beside = side_by_side(used, 1.15 * line * 1.02 / width, 0.8 * diameter * 1.02 / width)

    stub = 0.62 * diameter / row_height
    _draw_edges(axes, edges, beside, colours, line, stub=stub)
    lost = [(node, task) for node, task in lost_routes(shares, edges) if task in rows]
    _draw_ends(axes, lost, beside, line, stub=stub)
    size = max(0.42 * diameter, 3.5)
    tops = [(x, 0.0, str(task)) for task, x in enumerate(columns(spec.tasks))]
    _draw_nodes(axes, tops, diameter, size, faces=colours, rims=colours, inks=[_ink(c) for c in colours])
    for row, actions in enumerate(blocks, start=1):
        places = [(x, float(row), str(a)) for a, x in zip(actions, columns(len(actions)), strict=True)]
        taken = [(row, x) in used for x, _, _ in places]
        _draw_nodes(
            axes,
            places,
            diameter,
            size,
            faces=[PAPER if t else "#f8f8f8" for t in taken],
            rims=[INK if t else PALE for t in taken],
            inks=[INK if t else PALE_INK for t in taken],
        )
        used_blocks = f"{sum(taken)} of {len(taken)} blocks" if taken else "PASS alone"
        note = f"depth {row}" + (f"\n{used_blocks}" if shares.shape[1] >= row else "")
        _note(axes, note, (0, row), (-8, 0), ha="right", va="center", color="#6b6b6b")
    _name_tasks(axes, task_names, marks, diameter, width)


def routing_map(
    routes: ArrayLike,
    spec: GameSpec,
    task_names: Sequence[str],
    *,
    title: str = "",
    marks: Sequence[str] = (),
    tasks: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """The routing map as an image, whose size depends on the game and not on the routes.

    Args:
        routes: int [T, d] or counts [T, d, A]; see :func:`draw_routing_map`.
        spec: the sizes of the game.
        task_names: T names.
        title: text above the map.
        marks: for each task ``RIGHT``, ``WRONG`` or an empty string; if given, room is left for them.
        tasks: the task of each row of ``routes``; by default row t is task t.

    Returns:
        uint8 [height, width, 3].
    """
    widest = max(spec.tasks, *(len(blocks_at(spec, depth)) for depth in range(spec.depth)))
    row_height = max(0.95, 0.06 * widest)
    width, height = float(np.clip(0.56 * widest, 4.5, 16.0)), row_height * (spec.depth + 2 * MARGIN)
    longest = max(map(len, task_names))
    top = 0.55 + 0.25 * bool(marks) + (0.045 * min(longest, LONGEST) if _slanted(task_names, 72 * width) else 0.1)
    aside = 0.055 if _slanted(task_names, 72 * width) else 0.02
    left, right, bottom = 1.15, 0.25 + aside * min(longest, LONGEST), 0.05
    size = (left + width + right, bottom + height + top)
    figure = Figure(figsize=size, dpi=100, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    draw_routing_map(axes, routes, spec, task_names, marks=marks, tasks=tasks)
    figure.text(0.12 / size[0], 1 - 0.12 / size[1], shown(title, 120), ha="left", va="top", fontsize=10, color=INK)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def routes_text(
    routes: NDArray[np.int64],
    spec: GameSpec,
    names: Sequence[str],
    *,
    title: str = "",
    marks: Sequence[str] = (),
) -> str:
    """Routes as text, one line per route.

    Args:
        routes: int [number of routes, d]; a negative action means that the route was lost there.
        spec: the sizes of the game.
        names: one name per route.
        title: text above the routes.
        marks: for each route ``RIGHT``, ``WRONG`` or an empty string.
    """
    words = {-1: "lost", spec.pass_action: "PASS"}
    width = max(len(str(spec.actions - 1)), *(len(words[action]) for action in words if action in routes), 1)
    wide = max(map(len, names), default=0)
    lines = [title] if title else []
    for name, route, mark in zip(names, routes.tolist(), marks or [""] * len(names), strict=True):
        steps = [f"{words.get(action, action)!s:>{width}}" for action in route]
        lines.append("  ".join([f"{name:<{wide}}", " → ".join(steps), mark]).rstrip())
    return "\n".join(lines)


def _draw_edges(
    axes: Axes,
    edges: Sequence[Edge],
    beside: dict[tuple[Node, int], float],
    colours: Sequence[Colour],
    line: float,
    *,
    stub: float,
) -> None:
    """Draw the lines; each leaves and enters its nodes vertically, for ``stub`` rows, so that no line hides another."""
    paths: list[Path] = []
    for task, source, target, _ in edges:
        (x0, y0), (x1, y1) = (beside[source, task], source[0]), (beside[target, task], target[0])
        middle, top, bottom = (y0 + y1) / 2, y0 + stub, y1 - stub
        corners = [(x0, y0), (x0, top), (x0, middle), (x1, middle), (x1, bottom), (x1, y1)]
        paths.append(Path(corners, [Path.MOVETO, Path.LINETO, *[Path.CURVE4] * 3, Path.LINETO]))
    axes.add_collection(
        PathCollection(
            paths,
            facecolors="none",
            edgecolors=[(*colours[task], 0.08 + 0.92 * share**0.5) for task, _, _, share in edges],
            linewidths=[line * (0.1 + 0.9 * share**0.5) for *_, share in edges],
            capstyle="round",
            zorder=1,
        )
    )


def _draw_ends(
    axes: Axes, lost: Sequence[tuple[Node, int]], beside: dict[tuple[Node, int], float], line: float, *, stub: float
) -> None:
    """Draw a cross below each node where a route was lost."""
    for node, task in lost:
        x, y = beside.get((node, task), node[1]), node[0]
        end = y + stub + 0.12
        axes.plot([x, x], [y, end], color=MARK_COLOURS[WRONG], linewidth=line, zorder=1)
        axes.plot([x], [end], "x", color=MARK_COLOURS[WRONG], markersize=7, markeredgewidth=2, zorder=4)


def _draw_nodes(
    axes: Axes,
    places: Sequence[tuple[float, float, str]],
    diameter: float,
    size: float,
    *,
    faces: Sequence[Any],
    rims: Sequence[Any],
    inks: Sequence[str],
) -> None:
    x, y = [place[0] for place in places], [place[1] for place in places]
    axes.scatter(x, y, s=diameter**2, c=list(faces), edgecolors=list(rims), linewidths=1.1, zorder=2, clip_on=False)
    for (place_x, place_y, label), ink in zip(places, inks, strict=True):
        axes.text(place_x, place_y, label, ha="center", va="center_baseline", fontsize=size, color=ink, zorder=3)


def _name_tasks(axes: Axes, names: Sequence[str], marks: Sequence[str], diameter: float, width: float) -> None:
    """Write marks above the tasks and names above the marks; names that would overlap are slanted and thinned out."""
    slanted = _slanted(names, width)
    style: dict[str, Any] = {"ha": "left", "rotation": 40, "rotation_mode": "anchor"} if slanted else {"ha": "center"}
    lift = 0.62 * diameter
    for x, mark in zip(columns(len(names)), marks or [""] * len(names), strict=True):
        _note(axes, mark, (x, 0), (0, lift), ha="center", va="bottom", color=MARK_COLOURS.get(mark, INK), size=11)
    step = ceil(_SLANTED_STEP * len(names) / width) if slanted else 1
    for x, name in list(zip(columns(len(names)), names, strict=True))[::step]:
        short = name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"
        _note(axes, shown(short), (x, 0), (0, lift + 14 * bool(marks)), va="bottom", color=INK, **style)


def _note(
    axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], *, size: float = 8, **style: Any
) -> None:
    """Write text beside a place on the map, which may be outside the axes."""
    axes.annotate(text, place, offset, textcoords="offset points", annotation_clip=False, fontsize=size, **style)


def _slanted(names: Sequence[str], width: float) -> bool:
    """Whether names in 8-point type must be slanted to fit into ``width`` points."""
    return max(map(len, names)) * 5.0 > width / len(names)


def _ink(face: Colour) -> str:
    """Black or white, whichever is easier to read on the colour."""
    return INK if lightness(face) > 0.62 else PAPER
