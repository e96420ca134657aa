"""WoLF policy hill-climbing (Bowling & Veloso, Artificial Intelligence 136, 2002): win or learn fast."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate, rate_at, uniform
from routing_env.agents.q_learning import q_update, td_target
from routing_env.agents.table import PolicyTableRouter, Samples
from routing_env.types import GameSpec, State


def wolf_phc_update(
    policy: Tensor, average: Tensor, visits: Tensor, value: Tensor, legal: Tensor, winning: float, losing: float
) -> tuple[Tensor, Tensor]:
    """Average the policy, then climb towards the greedy action, slowly where the policy beats its average.

    Steps 2(c) and 2(d) of their Table 6: each action but the greedy one gives up min(pi(a), delta / (actions - 1)).

    Args:
        policy: pi, float32 [..., A].
        average: of the policies so far, float32 [..., A].
        visits: how many policies the average will hold with this one, [..., 1].
        value: Q, float32 [..., A].
        legal: bool [..., A].
        winning: delta where sum_a pi(a) Q(a) > sum_a average(a) Q(a).
        losing: delta elsewhere.

    Returns:
        The new policy and average.
    """
    average = average + (policy - average) / visits
    wins = ((policy - average) * value).sum(-1, keepdim=True) > 0
    others = (legal.sum(-1, keepdim=True) - 1).clamp_min(1)
    best = value.masked_fill(~legal, -torch.inf).argmax(-1, keepdim=True)
    given = torch.minimum(policy, torch.where(wins, winning, losing) / others).scatter(-1, best, 0.0)
    return (policy - given).scatter_add(-1, best, given.sum(-1, keepdim=True)), average


class WoLFPHC(PolicyTableRouter):
    """One WoLF-PHC agent per task, with tables over depth and action.

    Args:
        spec: of the game.
        seed: of exploration.
        step: delta while winning.
        losing: delta while losing, as a multiple of ``step``.
        value_step: of Q.
        exploration: probability of a uniformly random legal action, without which Q would forget the actions given up.
        gamma: discount of the action rewards.
    """

    policies = ("policy", "average")

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: Rate = 0.005,
        losing: float = 4.0,
        value_step: Rate = 0.05,
        exploration: Rate = 0.05,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        self.step = step
        self.losing = losing
        self.value_step = value_step
        self.exploration = exploration
        self.gamma = gamma
        self.average = self.policy.clone()
        self.visits = torch.zeros(self.agents, 1, 1, device=spec.device)
        self.tables |= {"average": self.average, "visits": self.visits}

    def probability(self, state: State) -> Tensor:
        """The policy with its share of exploration."""
        return torch.lerp(super().probability(state), uniform(state.legal), rate_at(self.exploration, self.samples))

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Q-learning, then the policy and its average."""
        (policy, average), agent = policies, samples.agent
        value, visits = self.value[agent], self.visits[agent] + 1
        target = td_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma)
        value = q_update(value, samples.action, target, rate_at(self.value_step, self.samples))
        self.value[agent], self.visits[agent] = value, visits
        winning = rate_at(self.step, self.samples)
        return wolf_phc_update(policy, average, visits, value, samples.legal, winning, self.losing * winning)
