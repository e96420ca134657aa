"""Hysteretic Q-learning (Matignon, Laurent & Le Fort-Piat, IROS 2007): slow to blame itself for others' mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.q_learning import QLearning
from routing_env.agents.samples import Samples, of_taken


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


@dataclass(eq=False, kw_only=True)
class HystereticQ(QLearning):
    """Hysteretic Q-learning: tabular Q-learning with a smaller step where the target is below the value."""

    captures: ClassVar[bool] = True

    decrease: float = 0.5
    """Step below the value, beta, as a share of ``step``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("at least 0", "decrease")

    def update(self, samples: Samples) -> None:
        """One-step updates along every route."""
        value, step = self.value[samples.agent], self.now(self.step)
        target = self.target(value, samples)
        self.value[samples.agent] = hysteretic_update(value, samples.action, target, step, self.decrease * step)
