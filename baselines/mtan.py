"""Attention per task on shared features, after MTAN (Liu, Johns & Davison, CVPR 2019)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from routing_env.baselines.base import Baseline, Plan, per_task
from routing_env.names import as_integer, require
from routing_env.search_space import Choices, SearchSpace


class MTAN(Baseline):
    """MTAN: one shared network, and for each task masks of its features that pass from layer to layer.

    With p_l the activations of shared layer l, the task masks the features of every layer:
    a_l = sigmoid(h(g([p_l, b_(l-1)]))) and b_l = a_l * p_l, where g, with ReLU, and h are the task's own linear maps,
    and b_(l-1) is missing in the first layer. The task's last layer takes the b of the last shared layer. With
    ``depth=1``, where no fully connected layer is shared, the task masks the stem's output. (Liu et al., section 3.2.)

    What differs: the paper masks the channels of a convolutional network at every position, reads the mask from a
    feature map before the one that is masked, brings b_(l-1) to its resolution by a convolution, and has batch norm in
    g and h. Here the convolutions belong to the stem that all networks share, so the masks begin after it, on vectors;
    a mask is read from the features that it masks; and g passes through a bottleneck.

    Args:
        plan: The plan of the routed network.
        bottleneck: Number of outputs of g.

    Raises:
        ValueError: The bottleneck is less than 1.
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"bottleneck": Choices((16, 32, 64))}

    def __init__(self, plan: Plan, *, bottleneck: int = 32) -> None:
        super().__init__(plan)
        require("bottleneck", bottleneck, (as_integer(bottleneck) or 0) >= 1, "an integer of at least 1")
        tasks = plan.tasks
        self.trunk = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(plan.widths[:-1]))
        features = plan.widths[1:-1] or plan.widths[:1]
        self.readers = nn.ModuleList(
            per_task(tasks, before + width, bottleneck, activation=True) for before, width in pairwise((0, *features))
        )
        self.masks = nn.ModuleList(per_task(tasks, bottleneck, width) for width in features)
        self.heads = per_task(tasks, *plan.widths[-2:])

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the shared layers with the task's masks beside them, and the task's last layer."""
        masked = v[:, :0]
        for number, (reader, mask) in enumerate(zip(self.readers, self.masks, strict=True)):
            if len(self.trunk):
                v = self.trunk[number](v).relu()
            masked = v * mask(reader(torch.cat([v, masked], dim=1), task), task).sigmoid()
        return self.heads(masked, task)
