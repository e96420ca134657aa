"""The layout of a routing map: from routes to nodes and edges, independent of any drawing library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_env.types import GameSpec

Node = tuple[int, float]
"""A place that a lane can go through: its row (0 for the tasks) and its x in [0, 1]."""
Edge = tuple[int, Node, Node, float]
"""Task, source, target, and the share of the task's samples that go from source to target."""

FAINTEST = 0.02
"""An action with a smaller share of a task's samples is left out, because it would only blur the map. Where there are
many blocks, the limit is half of an even share."""


def shares_of(routes: NDArray[Any], actions: int) -> NDArray[np.float64]:
    """Shares float64 [T, d, A] from either form of routes, int [T, d] or counts [T, d, A]; zeros after a line's end."""
    if routes.ndim == 2:
        return (routes[..., None] == np.arange(actions)).astype(np.float64)
    total = routes.sum(axis=2, keepdims=True)
    return routes / np.maximum(total, 1)


def blocks_at(spec: GameSpec, depth: int) -> list[int]:
    """The legal actions at a depth, without PASS: those that stand for a block."""
    return [action for action in spec.legal[depth].nonzero().squeeze(1).tolist() if action != spec.pass_action]


def columns(number: int) -> list[float]:
    """The x of evenly spread nodes."""
    return [(i + 0.5) / number for i in range(number)]


def edges_of(shares: NDArray[np.float64], blocks: Sequence[Sequence[int]]) -> list[Edge]:
    """The lines between the rows, from shares float64 [T, d, A] and the blocks of each depth."""
    edges: list[Edge] = []
    for task in range(len(shares)):
        here: dict[float, float] = {columns(len(shares))[task]: 1.0}
        for row in range(shares.shape[1]):
            column = dict(zip(blocks[row], columns(len(blocks[row])), strict=True))
            there: dict[float, float] = defaultdict(float)
            faintest = min(FAINTEST, 0.5 / max(len(column), 1))
            for x, share in here.items():
                for action in (shares[task, row] >= faintest).nonzero()[0].tolist():
                    flow = share * float(shares[task, row, action])
                    target = column.get(action, _gap_beside(x, len(column)))
                    there[target] += flow
                    edges.append((task, (row, x), (row + 1, target), flow))
            here = there
    return edges


def _gap_beside(x: float, number: int) -> float:
    """The x where PASS goes through a row: the nearest gap between its nodes, and straight on where it has none."""
    return int(x * number + 0.5) / number if number else x


def side_by_side(used: dict[Node, dict[int, float]], step: float, room: float) -> dict[tuple[Node, int], float]:
    """The x of each task's line at each node; lines keep the order in which they arrive, so that few cross.

    Args:
        used: for each node, the tasks that go through it, with the x that each comes from.
        step: distance between neighbouring lines.
        room: width of a node; lines move closer together to fit into it.
    """
    beside: dict[tuple[Node, int], float] = {}
    for node, tasks in used.items():
        own_step = min(step, room / max(len(tasks) - 1, 1))
        for rank, task in enumerate(sorted(tasks, key=lambda t: (tasks[t], t))):
            beside[node, task] = node[1] + (rank - (len(tasks) - 1) / 2) * own_step
    return beside


def lost_routes(shares: NDArray[np.float64], edges: Sequence[Edge]) -> list[tuple[Node, int]]:
    """The last node and the task of each route that ends early."""
    last: dict[int, Node] = {task: (0, x) for task, x in enumerate(columns(len(shares)))}
    last |= {task: target for task, _, target, _ in edges}
    ended = (shares.sum(axis=2) == 0).any(axis=1).nonzero()[0].tolist()
    return [(last[task], task) for task in ended]
