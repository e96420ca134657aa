"""Tabular Q-learning (Watkins, 1989), with one agent per task (paper, section 3.1.2 and Table 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate, epsilon_greedy, rate_at
from routing_env.agents.table import Samples, TableRouter
from routing_env.agents.value_network import ValueNetworkRouter
from routing_env.types import GameSpec, State, Trace


def one_step_return(following: Tensor, rewards: Tensor, final_reward: Tensor, gamma: float) -> Tensor:
    """R_i by what is thought of R_(i+1): r_i + gamma R_(i+1) + (1 - gamma) r_final; at the last depth r_i + r_final.

    This follows from the paper's R_i (Algorithm 3, line 3), where gamma discounts the action rewards, not r_final.

    Args:
        following: the estimates of R_2 to R_D, float32 [N, D - 1].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        gamma: discount of the action rewards.

    Returns:
        float32 [N, D].
    """
    final = final_reward.unsqueeze(1)
    return rewards + torch.cat([gamma * following + (1 - gamma) * final, final], dim=1)


def td_target(value: Tensor, rewards: Tensor, final_reward: Tensor, legal: Tensor, gamma: float) -> Tensor:
    """The one-step return with max_a Q(i+1, a) for what follows.

    Args:
        value: Q, float32 [N, D, A].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        legal: bool [N, D, A], legality in the states that were visited.
        gamma: discount of the action rewards.

    Returns:
        float32 [N, D].
    """
    best = value.masked_fill(~legal, -torch.inf).max(-1).values
    return one_step_return(best[:, 1:], rewards, final_reward, gamma)


def q_update(value: Tensor, action: Tensor, target: Tensor, step: float) -> Tensor:
    """Q(a) <- Q(a) + step (target - Q(a)) for the action taken in every row.

    Args:
        value: float32 [..., A].
        action: int64 [...].
        target: float32 [...].
        step: alpha.
    """
    taken = action.unsqueeze(-1)
    return value.scatter(-1, taken, torch.lerp(value.gather(-1, taken), target.unsqueeze(-1), step))


class QLearning(TableRouter):
    """One epsilon-greedy Q-learner per task, with a table over depth and action.

    Args:
        spec: of the game.
        seed: of exploration.
        step: alpha.
        epsilon: probability of a uniformly random legal action.
        gamma: discount.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: Rate = 0.05,
        epsilon: Rate = (1.0, 0.02, 20_000),
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        self.step = step
        self.epsilon = epsilon
        self.gamma = gamma
        self.value = self.new_table()
        self.tables = {"value": self.value}

    def probability(self, state: State) -> Tensor:
        """Epsilon spread over the legal actions, the rest on the best."""
        return epsilon_greedy(self.preference(state), state.legal, rate_at(self.epsilon, self.samples))

    def preference(self, state: State) -> Tensor:
        """Q."""
        return self.row(self.value, state)

    def target(self, value: Tensor, samples: Samples) -> Tensor:
        """What the values of the actions taken move towards, float32 [N, D]."""
        return td_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma)

    def update(self, samples: Samples) -> None:
        """One-step updates along every route."""
        value = self.value[samples.agent]
        target = self.target(value, samples)
        self.value[samples.agent] = q_update(value, samples.action, target, rate_at(self.step, self.samples))


class QLearningApprox(ValueNetworkRouter):
    """Q-learning with function approximation: the squared TD error (paper, Table 3, "Q-Learning, approx functions").

    The target is a constant (semi-gradient), taken from the same network; routes are three decisions long and end in
    the reward, so no target network is kept.
    """

    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """The Q-learning target."""
        return td_target(value, trace.action_rewards, trace.final_reward, legal, self.gamma)
