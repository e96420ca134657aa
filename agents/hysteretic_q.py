"""Hysteretic Q-learning (Matignon, Laurent & Le Fort-Piat, IROS 2007): slow to blame oneself for others' mistakes."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate, rate_at
from routing_env.agents.gradient import of_taken
from routing_env.agents.q_learning import QLearning
from routing_env.agents.table import Samples
from routing_env.types import GameSpec


def hysteretic_update(value: Tensor, action: Tensor, target: Tensor, increase: float, decrease: float) -> Tensor:
    """Q(a) <- Q(a) + increase delta where delta = target - Q(a) >= 0, else + decrease delta (their equation 4).

    Args:
        value: float32 [..., A].
        action: int64 [...].
        target: float32 [...].
        increase: alpha.
        decrease: beta, below alpha.
    """
    delta = target - of_taken(value, action)
    moved = delta * torch.where(delta < 0, decrease, increase)
    return value.scatter_add(-1, action.unsqueeze(-1), moved.unsqueeze(-1))


class HystereticQ(QLearning):
    """Tabular Q-learning with a smaller step for bad news.

    Args:
        spec: of the game.
        seed: of exploration.
        step: alpha, for targets above the value.
        decrease: beta as a share of alpha, for targets below.
        epsilon: probability of a uniformly random legal action.
        gamma: discount.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: Rate = 0.05,
        decrease: float = 0.5,
        epsilon: Rate = (1.0, 0.02, 20_000),
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed, step=step, epsilon=epsilon, gamma=gamma)
        self.decrease = decrease

    def update(self, samples: Samples) -> None:
        """One-step updates along every route."""
        value, step = self.value[samples.agent], rate_at(self.step, self.samples)
        target = self.target(value, samples)
        self.value[samples.agent] = hysteretic_update(value, samples.action, target, step, self.decrease * step)
