"""Cross-stitch networks (Misra, Shrivastava, Gupta & Hebert, CVPR 2016) over the fully connected layers."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from routing_env.baselines.base import Baseline, ParallelLinear, Plan, per_task
from routing_env.names import is_number, require
from routing_env.search_space import Choices, SearchSpace


class CrossStitch(Baseline):
    """Cross-stitch: one network per task; each layer's input is a learned linear combination of all their activations.

    The input of layer l of task i is the sum over j of w_ij^l v_(l-1,j) (paper, section 5; Misra et al., equation 1).
    The convolutions are shared, so that the first layers of all networks have the same input; cross-stitch units
    precede every later layer. Every sample passes through the networks of all T tasks, so the cost grows with T.

    A routed network with a single layer, as on ``planted``, leaves no layer for a unit to precede: all that remains is
    a linear head per task, the same network as ``task_specific_1_fc``. A run warns of it.

    Args:
        plan: The plan of the routed network.
        own: Initial weight of a task's own activations; the rest, 1 - own, is spread evenly over the other tasks.

    Raises:
        ValueError: ``own`` is not in [0, 1].
    """

    captures: ClassVar[bool] = True

    space: ClassVar[SearchSpace] = {"own": Choices((0.5, 0.9))}

    def __init__(self, plan: Plan, *, own: float = 0.9) -> None:
        super().__init__(plan)
        require("own", own, is_number(own, "in [0, 1]"), "in [0, 1]")
        tasks, hidden = plan.tasks, plan.widths[:-1]
        self.layers = nn.ModuleList(ParallelLinear(tasks, *pair) for pair in pairwise(hidden))
        self.heads = per_task(tasks, *plan.widths[-2:])
        rest = (1 - own) / (tasks - 1) if tasks > 1 else 0.0
        start = torch.full((tasks, tasks), rest).fill_diagonal_(own if tasks > 1 else 1.0)
        self.units = nn.ParameterList(nn.Parameter(start.clone()) for _ in self.layers)
        if not len(self.units):
            self.warning = (
                "cross_stitch has no cross-stitch unit here, since the routed network has a single layer: it is the "
                "same network as task_specific_1_fc; give --layers 2 or more"
            )

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply all networks side by side, then the task's own last layer."""
        if not len(self.layers):
            return self.heads(v, task)
        last = len(self.layers) - 1
        for number, (layer, unit) in enumerate(zip(self.layers, self.units, strict=True)):
            activation = layer(v).relu()  # [T, B, H]
            if number < last:
                v = (unit @ activation.flatten(1)).view_as(activation)
            else:  # the last layer serves one task per sample and needs only that task's combination
                v = torch.einsum("bt,tbh->bh", unit[task], activation)
        return self.heads(v, task)
