"""Q-learning (Watkins, 1989), with one agent per task (paper, section 3.1.2 and Table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import Rate, TableRouter, move_taken
from routing_env.agents.gradient import ValueNetworkRouter
from routing_env.agents.policies import epsilon_greedy
from routing_env.agents.samples import Samples
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import State, Trace


def one_step_return(following: Tensor, rewards: Tensor, final_reward: Tensor, gamma: float) -> Tensor:
    """R_i from an estimate of R_(i+1): r_i + gamma R_(i+1) + (1 - gamma) r_final, and r_i + r_final at the last depth.

    This follows from the paper's R_i (Algorithm 3, line 3), in which gamma discounts the action rewards but not
    r_final.

    Args:
        following: The estimates of R_2 to R_D, float32 [N, D - 1].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        gamma: Discount of the action rewards.

    Returns:
        float32 [N, D].
    """
    final = final_reward.unsqueeze(1)
    return rewards + torch.cat([gamma * following + (1 - gamma) * final, final], dim=1)


def td_target(value: Tensor, rewards: Tensor, final_reward: Tensor, legal: Tensor, gamma: float) -> Tensor:
    """The one-step return in which max_a Q(i+1, a) estimates what follows.

    Args:
        value: Q, float32 [N, D, A].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        legal: bool [N, D, A], the legal actions in the states visited.
        gamma: Discount of the action rewards.

    Returns:
        float32 [N, D].
    """
    best = value.masked_fill(~legal, -torch.inf).max(-1).values
    return one_step_return(best[:, 1:], rewards, final_reward, gamma)


@dataclass(eq=False, kw_only=True)
class QLearning(TableRouter):
    """Q-learning: one epsilon-greedy agent per task, with a table over depth and action.

    Attributes:
        value: Q, float32 [agents, D, A].
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"step": Choices((0.01, 0.02, 0.05, 0.1, 0.2))}

    step: Rate = 0.05
    """Step of the values, alpha."""
    epsilon: Rate = (1.0, 0.02, 20_000)
    """Probability of a uniformly random legal action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("at least 0", "step")
        self.check_rates("in [0, 1]", "epsilon")
        self.value = self.new_table()
        self.tables |= {"value": self.value}

    def probability(self, state: State) -> Tensor:
        """The epsilon-greedy policy."""
        return epsilon_greedy(self.preference(state), state.legal, self.now(self.epsilon))

    def preference(self, state: State) -> Tensor:
        """Q, float32 [B, A]."""
        return self.row(self.value, state)

    def target(self, value: Tensor, samples: Samples) -> Tensor:
        """What the values of the actions taken move towards, float32 [N, D]."""
        return td_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma)

    def update(self, samples: Samples) -> None:
        """One-step updates along every route."""
        value = self.value[samples.agent]
        target = self.target(value, samples)
        self.value[samples.agent] = move_taken(value, samples.action, target, self.now(self.step))


@dataclass(eq=False, kw_only=True)
class QLearningApprox(ValueNetworkRouter):
    """Q-learning with networks: the squared TD error (paper, Table 3, "Q-Learning, approx functions").

    The target is held constant (semi-gradient) and comes from the same network. There is no separate target network,
    because routes are only a few decisions long and end in the reward.
    """

    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """The Q-learning target."""
        return td_target(value, trace.action_rewards, trace.final_reward, legal, self.gamma)
