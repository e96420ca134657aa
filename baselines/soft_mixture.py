"""Soft mixture of blocks: the routed network with attention in place of a choice (paper, section 5)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.baselines.base import Baseline, ParallelLinear, Plan

APPROXIMATOR_HIDDEN = 64
"""Hidden units of the approximator, as the paper's routers have them (section 7.3)."""


class SoftMixture(Baseline):
    """Each layer's output is the sum over its blocks k of softmax(logits)_k f_k(v): soft-mixture-all-fc.

    The paper contradicts itself on what the logits depend on. "task", a learned logit per layer, task and block, is
    what a tabular router knows. "layer" is section 5 by the letter: one vector per layer for everybody; such a network
    cannot tell tasks apart. "approximator" is Table 4: an MLP of (v, task) for each layer. Every block applies to
    every sample: the cost grows with the blocks.

    Args:
        plan: of the routed network.
        logits: "task", "layer" or "approximator".

    Raises:
        ValueError: another kind of logits.
    """

    def __init__(self, plan: Plan, *, logits: Literal["task", "layer", "approximator"] = "task") -> None:
        super().__init__(plan)
        if logits not in ("task", "layer", "approximator"):
            raise ValueError(f"logits is {logits!r}; it must be 'task', 'layer' or 'approximator'")
        pairs = list(pairwise(plan.widths))
        self.layers = nn.ModuleList(ParallelLinear(plan.blocks, *pair) for pair in pairs)
        self._tasks = plan.tasks
        rows = plan.tasks if logits == "task" else 1
        self.logits = self.approximators = None
        if logits == "approximator":
            self.approximators = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(width + plan.tasks, APPROXIMATOR_HIDDEN),
                    nn.ReLU(),
                    nn.Linear(APPROXIMATOR_HIDDEN, plan.blocks),
                )
                for width, _ in pairs
            )
        else:
            self.logits = nn.Parameter(torch.zeros(len(pairs), rows, plan.blocks))

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """All blocks of each layer, weighted."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            weights = self.weights(number, v, task)
            output = cast(Tensor, layer(v))
            v = torch.einsum("bk,kbh->bh", weights, output.relu() if number < last else output)
        return v

    def weights(self, layer: int, v: Tensor, task: Tensor) -> Tensor:
        """The attention float32 [B, K] of each sample over the blocks of a layer."""
        if self.logits is not None:
            table = self.logits[layer].softmax(1)
            return table[task] if len(table) > 1 else table.expand(len(task), -1)
        assert self.approximators is not None
        one_hot = F.one_hot(task, self._tasks).to(v.dtype)
        return self.approximators[layer](torch.cat([v, one_hot], dim=1)).softmax(1)
