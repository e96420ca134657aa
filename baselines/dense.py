"""A wide shared network with as many parameters as all blocks of the routed network together."""

from __future__ import annotations

from torch import Tensor

from routing_env.baselines.base import Baseline, Plan, fully_connected, per_task


class Dense(Baseline):
    """Shared layers and a head per task, as wide as the number of parameters of the routed network allows.

    It shows whether routing gains from choosing blocks, or only from having them. A routed network with one layer is
    compared with one hidden layer.

    Args:
        plan: The plan of the routed network.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.hidden = equal_width(plan)
        self.trunk = fully_connected([plan.widths[0], *[self.hidden] * _hidden_layers(plan)])
        self.heads = per_task(plan.tasks, self.hidden, plan.widths[-1])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the wide layers, then the task's head."""
        return self.heads(self.trunk(v), task)


def equal_width(plan: Plan) -> int:
    """The largest hidden width for which the layers and heads have at most ``plan.parameters`` parameters; at least 1.

    With n hidden layers of width h, F features and T heads of O outputs, the number of parameters is
    (F + 1) h + (n - 1) (h + 1) h + T O (h + 1).
    """
    features, outputs = plan.widths[0], plan.widths[-1]
    square = _hidden_layers(plan) - 1
    linear = features + 1 + square + plan.tasks * outputs
    room = plan.parameters - plan.tasks * outputs
    if room <= linear:
        return 1
    if not square:
        return room // linear
    width = int(((linear**2 + 4 * square * room) ** 0.5 - linear) / (2 * square))
    return max(1, width)


def _hidden_layers(plan: Plan) -> int:
    return max(1, len(plan.widths) - 2)
