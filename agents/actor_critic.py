"""Actor-critic with a critic Q (Sutton et al., 2000), and with an advantage (Mnih et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.gradient import PolicyGradientRouter, along_routes, categorical_entropy, policy_gradient_loss
from routing_env.agents.networks import RouterNetwork
from routing_env.agents.q_learning import one_step_return
from routing_env.agents.samples import of_taken
from routing_env.agents.sarsa import sarsa_target
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Trace


def generalized_advantage(
    value: Tensor, rewards: Tensor, final_reward: Tensor, gamma: float, trace_decay: float
) -> Tensor:
    """A_i = delta_i + gamma lambda A_(i+1) (Schulman et al., 2016, equation 16).

    delta_i is the one-step return in which V(i+1) estimates what follows, minus V(i); r_final is not discounted.
    Lambda 0 gives delta itself, lambda 1 the return minus V.

    Args:
        value: V, float32 [B, D].
        rewards: float32 [B, D].
        final_reward: float32 [B].
        gamma: Discount of the action rewards.
        trace_decay: lambda.

    Returns:
        float32 [B, D].
    """
    delta = one_step_return(value[:, 1:], rewards, final_reward, gamma) - value
    advantage = [delta[:, -1]]
    for i in reversed(range(delta.shape[1] - 1)):
        advantage.append(delta[:, i] + gamma * trace_decay * advantage[-1])
    return torch.stack(advantage[::-1], dim=1)


@dataclass(eq=False, kw_only=True)
class ActorCritic(PolicyGradientRouter):
    """Actor-critic: the gradient of log pi(a_i) times Q(state_i, a_i); Q learns by the squared TD error of SARSA.

    Attributes:
        critic: The network of Q.
    """

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.01, 0.02, 0.05, 0.1, 0.2))}

    network: RouterNetwork = "table"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.critic = self.add_network("critic", self.critic_outputs)

    @property
    def critic_outputs(self) -> int:
        """Outputs of the critic: one value for each action."""
        return self.spec.actions

    def loss(self, trace: Trace) -> Tensor:
        """The losses of actor and critic."""
        log_policy, value = self.log_policy(trace), along_routes(self.critic, trace.states)
        target = sarsa_target(value.detach(), trace.actions, trace.action_rewards, trace.final_reward, self.gamma)
        value = of_taken(value, trace.actions)
        return self.total(log_policy, trace, weight=value, error=target - value)

    def total(self, log_policy: Tensor, trace: Trace, *, weight: Tensor, error: Tensor) -> Tensor:
        """The actor's loss, the critic's squared error and the entropy, float32 [B]."""
        actor = policy_gradient_loss(of_taken(log_policy, trace.actions), weight)
        return actor + error.square().sum(1) / 2 - self.entropy * categorical_entropy(log_policy).sum(1)


@dataclass(eq=False, kw_only=True)
class AdvantageActorCritic(ActorCritic):
    """Advantage actor-critic: the gradient of log pi(a_i) times an advantage; V learns towards advantage + V."""

    trace_decay: float = 0.0
    """Lambda of the advantage: 0 gives one-step TD errors, 1 whole returns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("in [0, 1]", "trace_decay")

    @property
    def critic_outputs(self) -> int:
        """Outputs of the critic: V alone."""
        return 1

    def loss(self, trace: Trace) -> Tensor:
        """The losses of actor and critic."""
        log_policy, value = self.log_policy(trace), along_routes(self.critic, trace.states).squeeze(-1)
        held = value.detach()
        advantage = generalized_advantage(held, trace.action_rewards, trace.final_reward, self.gamma, self.trace_decay)
        return self.total(log_policy, trace, weight=advantage, error=advantage + held - value)
