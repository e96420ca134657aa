"""Everything shared that can be: every layer of the routed network, and a small head per task behind the last."""

from __future__ import annotations

from torch import Tensor

from routing_env.baselines.base import Baseline, Plan, per_task, shared


class AllShared(Baseline):
    """All tasks share as many layers as the routed network has; behind them each task has a linear head.

    One layer deeper than ``task_specific_1_fc``, whose last layer is the head. (The router ``all-shared`` shares the
    last layer too and has no heads: it cannot tell tasks apart.)

    Args:
        plan: of the routed network.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.trunk = shared([*plan.widths[:-1], plan.hidden])
        self.heads = per_task(plan.tasks, plan.hidden, plan.widths[-1])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """The shared layers, then the task's head."""
        return self.heads(self.trunk(v), task)
