"""Soft modularization (Yang, Xu, Wu & Wang, NeurIPS 2020) over the fully connected layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from routing_env.baselines.base import Baseline, ParallelLinear, Plan, towers
from routing_env.names import as_integer, require


class SoftModularization(Baseline):
    """Soft modularization: a second network weighs each connection between the modules of consecutive layers.

    The base network has n modules in each layer. Module i of layer l + 1 takes the sum over j of
    softmax(p^l_i)_j ReLU(W_j^l g_j^l), where g_j^l is the input of module j of layer l, and the first layer's modules
    all take v. The routing network sees the stem's output and an embedding of the task: with u = f(v) * h(task),
    p^1 = W_d^1 ReLU(u), and p^(l+1) = W_d^(l+1) ReLU((W_u^l p^l) * u); each p^l has n^2 entries (Yang et al.,
    section 4).

    The modular layers are all but the last, which is task-specific and takes the modules of the layer
    before it by n weights of the same kind; the paper adds them up and has one output layer for all tasks. If there is
    only one layer, its modules are the output. The paper's f is a network; here it is linear, on top of the stem. Every
    module is applied to every sample, so the cost grows with their number.

    Args:
        plan: The plan of the routed network.
        modules: n; defaults to the number of blocks in a layer of the routed network.
        embedding: Size of f(v) and of the embedding of the task.

    Raises:
        ValueError: There is less than one module, or the size is less than 1.
    """

    def __init__(self, plan: Plan, *, modules: int | None = None, embedding: int = 64) -> None:
        super().__init__(plan)
        count = plan.blocks if modules is None else modules
        for name, value in (("modules", count), ("embedding", embedding)):
            require(name, value, (as_integer(value) or 0) >= 1, "an integer of at least 1")
        pairs = plan.before_tower
        self.layers = nn.ModuleList(ParallelLinear(count, *pair) for pair in pairs)
        self.towers = towers(plan)
        weights = [count * count] * (len(pairs) - 1) + [count]
        self.features = nn.Linear(plan.widths[0], embedding)
        self.tasks = nn.Embedding(plan.tasks, embedding)
        self.down = nn.ModuleList(nn.Linear(embedding, size) for size in weights)
        self.up = nn.ModuleList(nn.Linear(size, embedding) for size in weights[:-1])
        self._count = count

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the modules, weighted by the routing network, and the task's last layer."""
        seen = self.features(v) * self.tasks(task)
        routing = seen
        for number, (layer, down) in enumerate(zip(self.layers, self.down, strict=True)):
            activation = layer(v) if self.towers is None else layer(v).relu()  # [n, B, H]
            logits = down(routing.relu())
            weights = logits.unflatten(1, (-1, self._count)).softmax(2)  # [B, modules of the next layer, n]
            v = torch.einsum("bij,jbh->ibh", weights, activation)
            if number < len(self.up):
                routing = self.up[number](logits) * seen
        mixed = v.squeeze(0)
        return mixed if self.towers is None else self.towers(mixed, task)
