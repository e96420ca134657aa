"""WoLF policy hill-climbing (Bowling & Veloso, Artificial Intelligence 136, 2002): win or learn fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import PolicyTableRouter, Rate, move_taken
from routing_env.agents.policies import uniform
from routing_env.agents.q_learning import td_target
from routing_env.agents.samples import Samples
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import State


def wolf_phc_update(
    policy: Tensor, average: Tensor, visits: Tensor, value: Tensor, legal: Tensor, winning: float, losing: float
) -> tuple[Tensor, Tensor]:
    """Update the average policy, then climb towards the greedy action, slowly where the policy beats its average.

    Steps 2(c) and 2(d) of the source's Table 6: every action but the greedy one gives up
    min(pi(a), delta / (actions - 1)).

    Args:
        policy: pi, float32 [..., A].
        average: Average of the policies so far, float32 [..., A].
        visits: Number of policies in the average, this one included, [..., 1].
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


@dataclass(eq=False, kw_only=True)
class WoLFPHC(PolicyTableRouter):
    """WoLF policy hill-climbing: one agent per task, with tables over depth and action; values learn by Q-learning.

    Attributes:
        average: The average policy, float32 [agents, D, A].
        visits: Number of samples that each agent has learned from, float32 [agents, 1, 1].
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"step": Choices((0.002, 0.005, 0.01, 0.02))}

    step: Rate = 0.005
    """Step while winning, delta of the source."""
    losing: float = 4.0
    """Step while losing, as a multiple of ``step``."""
    value_step: Rate = 0.05
    """Step of Q."""
    exploration: Rate = 0.05
    """Probability of a uniformly random legal action; without it Q would not track actions that are no longer taken."""

    policies: ClassVar[tuple[str, ...]] = ("policy", "average")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("at least 0", "step", "value_step")
        self.check_numbers("at least 0", "losing")
        self.check_rates("in [0, 1]", "exploration")
        self.average = self.policy.clone()
        self.visits = torch.zeros(self.agents, 1, 1, device=self.spec.device)
        self.tables |= {"average": self.average, "visits": self.visits}

    def probability(self, state: State) -> Tensor:
        """The policy, mixed with uniform exploration."""
        return torch.lerp(super().probability(state), uniform(state.legal), self.now(self.exploration))

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Update the values by Q-learning, then the policy and its average."""
        (policy, average), agent = policies, samples.agent
        value, visits = self.value[agent], self.visits[agent] + 1
        target = td_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma)
        value = move_taken(value, samples.action, target, self.now(self.value_step))
        self.value[agent], self.visits[agent] = value, visits
        winning = self.now(self.step)
        return wolf_phc_update(policy, average, visits, value, samples.legal, winning, self.losing * winning)
