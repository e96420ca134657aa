"""REINFORCE (Williams, 1992), the paper's policy gradient (section 3.1.2), with and without a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from routing_env.agents.base import of_taken
from routing_env.agents.gradient import PolicyGradientRouter, along_routes, categorical_entropy, policy_gradient_loss
from routing_env.agents.networks import RouterNetwork
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Trace


@dataclass(eq=False, kw_only=True)
class Reinforce(PolicyGradientRouter):
    """REINFORCE: the gradient of log pi(a_i) times R_i, or times R_i - b(state_i)."""

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.01, 0.02, 0.05, 0.1, 0.2))}

    network: RouterNetwork = "table"
    baseline: bool = True
    """Whether to learn b, by its squared error, and to subtract it from the returns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline:
            self.add_network("baseline", 1)

    def loss(self, trace: Trace) -> Tensor:
        """The losses of the policy and of the baseline."""
        log_policy, weight = self.log_policy(trace), trace.returns(self.gamma)
        loss = -self.entropy * categorical_entropy(log_policy).sum(1)
        if self.baseline:
            weight = weight - along_routes(self.networks["baseline"], trace.states).squeeze(-1)
            loss = loss + weight.square().sum(1) / 2
        return loss + policy_gradient_loss(of_taken(log_policy, trace.actions), weight)


@dataclass(eq=False, kw_only=True)
class ReinforceApprox(Reinforce):
    """REINFORCE with one MLP per depth (paper, Table 3, "REINFORCE, approx functions")."""

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.001, 0.002, 0.003, 0.005, 0.01))}

    network: RouterNetwork = "mlps"
