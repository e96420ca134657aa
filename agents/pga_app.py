"""PGA-APP: policy gradient ascent with approximate policy prediction (Zhang & Lesser, AAAI 2010)."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate, rate_at
from routing_env.agents.q_learning import q_update, td_target
from routing_env.agents.simplex import project_onto_simplex
from routing_env.agents.table import PolicyTableRouter, Samples
from routing_env.types import GameSpec


def pga_app_update(
    policy: Tensor, value: Tensor, legal: Tensor, step: float, prediction: float, minimum: float = 0.0
) -> Tensor:
    """Their Algorithm 2, lines 6 to 13: follow the gradient that the others' next policies are predicted to cause.

    d(a) = (Q(a) - V) / (1 - pi(a)), or Q(a) - V where pi(a) = 1, with V = sum_b pi(b) Q(b);
    pi <- P(pi + step (d(a) - prediction |d(a)| pi(a))).

    Args:
        policy: pi, float32 [..., A].
        value: Q, float32 [..., A].
        legal: bool [..., A].
        step: eta.
        prediction: their gamma, the length of the prediction.
        minimum: the least probability of a legal action.

    Returns:
        The new policy.
    """
    gradient = value - (policy * value).sum(-1, keepdim=True)
    gradient = gradient / torch.where(policy < 1, 1 - policy, 1.0)
    return project_onto_simplex(policy + step * (gradient - prediction * gradient.abs() * policy), legal, minimum)


class PGAAPP(PolicyTableRouter):
    """One PGA-APP agent per task, with tables over depth and action.

    Args:
        spec: of the game.
        seed: of exploration.
        step: eta.
        prediction: the length of the prediction.
        value_step: of Q.
        minimum: the least probability of a legal action.
        gamma: discount.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        step: Rate = 0.01,
        prediction: float = 1.0,
        value_step: Rate = 0.05,
        minimum: float = 0.002,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        self.step = step
        self.prediction = prediction
        self.value_step = value_step
        self.minimum = minimum
        self.gamma = gamma

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Q-learning, then the policy."""
        (policy,), value = policies, self.value[samples.agent]
        target = td_target(value, samples.reward, samples.final_reward, samples.legal, self.gamma)
        value = q_update(value, samples.action, target, rate_at(self.value_step, self.samples))
        self.value[samples.agent] = value
        step = rate_at(self.step, self.samples)
        return (pga_app_update(policy, value, samples.legal, step, self.prediction, self.minimum),)
