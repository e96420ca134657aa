"""Advantage learning (Baird, 1995; Harmon & Baird, 1996): Q-learning with the gaps between actions widened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from routing_env.agents.gradient import ValueNetworkRouter
from routing_env.agents.q_learning import QLearning, td_target
from routing_env.agents.samples import Samples
from routing_env.types import Trace


def advantage_target(
    value: Tensor, rewards: Tensor, final_reward: Tensor, legal: Tensor, gamma: float, scale: float
) -> Tensor:
    """V(i) + (target(i) - V(i)) / scale with V = max_a A: Harmon & Baird's equation 4 with scale = K dt.

    Target(i) is that of Q-learning. A scale of 1 gives Q-learning; a smaller one widens the gap between the best action
    and the others by 1 / scale.

    Args:
        value: A, float32 [N, D, A].
        rewards: float32 [N, D].
        final_reward: float32 [N].
        legal: bool [N, D, A].
        gamma: Discount of the action rewards.
        scale: K dt, in (0, 1].

    Returns:
        float32 [N, D].
    """
    best = value.masked_fill(~legal, -float("inf")).amax(-1)
    return best + (td_target(value, rewards, final_reward, legal, gamma) - best) / scale


@dataclass(eq=False, kw_only=True)
class AdvantageLearning(QLearning):
    """Advantage learning with tables."""

    captures: ClassVar[bool] = True

    scale: float = 0.5
    """K dt of the source, in (0, 1]; the gaps between actions are widened by its inverse."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("in (0, 1]", "scale")

    def target(self, value: Tensor, samples: Samples) -> Tensor:
        """The advantage-learning target."""
        return advantage_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma, self.scale)


@dataclass(eq=False, kw_only=True)
class AdvantageLearningApprox(ValueNetworkRouter):
    """Advantage learning with networks."""

    scale: float = 0.5
    """K dt of the source, in (0, 1]; the gaps between actions are widened by its inverse."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("in (0, 1]", "scale")

    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """The advantage-learning target."""
        return advantage_target(value, trace.action_rewards, trace.final_reward, legal, self.gamma, self.scale)
