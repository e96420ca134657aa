"""Straight-through Gumbel-softmax (Jang, Gu & Poole, ICLR 2017; Concrete: Maddison, Mnih & Teh, ICLR 2017).

The loss of the blocks trains the router: the relaxed probability y of the chosen action multiplies the output of the
block as a gate of value 1 + y - stop(y) = 1. Routing stays hard, with one block per lane. Hence only the chosen block's
share of the gradient exists, and the estimate is biased. The rewards are not used.

The gate that the game sees is a leaf: the blocks' loss leaves its gradient there, and the router completes the chain
when it learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import Rate
from routing_env.agents.gradient import SoftmaxRouter, log_softmax
from routing_env.agents.samples import of_taken
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Decision, State, Trace


def gumbel(probability: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform noise in [0, 1)."""
    tiny = torch.finfo(probability.dtype).tiny
    return -(-probability.clamp_min(tiny).log()).clamp_min(tiny).log()


def straight_through(log_policy: Tensor, noise: Tensor, action: Tensor, temperature: float) -> Tensor:
    """Gates of value 1 with the gradient of the relaxed probabilities of the actions taken.

    Args:
        log_policy: float32 [..., A], -inf for illegal actions.
        noise: Standard Gumbel, float32 [..., A]; the Gumbel-max action is the argmax of its sum with ``log_policy``.
        action: int64 [...].
        temperature: Temperature of the relaxation.

    Returns:
        float32 [...].
    """
    relaxed = of_taken(((log_policy + noise) / temperature).softmax(-1), action)
    return 1 + (relaxed - relaxed.detach())


@dataclass(eq=False, kw_only=True)
class GumbelSoftmax(SoftmaxRouter):
    """Straight-through Gumbel-softmax: the loss of the blocks trains the router."""

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.001, 0.002, 0.003, 0.005, 0.01))}

    learning_rate: Rate | None = 3e-3
    """Learning rate of the router, separate from that of the blocks."""
    temperature: Rate = 1.0
    """Temperature of the relaxation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("above 0", "temperature")

    @torch.no_grad()
    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Choose by Gumbel-max, with a gate that collects the gradient."""
        if greedy:
            return super().act(state, greedy=True)
        self.set_mode(train=True)
        log_policy = log_softmax(self.policy(state), state.legal)
        noise = gumbel(torch.rand(log_policy.shape, generator=self.generator, device=log_policy.device))
        gate = torch.ones_like(noise[:, 0]).requires_grad_()
        return Decision((log_policy + noise).argmax(-1), log_policy.exp(), gate, info=noise)

    def loss(self, trace: Trace) -> Tensor:
        """The loss of the blocks, with the straight-through gradient that it has left in the gates."""
        slopes = [decision.gate.grad for decision in trace.decisions if decision.gate is not None]
        slope = torch.stack([slope for slope in slopes if slope is not None], dim=1)
        noise = torch.stack([decision.info for decision in trace.decisions], dim=1)
        gate = straight_through(self.log_policy(trace), noise, trace.actions, self.now(self.temperature))
        trained = (~trace.outcome.forfeited).sum()  # the blocks minimise the mean over these lanes
        return trace.outcome.loss + trained * (slope * (gate - 1)).sum(1)

    def learn(self, trace: Trace) -> dict[str, float]:
        """As the base; a deal that trained no blocks teaches nothing."""
        if any(decision.gate is None or decision.gate.grad is None for decision in trace.decisions):
            self.samples += len(trace.task)
            return {"loss": trace.outcome.loss.mean().item()}
        return super().learn(trace)
