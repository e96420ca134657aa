"""Sparsely gated mixture of experts (Shazeer, Mirhoseini, Maziarz, Davis, Le, Hinton & Dean, ICLR 2017)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.baselines.base import Baseline, Noise, Plan, per_task, towers
from routing_env.game.blocks import BlockBank
from routing_env.game.evaluation import Score
from routing_env.names import as_integer, is_number, require
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Batch


class MoE(Baseline):
    """Mixture of experts of which each sample uses k: noisy top-k gating with a loss that balances the experts.

    With noise e ~ N(0, 1) and s(v) = softplus(W_noise v), the gates are G(v) = softmax(KeepTopK(H(v), k)) with
    H(v) = W_g v + e s(v), and the output is the sum over i of G(v)_i E_i(v) (Shazeer et al., section 2.1). Each task
    has its own matrices W_g and W_noise. Noise is added in training mode only. The loss gains
    ``balance`` * (CV(Importance)^2 + CV(Load)^2): an expert's importance is the sum of its gates over the batch, its
    load is the expected number of samples that choose it when their noise for that expert is drawn again (section 4 and
    appendix A), and CV is the coefficient of variation. Both matrices start at zero, as in appendix A.

    The experts are all fully connected layers except the last one, which is task-specific; if there is only one layer,
    it is the experts. Only chosen experts are applied, to the samples that chose them, so the cost depends on k and not
    on the number of experts. In the paper the mixture stands between recurrent layers, and there is one task and so one
    gate.

    Args:
        plan: The plan of the routed network.
        experts: Number of experts; defaults to the number of blocks in a layer of the routed network.
        k: Number of experts that each sample uses. With k = 1 only the balance loss teaches the gate, since the one
            gate is always 1.
        balance: Weight of the balance loss; 0 leaves it out.

    Raises:
        ValueError: There is less than one expert, k is not in [1, experts], or the weight is negative.
    """

    space: ClassVar[SearchSpace] = {"balance": Choices((0.01, 0.1))}

    def __init__(self, plan: Plan, *, experts: int | None = None, k: int = 2, balance: float = 0.1) -> None:
        super().__init__(plan)
        count = plan.blocks if experts is None else experts
        require("experts", count, (as_integer(count) or 0) >= 1, "an integer of at least 1")
        require("k", k, 1 <= (as_integer(k) or 0) <= count, f"an integer from 1 to the number of experts, {count}")
        require("balance", balance, is_number(balance, "at least 0"), "at least 0")

        def layer(inputs: int, outputs: int) -> nn.Module:
            linear = nn.Linear(inputs, outputs)
            return nn.Sequential(linear, nn.ReLU()) if plan.has_tower else linear

        self.experts = nn.ModuleList(
            BlockBank([layer(*pair) for _ in range(count)], pair[:1]) for pair in plan.before_tower
        )
        self.gates, self.noise_gates = (per_task(plan.tasks, plan.widths[0], count, bias=False) for _ in range(2))
        for parameter in (*self.gates.parameters(), *self.noise_gates.parameters()):
            nn.init.zeros_(parameter)
        self.towers = towers(plan)
        self.noise = Noise()
        self._k, self._balance = k, balance

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the chosen experts, weighted, and the task's tower."""
        return self._mixed(v, task)[0]

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """The loss with the balance loss of the batch added to every lane."""
        output, balance = self._mixed(self.stem(batch.x), batch.task)
        _, loss, correct = score(output, batch)
        return loss + self._balance * balance, correct

    def _mixed(self, v: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """The output float32 [B, O], and the balance loss."""
        clean = self.gates(v, task)
        scale = F.softplus(self.noise_gates(v, task))
        noisy = clean + self.noise(clean) * scale if self.training else clean
        top, chosen = noisy.topk(self._k, dim=1)
        weights = top.softmax(1)
        rows, choice = v.repeat_interleave(self._k, dim=0), chosen.flatten()
        for bank in self.experts:
            rows = bank(rows, choice)
        mixed = torch.einsum("bk,bkh->bh", weights, rows.unflatten(0, chosen.shape))
        gates = torch.zeros_like(noisy).scatter(1, chosen, weights)
        balance = squared_variation(gates.sum(0))
        if self._k < noisy.shape[1]:  # otherwise every expert has every sample
            balance = balance + squared_variation(load_probability(clean, noisy, scale, self._k).sum(0))
        return mixed if self.towers is None else self.towers(mixed, task), balance


def squared_variation(amounts: Tensor) -> Tensor:
    """The square of the coefficient of variation of some amounts, float32 [E]: population variance / mean^2."""
    return amounts.var(correction=0) / amounts.mean().square()


def load_probability(clean: Tensor, noisy: Tensor, scale: Tensor, k: int) -> Tensor:
    """The probability that an expert is among the top k if its noise alone is drawn again (Shazeer et al., appendix A).

    P(x, i) = Phi(((x W_g)_i - kth_excluding(H(x), k, i)) / s(x)_i), where kth_excluding is the k-th greatest of H(x)
    without its i-th component.

    Args:
        clean: x W_g, float32 [B, E].
        noisy: H(x), float32 [B, E].
        scale: s(x), float32 [B, E], above 0.
        k: Number of chosen experts, below E.

    Returns:
        float32 [B, E].
    """
    top = noisy.topk(k + 1, dim=1).values
    kth, following = top[:, k - 1 : k], top[:, k:]
    threshold = torch.where(noisy >= kth, following, kth)
    return torch.special.ndtr((clean - threshold) / scale)
