"""SARSA (Rummery & Niranjan, 1994; Sutton & Barto, 2018, section 6.4): the value of the policy that explores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from routing_env.agents.gradient import ValueNetworkRouter
from routing_env.agents.q_learning import QLearning, one_step_return
from routing_env.agents.samples import Samples, of_taken
from routing_env.types import Trace


def sarsa_target(value: Tensor, action: Tensor, rewards: Tensor, final_reward: Tensor, gamma: float) -> Tensor:
    """The one-step return in which Q(i+1, a_(i+1)) estimates what follows.

    Args:
        value: Q, float32 [N, D, A].
        action: int64 [N, D].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        gamma: Discount of the action rewards.

    Returns:
        float32 [N, D].
    """
    return one_step_return(of_taken(value, action)[:, 1:], rewards, final_reward, gamma)


@dataclass(eq=False, kw_only=True)
class Sarsa(QLearning):
    """SARSA with tables; the options are those of Q-learning."""

    captures: ClassVar[bool] = True

    def target(self, value: Tensor, samples: Samples) -> Tensor:
        """The SARSA target."""
        return sarsa_target(value, samples.action, samples.reward, samples.final_reward, self.gamma)


@dataclass(eq=False, kw_only=True)
class SarsaApprox(ValueNetworkRouter):
    """SARSA with networks: the squared TD error, with the target held constant."""

    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """The SARSA target."""
        return sarsa_target(value, trace.actions, trace.action_rewards, trace.final_reward, self.gamma)
