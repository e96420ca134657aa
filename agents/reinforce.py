"""REINFORCE (Williams, 1992), the paper's policy gradient (section 3.1.2), with and without a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from routing_env.agents.gradient import PolicyGradientRouter, along_routes, categorical_entropy, policy_gradient_loss
from routing_env.agents.hedge import advantages
from routing_env.agents.networks import RouterNetwork
from routing_env.agents.samples import of_taken
from routing_env.names import require
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Trace


def counterfactual_advantage(returns: Tensor, policy: Tensor, action: Tensor) -> Tensor:
    """A_i = R_i(a_i) - sum_a pi(a) R_i(a), the baseline of COMA (Foerster et al., AAAI 2018, equation 4).

    COMA learns a critic for what other actions would have led to; here the game says it. The baseline leaves the
    policy gradient unbiased where later actions do not depend on this one but for what is legal, as in tables.
    Otherwise it takes out what the action does by way of later decisions.

    Args:
        returns: R_i(a), the returns if the action at depth i had been a and the rest of the route as it was, float32
            [B, D, A]; NaN, and left out of the sum, where that is not legal.
        policy: pi, float32 [B, D, A].
        action: The actions taken, int64 [B, D].

    Returns:
        float32 [B, D].
    """
    return of_taken(advantages(returns, policy), action)


@dataclass(eq=False, kw_only=True)
class Reinforce(PolicyGradientRouter):
    """REINFORCE: the gradient of log pi(a_i) times R_i, times R_i - b(state_i), or times a counterfactual advantage."""

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.01, 0.02, 0.05, 0.1, 0.2))}

    network: RouterNetwork = "table"
    baseline: bool | Literal["counterfactual"] = True
    """Whether to learn b, by its squared error, and to subtract it from the returns. "counterfactual" learns nothing
    and subtracts what the policy would have earned at this depth, with the rest of the route as it was."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            "baseline",
            self.baseline,
            self.baseline in (True, False, "counterfactual"),
            'True, False or "counterfactual"',
        )
        if self.baseline is True:
            self.add_network("baseline", 1)

    @property
    def needs_counterfactuals(self) -> bool:
        """Whether the baseline is counterfactual."""
        return self.baseline == "counterfactual"

    def loss(self, trace: Trace) -> Tensor:
        """The losses of the policy and of the baseline."""
        log_policy, weight = self.log_policy(trace), trace.returns(self.gamma)
        loss = -self.entropy * categorical_entropy(log_policy).sum(1)
        if self.baseline == "counterfactual":
            weight = counterfactual_advantage(trace.counterfactual_returns(self.gamma), log_policy.exp(), trace.actions)
        elif self.baseline:
            weight = weight - along_routes(self.networks["baseline"], trace.states).squeeze(-1)
            loss = loss + weight.square().sum(1) / 2
        return loss + policy_gradient_loss(of_taken(log_policy, trace.actions), weight)


@dataclass(eq=False, kw_only=True)
class ReinforceApprox(Reinforce):
    """REINFORCE with one MLP per depth (paper, Table 3, "REINFORCE, approx functions")."""

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.001, 0.002, 0.003, 0.005, 0.01))}

    network: RouterNetwork = "mlps"
