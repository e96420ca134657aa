"""A head per task on a shared trunk: the paper's task-specific-1-fc, hard parameter sharing (Caruana 1997)."""

from __future__ import annotations

from torch import Tensor

from routing_env.baselines.base import Baseline, Plan, per_task, shared


class TaskSpecific1FC(Baseline):
    """All tasks share every layer but the last fully connected one, of which each task has its own (paper, section 5).

    Args:
        plan: of the routed network.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.trunk = shared(plan.widths[:-1])
        self.heads = per_task(plan.tasks, *plan.widths[-2:])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """The shared layers, then the task's own."""
        return self.heads(self.trunk(v), task)
