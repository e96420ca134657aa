"""Soft mixture of blocks: the routed network with attention instead of a choice (paper, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.baselines.base import Baseline, ParallelLinear, Plan
from routing_env.names import require
from routing_env.search_space import Choices, SearchSpace

Logits = Literal["task", "layer", "approximator"]

APPROXIMATOR_HIDDEN = 64
"""Hidden units of the approximator, the same number as in the paper's routers (section 7.3)."""


class SoftMixture(Baseline):
    """Soft mixture: each layer is the sum over its blocks k of softmax(logits)_k f_k(v). Train it with Adam, not SGD.

    With plain SGD it stays at chance on digits (50.0 % balanced accuracy after 12 epochs at rate 0.2); with Adam at
    0.01, its usual optimiser, it reaches 98.3 %. A likely reason: at first every block and every logit gets only a
    share 1 / K of the gradient, and SGD's steps shrink with it, but Adam's do not. Where the data set names an
    optimiser, as the paper's data sets do, a run takes that one unless another is asked for.

    This is the paper's soft-mixture-all-fc. The paper contradicts itself on what the logits depend on. "task" has a
    learned logit per layer, task and block, which is what a tabular router knows. "layer" follows section 5 literally:
    one vector per layer for all tasks; such a network cannot tell tasks apart. "approximator" follows Table 4: an MLP
    of (v, task) for each layer. Every block is applied to every sample, so the cost grows with the number of blocks.

    Args:
        plan: The plan of the routed network.
        logits: "task", "layer" or "approximator".

    Raises:
        ValueError: Unknown kind of logits.
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"logits": Choices(("task", "approximator"))}

    usual: ClassVar[Mapping[str, Any]] = {"optimizer": "adam", "learning_rate": 0.01}

    def __init__(self, plan: Plan, *, logits: Logits = "task") -> None:
        super().__init__(plan)
        require("logits", logits, logits in get_args(Logits), "'task', 'layer' or 'approximator'")
        pairs = list(pairwise(plan.widths))
        sizes = list(zip(plan.layer_blocks, pairs, strict=True))
        self.layers = nn.ModuleList(ParallelLinear(count, *pair) for count, pair in sizes)
        self._tasks, self._counts = plan.tasks, plan.layer_blocks
        rows = plan.tasks if logits == "task" else 1
        self.logits = self.approximators = None
        if logits == "approximator":
            self.approximators = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(width + plan.tasks, APPROXIMATOR_HIDDEN),
                    nn.ReLU(),
                    nn.Linear(APPROXIMATOR_HIDDEN, count),
                )
                for count, (width, _) in sizes
            )
        else:
            self.logits = nn.Parameter(torch.zeros(len(pairs), rows, plan.blocks))

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply all blocks of each layer, weighted."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            weights = self.weights(number, v, task)
            output = cast(Tensor, layer(v))
            v = torch.einsum("bk,kbh->bh", weights, output.relu() if number < last else output)
        return v

    def weights(self, layer: int, v: Tensor, task: Tensor) -> Tensor:
        """The attention of each sample over the blocks of a layer, float32 [B, K]."""
        if self.logits is not None:
            table = self.logits[layer, :, : self._counts[layer]].softmax(1)
            return table[task] if len(table) > 1 else table.expand(len(task), -1)
        assert self.approximators is not None
        one_hot = F.one_hot(task, self._tasks).to(v.dtype)
        return self.approximators[layer](torch.cat([v, one_hot], dim=1)).softmax(1)
