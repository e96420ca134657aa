"""GIGA-WoLF (Bowling, NIPS 2004): no regret and convergence, by a second, slower policy."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate, rate_at
from routing_env.agents.q_learning import q_update
from routing_env.agents.simplex import project_onto_simplex
from routing_env.agents.table import PolicyTableRouter, Samples
from routing_env.types import GameSpec


def giga_wolf_update(
    policy: Tensor, slow: Tensor, value: Tensor, legal: Tensor, step: float, minimum: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Their equations 4 to 7: x^ = P(x + eta r), z' = P(z + eta r / 3), x' = x^ + delta (z' - x^).

    delta = min(1, |z' - z| / |z' - x^|).

    Args:
        policy: x, float32 [..., A].
        slow: z, float32 [..., A].
        value: r, what every action is worth, float32 [..., A].
        legal: bool [..., A].
        step: eta.
        minimum: the least probability of a legal action.

    Returns:
        The new policy and the new slow policy.
    """
    moved = torch.stack([policy + step * value, slow + step * value / 3])
    towards, new_slow = project_onto_simplex(moved, legal, minimum)
    gap = new_slow - towards
    distance = gap.norm(dim=-1, keepdim=True)
    share = ((new_slow - slow).norm(dim=-1, keepdim=True) / distance).nan_to_num(1.0).clamp_max(1.0)
    return towards + share * gap, new_slow


class GIGAWoLF(PolicyTableRouter):
    """One GIGA-WoLF agent per task, with tables over depth and action.

    The rule wants the reward of every action; as in Abdallah & Lesser's experiments a running average of the returns
    R_i of each action stands for it.

    Args:
        spec: of the game.
        seed: of exploration.
        step: eta.
        value_step: of the averages.
        minimum: the least probability of a legal action.
        gamma: discount of the action rewards.
    """

    policies = ("policy", "slow")

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: Rate = 0.01,
        value_step: Rate = 0.05,
        minimum: float = 0.002,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        self.step = step
        self.value_step = value_step
        self.minimum = minimum
        self.gamma = gamma
        self.slow = self.policy.clone()
        self.tables |= {"slow": self.slow}

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """The averages, then both policies."""
        (policy, slow), agent = policies, samples.agent
        value_step, step = rate_at(self.value_step, self.samples), rate_at(self.step, self.samples)
        value = q_update(self.value[agent], samples.action, samples.return_, value_step)
        self.value[agent] = value
        return giga_wolf_update(policy, slow, value, samples.legal, step, self.minimum)
