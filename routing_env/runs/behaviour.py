"""How a router behaves: pure functions of policies and of routes.

N snapshots, T tasks, D depths, A actions. Policies are probabilities [..., A]; routes are counts [T, D, A], how often
each task took each action. Entropies are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Collapse:
    """How far blocks go unused, in [0, 1]: 0 where all legal blocks serve equally often, 1 where one serves all.

    Attributes:
        worst: the greatest over depths.
        average: the mean over depths.
    """

    worst: float
    average: float


def policy_entropy(policy: ArrayLike) -> Floats:
    """Entropy of each policy: [..., A] to [...]."""
    return _entropies(policy).sum(-1)


def usage(routes: ArrayLike) -> Floats:
    """Share of the samples of all tasks that take each action, [D, A]."""
    counts = np.asarray(routes, dtype=np.float64).sum(0)
    return counts / counts.sum(-1, keepdims=True)


def effective_blocks(routes: ArrayLike) -> Floats:
    """Effective number of blocks at each depth, [D]: exp of the entropy of their usage."""
    return np.exp(policy_entropy(usage(routes)))


def collapse(routes: ArrayLike, legal: ArrayLike) -> Collapse:
    """1 - H(usage) / log(legal actions), over the depths where there is a choice.

    Args:
        routes: [T, D, A].
        legal: bool [D, A].
    """
    choices = np.asarray(legal, dtype=bool).sum(-1)
    there_is_one = choices > 1
    if not there_is_one.any():
        return Collapse(0.0, 0.0)
    entropy = policy_entropy(usage(routes))[there_is_one]
    share = 1 - entropy / np.log(choices[there_is_one])
    return Collapse(float(share.max()), float(share.mean()))


def mutual_information(routes: ArrayLike) -> Floats:
    """Mutual information of task and block at each depth, [D]: 0 where all tasks route alike."""
    counts = np.asarray(routes, dtype=np.float64).transpose(1, 0, 2)
    joint = counts / counts.sum((1, 2), keepdims=True)
    task, block = joint.sum(2, keepdims=True), joint.sum(1, keepdims=True)
    task_entropy, block_entropy, joint_entropy = (_entropies(part).sum((1, 2)) for part in (task, block, joint))
    return (task_entropy + block_entropy - joint_entropy).clip(0)


def route_overlap(routes: ArrayLike) -> Floats:
    """How much of their routes two tasks share, [T, T] in [0, 1].

    The mean over depths of the sum over actions of the smaller of the two shares: 1 minus the total variation.
    """
    counts = np.asarray(routes, dtype=np.float64)
    share = counts / counts.sum(-1, keepdims=True)
    return np.minimum(share[:, None], share[None]).sum(-1).mean(-1)


def switch_rate(policies: ArrayLike) -> Floats:
    """Share of the agents' most probable actions that change from one snapshot to the next, [N - 1].

    Args:
        policies: [N, T, D, A], probabilities or counts.
    """
    preferred = np.asarray(policies).argmax(-1)
    return (preferred[1:] != preferred[:-1]).mean((1, 2))


def dead_blocks(routes: ArrayLike, legal: ArrayLike) -> NDArray[np.int64]:
    """Legal actions that no task takes at each depth, [D].

    Args:
        routes: [T, D, A].
        legal: bool [D, A].
    """
    unused: NDArray[Any] = np.asarray(routes).sum(0) == 0
    return (unused & np.asarray(legal, dtype=bool)).sum(-1)


def routing_measures(routes: ArrayLike, legal: ArrayLike) -> dict[str, float]:
    """All measures of a router's routes, means over depths where they have one per depth.

    Args:
        routes: [T, D, A].
        legal: bool [D, A].
    """
    collapsed = collapse(routes, legal)
    overlap = route_overlap(routes)
    others = ~np.eye(len(overlap), dtype=bool)
    return {
        "effective_blocks": float(effective_blocks(routes).mean()),
        "collapse_worst": collapsed.worst,
        "collapse_average": collapsed.average,
        "mutual_information": float(mutual_information(routes).mean()),
        "route_overlap": float(overlap[others].mean()) if others.any() else 1.0,
        "dead_blocks": float(dead_blocks(routes, legal).sum()),
    }


def _entropies(probabilities: ArrayLike) -> Floats:
    """-p log p of each probability p."""
    return torch.special.entr(torch.from_numpy(np.array(probabilities, dtype=np.float64))).numpy()
