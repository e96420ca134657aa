"""The routing map of the current deal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routing_env.drawing.routing_map import RIGHT, WRONG, routing_map
from routing_env.types import GameSpec


def picture(
    spec: GameSpec,
    task_names: Sequence[str],
    tasks: NDArray[np.int64],
    routes: NDArray[np.int64],
    correct: NDArray[np.bool_] | None = None,
    *,
    title: str = "",
) -> NDArray[np.uint8]:
    """Draw the routes of all lanes; a task may have one lane, several or none.

    Args:
        spec: the sizes of the game.
        task_names: T names.
        tasks: the task of each lane, int64 [B].
        routes: int64 [B, d], the actions so far; -1 from the depth where a route was lost.
        correct: bool [B], given when the routes have ended; each task is marked with how many of its lanes were right.
        title: text above the map.

    Returns:
        uint8 [height, width, 3], of a size that depends only on the game.
    """
    counts = np.zeros((spec.tasks, routes.shape[1], spec.actions), np.int64)
    lane, depth = (routes >= 0).nonzero()
    np.add.at(counts, (tasks[lane], depth, routes[lane, depth]), 1)
    lanes = np.bincount(tasks, minlength=spec.tasks).tolist()
    shown = [task for task in range(spec.tasks) if lanes[task]]
    marks = [""] * spec.tasks
    if correct is not None:
        right = np.bincount(tasks[correct], minlength=spec.tasks).tolist()
        for task in shown:
            marks[task] = mark(right[task], lanes[task])
    return routing_map(counts[shown], spec, task_names, title=title, marks=marks, tasks=shown)


def mark(right: int, lanes: int) -> str:
    """The mark above a task: ``RIGHT`` if all its lanes were right, ``WRONG`` if none, else their fraction."""
    return RIGHT if right == lanes else WRONG if not right else f"{right}/{lanes}"
