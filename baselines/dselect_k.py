"""DSelect-k (Hazimeh, Zhao, Chowdhery, Sathiamoorthy, Chen, Mazumder, Hong & Chi, NeurIPS 2021)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from routing_env.baselines.base import Baseline, ParallelExperts, Plan, towers
from routing_env.game.evaluation import Score
from routing_env.names import as_integer, is_number, require
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Batch

TINY = 1e-6
"""Added inside the logarithm of the entropy, whose gradient would be infinite at a probability of 0."""


class DSelectK(Baseline):
    """Mixture of experts of which each task ends with at most k, chosen by smooth steps over binary codes.

    A task has k selectors. Selector l turns m = ceil(log2 E) numbers z into a distribution over the codes of m bits:
    the product over the bits of S(z_b) where the bit is 1, and 1 - S(z_b) where it is 0. S is the smooth step, which
    is exactly 0 below -gamma / 2 and exactly 1 above gamma / 2, so that a selector whose numbers have left that range
    has chosen a single expert. The weights of the experts are the mean of the selectors' distributions, weighted by a
    softmax over k logits. The loss gains ``entropy`` times the sum of the entropies of the task's selectors, which
    drives them to a choice. (Hazimeh et al., section 3: the static gate, which depends on the task alone.)

    The experts are all fully connected layers except the last one, which is the task's tower; if there is only one
    layer, it is the experts, and there is no tower. Where E is not a power of 2, the codes from E on stand for the
    first experts once more; the paper penalises them instead, by a term that is infinite at such a code. Every expert
    is applied to every sample, so the cost grows with the number of experts.

    Args:
        plan: The plan of the routed network.
        experts: E; defaults to the number of blocks in a layer of the routed network.
        k: Number of selectors of each task.
        gamma: Width of the smooth step.
        entropy: Weight of the entropies.

    Raises:
        ValueError: There are less than two experts, less than one selector, or another option is out of range.
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"k": Choices((1, 2)), "entropy": Choices((0.001, 0.01))}

    def __init__(
        self, plan: Plan, *, experts: int | None = None, k: int = 2, gamma: float = 1.0, entropy: float = 0.01
    ) -> None:
        super().__init__(plan)
        count = plan.blocks if experts is None else experts
        require("experts", count, (as_integer(count) or 0) >= 2, "an integer of at least 2")
        require("k", k, (as_integer(k) or 0) >= 1, "an integer of at least 1")
        require("gamma", gamma, is_number(gamma, "above 0"), "above 0")
        require("entropy", entropy, is_number(entropy, "at least 0"), "at least 0")
        self.experts = ParallelExperts(plan, count)
        self.towers = towers(plan)
        bits = (count - 1).bit_length()
        self.codes = nn.Parameter(torch.empty(plan.tasks, k, bits).uniform_(-gamma / 100, gamma / 100))
        self.logits = nn.Parameter(torch.empty(plan.tasks, k).uniform_(-0.05, 0.05))
        self._count, self._gamma, self._entropy = count, gamma, entropy

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply all experts, weighted, and the task's tower."""
        weights = torch.einsum("tk,tke->te", self.logits.softmax(1), self.selections())
        mixed = torch.einsum("be,ebh->bh", weights[task], self.experts(v))
        return mixed if self.towers is None else self.towers(mixed, task)

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """The loss with the weighted entropies of the selectors of the lane's task added."""
        loss, correct = super().training_loss(batch, score)
        selections = self.selections()
        entropies = -(selections * (selections + TINY).log()).sum((1, 2))
        return loss + self._entropy * entropies[batch.task], correct

    def selections(self) -> Tensor:
        """The distribution of every selector over the experts, float32 [T, k, E]."""
        step = smooth_step(self.codes, self._gamma).unsqueeze(2)
        bits = self.codes.shape[2]
        numbers = torch.arange(2**bits, device=step.device)
        ones = (numbers.unsqueeze(1) >> torch.arange(bits, device=step.device)) % 2 == 1  # [2^m, m]
        probabilities = torch.where(ones, step, 1 - step).prod(3)  # [T, k, 2^m]
        selections = probabilities[..., : self._count]
        again = probabilities[..., self._count :]
        return torch.cat([selections[..., : again.shape[2]] + again, selections[..., again.shape[2] :]], dim=2)


def smooth_step(z: Tensor, gamma: float) -> Tensor:
    """0 up to -gamma / 2, 1 from gamma / 2, and -2 z^3 / gamma^3 + 3 z / (2 gamma) + 1/2 between (Hazimeh et al.)."""
    z = z.clamp(-gamma / 2, gamma / 2)
    return -2 * (z / gamma) ** 3 + 1.5 * (z / gamma) + 0.5
