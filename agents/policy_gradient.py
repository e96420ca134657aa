"""What policy-gradient routers share: a softmax policy over the legal actions, with entropy and epsilon as options."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from routing_env.agents.base import Rate, epsilon_greedy, rate_at
from routing_env.agents.gradient import GradientRouter, OptimizerName, along_routes, legal_actions
from routing_env.agents.networks import Network, make_network
from routing_env.types import GameSpec, State, Trace


def log_softmax(logits: Tensor, legal: Tensor) -> Tensor:
    """Log pi over the legal actions, float32 [..., A]; -inf for the others."""
    return logits.masked_fill(~legal, -torch.inf).log_softmax(-1)


def entropy(log_policy: Tensor) -> Tensor:
    """-sum_a pi(a) log pi(a), from [..., A] to [...]; illegal actions have none."""
    return -(log_policy.exp() * log_policy.clamp_min(torch.finfo(log_policy.dtype).min)).sum(-1)


def policy_gradient_loss(log_probability: Tensor, weight: Tensor) -> Tensor:
    """-weight log pi(a): its gradient is Williams' (1992) with the weight held constant.

    Args:
        log_probability: of the actions taken, float32 [B, D].
        weight: a return, a value, an advantage, float32 [B, D].

    Returns:
        float32 [B], summed over depth.
    """
    return -(weight.detach() * log_probability).sum(-1)


def temperature_at(rate: Rate, samples: int) -> float:
    """The temperature of a relaxation after so many samples.

    Raises:
        ValueError: it is not above 0.
    """
    temperature = rate_at(rate, samples)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must stay above 0")
    return temperature


def usual_rate(network: Network) -> float:
    """A learning rate of Adam for tables, or for other networks."""
    return 0.05 if network == "table" else 0.003


class SoftmaxRouter(GradientRouter):
    """Draws from softmax(logits) over the legal actions.

    Args:
        spec: of the game.
        networks: further ones than the policy's, by name.
        seed: of weights and exploration.
        network: of the policy: "table", "mlps", "mlp", or one's own.
        learning_rate: of the router.
        optimizer: "adam" or "sgd".
        gamma: discount of the action rewards.
        epsilon: None draws from the policy; a rate takes the most probable action instead, and with probability epsilon
            a uniformly random one.
        train_blocks: add this router's loss to the blocks' (section 3.1.2).
    """

    def __init__(
        self,
        spec: GameSpec,
        networks: Mapping[str, nn.Module],
        *,
        seed: int,
        network: Network,
        learning_rate: Rate,
        optimizer: OptimizerName,
        gamma: float = 1.0,
        epsilon: Rate | None = None,
        train_blocks: bool = False,
    ) -> None:
        policy = make_network(network, spec, spec.actions, seed)
        super().__init__(
            spec,
            {"policy": policy, **networks},
            seed=seed,
            optimizer=optimizer,
            learning_rate=learning_rate,
            gamma=gamma,
            train_blocks=train_blocks,
        )
        self.policy = policy
        self.epsilon = epsilon

    def probability(self, state: State) -> Tensor:
        """Softmax, or epsilon-greedy."""
        if self.epsilon is not None:
            return epsilon_greedy(self.preference(state), state.legal, rate_at(self.epsilon, self.samples))
        return log_softmax(self.preference(state), state.legal).exp()

    def preference(self, state: State) -> Tensor:
        """The logits."""
        return self.policy(state)

    def log_policy(self, trace: Trace) -> Tensor:
        """Log pi along the routes, float32 [B, D, A]."""
        return log_softmax(along_routes(self.policy, trace.states), legal_actions(trace))
