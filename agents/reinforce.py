"""REINFORCE (Williams, 1992), the paper's policy gradient (section 3.1.2), with and without a baseline."""

from __future__ import annotations

from torch import Tensor

from routing_env.agents.base import Rate
from routing_env.agents.gradient import OptimizerName, along_routes, of_taken
from routing_env.agents.networks import Network, make_network
from routing_env.agents.policy_gradient import SoftmaxRouter, entropy, policy_gradient_loss, usual_rate
from routing_env.types import GameSpec, Trace


class Reinforce(SoftmaxRouter):
    """The gradient of log pi(a_i) times R_i, or times R_i - b(state_i).

    Args:
        spec: of the game.
        seed: of weights and exploration.
        network: of policy and baseline: "table", "mlps", "mlp", or one's own; by default "table".
        baseline: whether to learn b, by squared error, and subtract it.
        learning_rate: of the router; by default 0.05, for other networks than tables 0.003.
        optimizer: "adam" or "sgd".
        gamma: discount of the action rewards.
        entropy: weight of the policy's entropy.
        epsilon: see the base.
        train_blocks: add this router's loss to the blocks' (section 3.1.2).
    """

    default_network: Network = "table"

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network | None = None,
        baseline: bool = True,
        learning_rate: Rate | None = None,
        optimizer: OptimizerName = "adam",
        gamma: float = 1.0,
        entropy: float = 0.0,
        epsilon: Rate | None = None,
        train_blocks: bool = False,
    ) -> None:
        network = network or self.default_network
        self.baseline = make_network(network, spec, 1, seed + 1) if baseline else None
        super().__init__(
            spec,
            {"baseline": self.baseline} if self.baseline else {},
            seed=seed,
            network=network,
            learning_rate=usual_rate(network) if learning_rate is None else learning_rate,
            optimizer=optimizer,
            gamma=gamma,
            epsilon=epsilon,
            train_blocks=train_blocks,
        )
        self.entropy = entropy

    def loss(self, trace: Trace) -> Tensor:
        """The policy's and the baseline's."""
        log_policy, weight = self.log_policy(trace), trace.returns(self.gamma)
        loss = -self.entropy * entropy(log_policy).sum(1)
        if self.baseline is not None:
            weight = weight - along_routes(self.baseline, trace.states).squeeze(-1)
            loss = loss + weight.square().sum(1) / 2
        return loss + policy_gradient_loss(of_taken(log_policy, trace.actions), weight)


class ReinforceApprox(Reinforce):
    """REINFORCE with one MLP per depth (paper, Table 3, "REINFORCE, approx functions")."""

    default_network = "mlps"
