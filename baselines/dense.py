"""A wide shared network with as many parameters as all blocks of the routed network together."""

from __future__ import annotations

from typing import ClassVar

from routing_env.baselines.base import Plan, equal_width
from routing_env.baselines.task_specific_1_fc import TaskSpecific1FC


class Dense(TaskSpecific1FC):
    """Shared layers and a head per task, as wide as the number of parameters of the routed network allows.

    It shows whether routing gains from choosing blocks, or only from having them. It is ``task_specific_1_fc`` with
    ``equal_parameters``, except that a routed network with one layer is compared with one hidden layer.

    Args:
        plan: The plan of the routed network.
        width: Width of the hidden layers; by default the largest with at most ``plan.parameters`` parameters.

    Attributes:
        hidden: The width of the hidden layers.
    """

    captures: ClassVar[bool] = True

    sizes: ClassVar = ("depth",)

    def __init__(self, plan: Plan, *, width: int | None = None) -> None:
        plan = plan.resized(depth=max(2, plan.depth))
        plan = plan.resized(width=equal_width(plan, TaskSpecific1FC) if width is None else width)
        super().__init__(plan)
        self.hidden = plan.hidden
