"""Straight-through Gumbel-softmax (Jang, Gu & Poole, ICLR 2017; Concrete: Maddison, Mnih & Teh, ICLR 2017).

The blocks' loss trains the router: the chosen action's relaxed probability y multiplies the block's output as a gate of
value 1 + y - stop(y) = 1. Routing stays hard, one block per lane; hence only the chosen block's share of the gradient
exists, and the estimate is biased. The rewards are not used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate
from routing_env.agents.gradient import OptimizerName, of_taken
from routing_env.agents.networks import Network
from routing_env.agents.policy_gradient import SoftmaxRouter, log_softmax, temperature_at
from routing_env.types import Decision, GameSpec, State, Trace


def gumbel(probability: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform noise in [0, 1)."""
    tiny = torch.finfo(probability.dtype).tiny
    return -(-probability.clamp_min(tiny).log()).clamp_min(tiny).log()


def straight_through(log_policy: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Gumbel-max action and gate.

    Args:
        log_policy: float32 [B, A], -inf for illegal actions.
        noise: standard Gumbel, float32 [B, A].
        temperature: of the relaxation.

    Returns:
        Actions int64 [B], distributed as exp(log_policy), and gates float32 [B] of value 1 with the gradient of the
        chosen actions' relaxed probabilities.
    """
    perturbed = log_policy + noise
    action = perturbed.argmax(-1)
    relaxed = of_taken((perturbed / temperature).softmax(-1), action)
    return action, 1 + (relaxed - relaxed.detach())


class GumbelSoftmax(SoftmaxRouter):
    """Routers trained by the network's own loss.

    Args:
        spec: of the game.
        seed: of weights and noise.
        network: of the policy: "mlps", "mlp", "table", or one's own.
        temperature: of the relaxation.
        learning_rate: of the router.
        optimizer: "adam" or "sgd".
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network = "mlps",
        temperature: Rate = 1.0,
        learning_rate: Rate = 3e-3,
        optimizer: OptimizerName = "adam",
    ) -> None:
        super().__init__(spec, {}, seed=seed, network=network, learning_rate=learning_rate, optimizer=optimizer)
        self.temperature = temperature

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Gumbel-max, with the gate that brings the gradient back."""
        if greedy:
            return super().act(state, greedy=True)
        self.set_mode(train=True)
        log_policy = log_softmax(self.policy(state), state.legal)
        noise = torch.rand(log_policy.shape, generator=self.generator, device=log_policy.device)
        temperature = temperature_at(self.temperature, self.samples)
        action, gate = straight_through(log_policy, gumbel(noise), temperature)
        return Decision(action, log_policy.detach().exp(), gate)

    def loss(self, trace: Trace) -> Tensor:
        """The blocks' own, which the game has sent backwards before the router learns."""
        return trace.outcome.loss

    def learn(self, trace: Trace) -> dict[str, float]:
        """Step along the gradient that the blocks' loss has left behind."""
        self.step()
        self.optimizer.zero_grad()
        self.samples += len(trace.task)
        return {"loss": self.loss(trace).mean().item()}
