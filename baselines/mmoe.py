"""Multi-gate mixture of experts (Ma, Zhao, Yi, Chen, Hong & Chi, KDD 2018) over the fully connected layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from routing_env.baselines.base import Baseline, ParallelExperts, Plan, per_task, towers
from routing_env.names import is_number, require
from routing_env.search_space import Choices, SearchSpace


class MMoE(Baseline):
    """MMoE: experts shared by all tasks, and for each task a gate over the experts and a tower.

    y_t = h_t(sum over i of g_t(v)_i f_i(v)) with g_t(v) = softmax(W_t v) (Ma et al., equations 6 and 7). The experts
    are all fully connected layers except the last one, which is the tower. If there is only one layer, it is the
    experts, and there is no tower.

    Args:
        plan: The plan of the routed network.
        experts: Number of experts; defaults to the number of blocks in a layer of the routed network.

    Raises:
        ValueError: There is less than one expert.
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"experts": Choices((2, 4, 8, 16))}

    def __init__(self, plan: Plan, *, experts: int | None = None) -> None:
        super().__init__(plan)
        count = plan.blocks if experts is None else experts
        require("experts", count, is_number(count) and count >= 1, "at least 1")
        self.experts = ParallelExperts(plan, count)
        self.gates = per_task(plan.tasks, plan.widths[0], count, bias=False)
        self.towers = towers(plan)

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply all experts, the task's gate over them, and the task's tower."""
        gate = self.gates(v, task).softmax(1)
        mixed = torch.einsum("bk,kbh->bh", gate, self.experts(v))
        return mixed if self.towers is None else self.towers(mixed, task)
