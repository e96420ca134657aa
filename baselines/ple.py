"""Progressive layered extraction (Tang, Liu, Zhao & Gong, RecSys 2020) over the fully connected layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from routing_env.baselines.base import Baseline, ParallelLinear, Plan, per_task, towers
from routing_env.names import as_integer, require
from routing_env.search_space import Choices, SearchSpace


class PLE(Baseline):
    """PLE: in each layer experts of the task and shared experts, and a gate that mixes them; with one level it is CGC.

    Every fully connected layer except the last one is a level, and the last one is the task's tower. Level j has for
    task t the output g_t^j = sum over e of softmax(W_t^j g_t^(j-1))_e E_e, where e runs over the task's own experts,
    which are applied to g_t^(j-1), and the shared ones, which are applied to g_s^(j-1). g_s^j has its own gate, on
    g_s^(j-1). Both begin with the stem's output v (Tang et al., sections 4.1 and 4.2). With ``depth=2`` there is one
    level: customised gate control (CGC). If there is only one layer, it is the level, and there is no tower.

    In the paper every sample has a label for each task, and the shared gates mix the experts of all tasks. Here a
    sample belongs to one task, so they mix the experts of that task and the shared ones: a sample's cost depends on
    ``own`` and ``shared``, but not on the number of tasks.

    Args:
        plan: The plan of the routed network.
        own: Number of task-specific experts of each task in each level.
        shared: Number of shared experts in each level.

    Raises:
        ValueError: There is less than one expert of a kind.
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"own": Choices((1, 2)), "shared": Choices((1, 2, 4))}

    def __init__(self, plan: Plan, *, own: int = 1, shared: int = 2) -> None:
        super().__init__(plan)
        for name, value in (("own", own), ("shared", shared)):
            require(name, value, (as_integer(value) or 0) >= 1, "an integer of at least 1")
        pairs = plan.before_tower
        self.own_experts = nn.ModuleList(
            per_task(plan.tasks, inputs, own * outputs, activation=plan.has_tower) for inputs, outputs in pairs
        )
        self.shared_experts = nn.ModuleList(ParallelLinear(shared, *pair) for pair in pairs)
        self.gates = nn.ModuleList(per_task(plan.tasks, inputs, own + shared, bias=False) for inputs, _ in pairs)
        self.shared_gates = nn.ModuleList(nn.Linear(inputs, own + shared, bias=False) for inputs, _ in pairs[:-1])
        self.towers = towers(plan)
        self._own = own

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the levels, and the task's tower."""
        private = common = v
        for level, gates in enumerate(self.gates):
            own = self.own_experts[level](private, task).unflatten(1, (self._own, -1))
            shared = self.shared_experts[level](common).transpose(0, 1)
            experts = torch.cat([own, shared if self.towers is None else shared.relu()], dim=1)  # [B, E, H]
            private = torch.einsum("be,beh->bh", gates(private, task).softmax(1), experts)
            if level < len(self.shared_gates):
                common = torch.einsum("be,beh->bh", self.shared_gates[level](common).softmax(1), experts)
        return private if self.towers is None else self.towers(private, task)
