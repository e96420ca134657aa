"""Straight-through Gumbel-softmax (Jang, Gu & Poole, ICLR 2017; Concrete: Maddison, Mnih & Teh, ICLR 2017).

The loss of the blocks trains the router: the relaxed probability y of the chosen action multiplies the output of the
block as a gate of value 1 + y - stop(y) = 1. Routing stays hard, with one block per lane. Hence only the chosen block's
share of the gradient exists, and the estimate is biased. The rewards are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from routing_env.agents.base import Rate, of_taken
from routing_env.agents.gradient import SoftmaxRouter, log_softmax
from routing_env.types import Decision, State, Trace


def gumbel(probability: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform noise in [0, 1)."""
    tiny = torch.finfo(probability.dtype).tiny
    return -(-probability.clamp_min(tiny).log()).clamp_min(tiny).log()


def straight_through(log_policy: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The Gumbel-max action and its gate.

    Args:
        log_policy: float32 [B, A], -inf for illegal actions.
        noise: standard Gumbel, float32 [B, A].
        temperature: Temperature of the relaxation.

    Returns:
        Actions int64 [B], distributed as exp(log_policy), and gates float32 [B] of value 1 with the gradient of the
        chosen actions' relaxed probabilities.
    """
    perturbed = log_policy + noise
    action = perturbed.argmax(-1)
    relaxed = of_taken((perturbed / temperature).softmax(-1), action)
    return action, 1 + (relaxed - relaxed.detach())


@dataclass(eq=False, kw_only=True)
class GumbelSoftmax(SoftmaxRouter):
    """Straight-through Gumbel-softmax: the loss of the blocks trains the router."""

    learning_rate: Rate | None = 3e-3
    """Learning rate of the router, separate from that of the blocks."""
    temperature: Rate = 1.0
    """Temperature of the relaxation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("above 0", "temperature")

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Choose by Gumbel-max, with the gate that carries the gradient back."""
        if greedy:
            return super().act(state, greedy=True)
        self.set_mode(train=True)
        log_policy = log_softmax(self.policy(state), state.legal)
        noise = torch.rand(log_policy.shape, generator=self.generator, device=log_policy.device)
        action, gate = straight_through(log_policy, gumbel(noise), self.now(self.temperature))
        return Decision(action, log_policy.detach().exp(), gate)

    def loss(self, trace: Trace) -> Tensor:
        """The loss of the blocks, which the game has backpropagated before the router learns."""
        return trace.outcome.loss

    def learn(self, trace: Trace) -> dict[str, float]:
        """Step along the gradient that the blocks' loss has left behind."""
        self.descend(trace)
        self.networks.zero_grad()
        self.samples += len(trace.task)
        return {"loss": self.loss(trace).mean().item()}
