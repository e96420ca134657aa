"""GIGA-WoLF (Bowling, NIPS 2004): no regret and convergence, with the help of a second, slower policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import PolicyTableRouter, Rate, move_taken
from routing_env.agents.policies import project_onto_simplex
from routing_env.agents.samples import Samples
from routing_env.search_space import Choices, SearchSpace


def giga_wolf_update(
    policy: Tensor, slow: Tensor, value: Tensor, legal: Tensor, step: float, minimum: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Equations 4 to 7 of the source: x^ = P(x + eta r), z' = P(z + eta r / 3), x' = x^ + delta (z' - x^).

    delta = min(1, |z' - z| / |z' - x^|).

    Args:
        policy: x, float32 [..., A].
        slow: z, float32 [..., A].
        value: r, the reward of every action, float32 [..., A].
        legal: bool [..., A].
        step: eta.
        minimum: Least probability of a legal action.

    Returns:
        The new policy and the new slow policy.
    """
    moved = torch.stack([policy + step * value, slow + step * value / 3])
    towards, new_slow = project_onto_simplex(moved, legal, minimum)
    gap = new_slow - towards
    distance = gap.norm(dim=-1, keepdim=True)
    share = ((new_slow - slow).norm(dim=-1, keepdim=True) / distance).nan_to_num(1.0).clamp_max(1.0)
    return towards + share * gap, new_slow


@dataclass(eq=False, kw_only=True)
class GIGAWoLF(PolicyTableRouter):
    """GIGA-WoLF: one agent per task, with tables over depth and action.

    The rule needs the reward of every action. As in Abdallah & Lesser's experiments, a running average of the returns
    R_i of each action takes its place.

    Attributes:
        slow: The slower policy, float32 [agents, D, A].
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"step": Choices((0.003, 0.01, 0.03, 0.1))}

    step: Rate = 0.01
    """Step of the policies, eta."""
    value_step: Rate = 0.05
    """Step of the average returns."""
    minimum: float = 0.002
    """Least probability of a legal action."""

    policies: ClassVar[tuple[str, ...]] = ("policy", "slow")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("at least 0", "step", "value_step")
        self.check_numbers("in [0, 1]", "minimum")
        self.slow = self.policy.clone()
        self.tables |= {"slow": self.slow}

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Update the averages, then both policies."""
        (policy, slow), agent = policies, samples.agent
        value = move_taken(self.value[agent], samples.action, samples.return_, self.now(self.value_step))
        self.value[agent] = value
        return giga_wolf_update(policy, slow, value, samples.legal, self.now(self.step), self.minimum)
