"""Hard parameter sharing (Caruana, 1997): the last layer is task-specific, the paper's task-specific-1-fc."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from routing_env.baselines.base import Baseline, Plan, fully_connected, per_task


class TaskSpecific1FC(Baseline):
    """All tasks share every layer except the last fully connected one, which is task-specific (paper, section 5).

    Args:
        plan: The plan of the routed network.
    """

    captures: ClassVar[bool] = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.trunk = fully_connected(plan.widths[:-1])
        self.heads = per_task(plan.tasks, *plan.widths[-2:])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the shared layers, then the task's last layer."""
        return self.heads(self.trunk(v), task)
