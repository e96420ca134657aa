"""What value-based routers with function approximation share: an epsilon-greedy policy and the squared TD error."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from routing_env.agents.base import Rate, epsilon_greedy, rate_at
from routing_env.agents.gradient import GradientRouter, OptimizerName, along_routes, legal_actions, of_taken
from routing_env.agents.networks import Network, make_network
from routing_env.types import GameSpec, State, Trace


class ValueNetworkRouter(GradientRouter):
    """Epsilon-greedy on learned values of all actions.

    Args:
        spec: of the game.
        seed: of weights and exploration.
        network: "mlps", "mlp", "table", or one's own.
        learning_rate: of the router.
        optimizer: "adam" or "sgd".
        epsilon: probability of a uniformly random legal action.
        gamma: discount.
        train_blocks: add the squared error to the blocks' loss (section 3.1.2).
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network = "mlps",
        learning_rate: Rate = 1e-3,
        optimizer: OptimizerName = "adam",
        epsilon: Rate = (1.0, 0.02, 20_000),
        gamma: float = 1.0,
        train_blocks: bool = False,
    ) -> None:
        value = make_network(network, spec, spec.actions, seed)
        super().__init__(
            spec,
            {"value": value},
            seed=seed,
            optimizer=optimizer,
            learning_rate=learning_rate,
            gamma=gamma,
            train_blocks=train_blocks,
        )
        self.value = value
        self.epsilon = epsilon

    def probability(self, state: State) -> Tensor:
        """Epsilon spread over the legal actions, the rest on the best."""
        return epsilon_greedy(self.preference(state), state.legal, rate_at(self.epsilon, self.samples))

    def preference(self, state: State) -> Tensor:
        """The values."""
        return self.value(state)

    @abstractmethod
    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """What the values of the actions taken should be.

        Args:
            value: of all actions along the routes, float32 [B, D, A].
            trace: the deal.
            legal: bool [B, D, A].

        Returns:
            float32 [B, D].
        """
        ...

    def loss(self, trace: Trace) -> Tensor:
        """Half the squared error between the values of the actions taken and their targets, summed over depth."""
        value = along_routes(self.value, trace.states)
        target = self.target(value.detach(), trace, legal_actions(trace))
        return (target - of_taken(value, trace.actions)).square().sum(1) / 2
