"""A linear head per task straight on the stem: the shallow static network."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from routing_env.baselines.base import Baseline, Plan, per_task


class LinearHeads(Baseline):
    """All tasks share the stem, and each has a linear map from it to its outputs, without any layer in between.

    It is ``task_specific_1_fc`` with ``depth=1``. A router that takes PASS in every layer but the last is as shallow,
    so this network shows how much of such a router's gain comes from the depth that it has found.

    Args:
        plan: The plan of the routed network.
    """

    captures: ClassVar[bool] = True

    sizes: ClassVar = ()

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.heads = per_task(plan.tasks, plan.widths[0], plan.widths[-1])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the task's head."""
        return self.heads(v, task)
