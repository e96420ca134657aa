"""PGA-APP: policy gradient ascent with approximate policy prediction (Zhang & Lesser, AAAI 2010)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import PolicyTableRouter, Rate, move_taken
from routing_env.agents.policies import project_onto_simplex
from routing_env.agents.q_learning import td_target
from routing_env.agents.samples import Samples
from routing_env.search_space import Choices, SearchSpace


def pga_app_update(
    policy: Tensor, value: Tensor, legal: Tensor, step: float, prediction: float, minimum: float = 0.0
) -> Tensor:
    """Lines 6 to 13 of the source's Algorithm 2: follow the gradient against the predicted next policies of the others.

    d(a) = (Q(a) - V) / (1 - pi(a)), or Q(a) - V where pi(a) = 1, with V = sum_b pi(b) Q(b);
    pi <- P(pi + step (d(a) - prediction |d(a)| pi(a))).

    Args:
        policy: pi, float32 [..., A].
        value: Q, float32 [..., A].
        legal: bool [..., A].
        step: eta.
        prediction: Length of the prediction, gamma of the source.
        minimum: Least probability of a legal action.

    Returns:
        The new policy.
    """
    gradient = value - (policy * value).sum(-1, keepdim=True)
    gradient = gradient / torch.where(policy < 1, 1 - policy, 1.0)
    return project_onto_simplex(policy + step * (gradient - prediction * gradient.abs() * policy), legal, minimum)


@dataclass(eq=False, kw_only=True)
class PGAAPP(PolicyTableRouter):
    """PGA-APP: one agent per task, with tables over depth and action; the values learn by Q-learning."""

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {"prediction": Choices((0.0, 0.3, 1.0, 3.0)), "step": Choices((0.003, 0.01, 0.03))}

    step: Rate = 0.01
    """Step of the policy, eta."""
    prediction: float = 1.0
    """Length of the prediction, gamma of the source."""
    value_step: Rate = 0.05
    """Step of Q."""
    minimum: float = 0.002
    """Least probability of a legal action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("at least 0", "step", "value_step")
        self.check_numbers("at least 0", "prediction")
        self.check_numbers("in [0, 1]", "minimum")

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Update the values by Q-learning, then the policy."""
        (policy,), value = policies, self.value[samples.agent]
        target = td_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma)
        value = move_taken(value, samples.action, target, self.now(self.value_step))
        self.value[samples.agent] = value
        return (pga_app_update(policy, value, samples.legal, self.now(self.step), self.prediction, self.minimum),)
