"""Shared trunk: every layer of the routed network is shared, and each task has a linear head on top."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from routing_env.baselines.base import Baseline, Plan, fully_connected, per_task


class SharedTrunk(Baseline):
    """Shared trunk: all tasks share as many layers as the routed network has, and each has a linear head on top.

    It is one layer deeper than ``task_specific_1_fc`` of the same ``depth``, whose last layer is the head. (The router
    ``all-shared`` shares the last layer too and has no heads, so it cannot tell tasks apart.)

    Args:
        plan: The plan of the routed network.
    """

    captures: ClassVar[bool] = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.trunk = fully_connected([*plan.widths[:-1], plan.hidden])
        self.heads = per_task(plan.tasks, plan.hidden, plan.widths[-1])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the shared layers, then the task's head."""
        return self.heads(self.trunk(v), task)
