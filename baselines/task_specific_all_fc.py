"""Task-specific fully connected layers: the paper's task-specific-all-fc."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from routing_env.baselines.base import Baseline, Plan, per_task


class TaskSpecificAllFC(Baseline):
    """Each task has its own fully connected layers; only the convolutions are shared (paper, section 5).

    Args:
        plan: The plan of the routed network.
    """

    captures: ClassVar[bool] = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        pairs = list(pairwise(plan.widths))
        self.layers = nn.ModuleList(
            per_task(plan.tasks, *pair, activation=layer < len(pairs) - 1) for layer, pair in enumerate(pairs)
        )

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the task's layers."""
        for layer in self.layers:
            v = layer(v, task)
        return v
