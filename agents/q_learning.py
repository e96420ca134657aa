"""Tabular Q-learning (Watkins, 1989), with one agent per task (paper, section 3.1.2 and Table 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.table import TableRouter, best_action, in_turn, uniform
from routing_env.types import GameSpec, State, Trace


def td_target(value: Tensor, rewards: Tensor, final_reward: Tensor, legal: Tensor, gamma: float) -> Tensor:
    """r_i + gamma max_a Q(i+1, a) before the last depth; the last reward plus r_final at it.

    Args:
        value: Q, float32 [N, D, A].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        legal: bool [N, D, A], legality in the states that were visited.
        gamma: discount.

    Returns:
        float32 [N, D].
    """
    best = value.masked_fill(~legal, -torch.inf).max(-1).values
    following = torch.cat([gamma * best[:, 1:], final_reward.unsqueeze(1)], dim=1)
    return rewards + following


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
        epsilon: probability of a uniformly random legal action at the start.
        epsilon_end: the same at the end of the schedule.
        epsilon_samples: samples over which epsilon falls linearly.
        gamma: discount.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: float = 0.05,
        epsilon: float = 1.0,
        epsilon_end: float = 0.02,
        epsilon_samples: int = 20_000,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        self.step = step
        self.epsilon = epsilon
        self.epsilon_end = epsilon_end
        self.epsilon_samples = epsilon_samples
        self.gamma = gamma
        self.value = self.new_table()
        self._samples = torch.zeros((), dtype=torch.int64)
        self.tables = {"value": self.value, "samples": self._samples}

    def probability(self, state: State) -> Tensor:
        """Epsilon spread over the legal actions, the rest on the best."""
        done = min(1.0, int(self._samples) / self.epsilon_samples) if self.epsilon_samples else 1.0
        epsilon = self.epsilon + done * (self.epsilon_end - self.epsilon)
        best = best_action(self.preference(state), state.legal).unsqueeze(1)
        spread = epsilon * uniform(state.legal)
        return spread.scatter_add(1, best, torch.full_like(best, 1 - epsilon, dtype=spread.dtype))

    def preference(self, state: State) -> Tensor:
        """Q."""
        return self.value[state.task, state.depth]

    def learn(self, trace: Trace) -> dict[str, float]:
        """One-step updates along every route, sample by sample for each agent."""
        agents, actions = trace.task, trace.actions
        legal = torch.stack([state.legal for state in trace.states], dim=1)
        for lanes in in_turn(agents):
            agent = agents[lanes]
            value = self.value[agent]
            target = td_target(value, trace.action_rewards[lanes], trace.final_reward[lanes], legal[lanes], self.gamma)
            self.value[agent] = q_update(value, actions[lanes], target, self.step)
        self._samples += len(agents)
        return {}
