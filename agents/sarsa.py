"""SARSA (Rummery & Niranjan, 1994; Sutton & Barto, 2018, section 6.4): the value of the policy that explores."""

from __future__ import annotations

from torch import Tensor

from routing_env.agents.gradient import of_taken
from routing_env.agents.q_learning import QLearning, one_step_return
from routing_env.agents.table import Samples
from routing_env.agents.value_network import ValueNetworkRouter
from routing_env.types import Trace


def sarsa_target(value: Tensor, action: Tensor, rewards: Tensor, final_reward: Tensor, gamma: float) -> Tensor:
    """The one-step return with Q(i+1, a_(i+1)) for what follows.

    Args:
        value: Q, float32 [N, D, A].
        action: int64 [N, D].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        gamma: discount.

    Returns:
        float32 [N, D].
    """
    return one_step_return(of_taken(value, action)[:, 1:], rewards, final_reward, gamma)


class Sarsa(QLearning):
    """Tabular Q-learning's options, SARSA's target."""

    def target(self, value: Tensor, samples: Samples) -> Tensor:
        """The SARSA target."""
        return sarsa_target(value, samples.action, samples.reward, samples.final_reward, self.gamma)


class SarsaApprox(ValueNetworkRouter):
    """SARSA with function approximation: the squared TD error, the target being a constant."""

    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """The SARSA target."""
        return sarsa_target(value, trace.actions, trace.action_rewards, trace.final_reward, self.gamma)
