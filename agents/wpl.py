"""Weighted Policy Learner (Abdallah & Lesser, AAMAS 2006 and JAIR 2008), the router of the paper's main results.

Three rules go by the name, and they differ in where they slow down:

===============  ===========================================  ============  =============  =========================
rule             Delta                                        Delta < 0 by  Delta >= 0 by  projection
===============  ===========================================  ============  =============  =========================
``algorithm-3``  R - Rhat of the action taken                 1 - pi(a)     pi(a)          clip, divide by the sum
``section-7.4``  the same                                     pi(a)         1 - pi(a)      the same
``full-vector``  Q(a) - sum_b pi(b) Q(b), for every action    pi(a)         1 - pi(a)      Euclidean, with a minimum
===============  ===========================================  ============  =============  =========================

The first is the paper's Algorithm 3 as printed, the second its section 7.4 in words, the third Abdallah & Lesser's own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from routing_env.agents.base import Rate, rate_at
from routing_env.agents.simplex import clip_and_normalise, project_onto_simplex
from routing_env.agents.table import PolicyTableRouter, Samples
from routing_env.types import GameSpec

Rule = Literal["algorithm-3", "section-7.4", "full-vector"]


def sampled_update(
    policy: Tensor, average: Tensor, action: Tensor, return_: Tensor, legal: Tensor, step: float, rule: Rule
) -> tuple[Tensor, Tensor]:
    """One step of Algorithm 3 (lines 4 to 13) for every row, by the action that was taken.

    Args:
        policy: pi, float32 [..., A].
        average: Rhat, the average return of each action, float32 [..., A].
        action: int64 [...].
        return_: R, float32 [...].
        legal: bool [..., A].
        step: lambda_pi, also the step of the average.
        rule: "algorithm-3" or "section-7.4".

    Returns:
        The new policy and average.
    """
    taken, return_ = action.unsqueeze(-1), return_.unsqueeze(-1)
    average_taken = torch.lerp(average.gather(-1, taken), return_, step)
    delta = return_ - average_taken
    probability = policy.gather(-1, taken)
    towards, away = (probability, 1 - probability) if rule == "algorithm-3" else (1 - probability, probability)
    delta = delta * torch.where(delta < 0, away, towards)
    policy = policy.scatter_add(-1, taken, step * delta)
    return clip_and_normalise(policy, legal), average.scatter(-1, taken, average_taken)


def full_vector_update(
    policy: Tensor,
    value: Tensor,
    action: Tensor,
    return_: Tensor,
    legal: Tensor,
    step: float,
    value_step: float,
    minimum: float,
) -> tuple[Tensor, Tensor]:
    """One step of Abdallah & Lesser's rule (JAIR 2008, Algorithm 2) for every row: all actions move.

    Args:
        policy: pi, float32 [..., A].
        value: Q, float32 [..., A].
        action: int64 [...], the one whose value is observed.
        return_: float32 [...].
        legal: bool [..., A].
        step: of the policy.
        value_step: of Q.
        minimum: the least probability of a legal action.

    Returns:
        The new policy and value.
    """
    taken = action.unsqueeze(-1)
    value = value.scatter(-1, taken, torch.lerp(value.gather(-1, taken), return_.unsqueeze(-1), value_step))
    return wpl_step(policy, value, legal, step, minimum), value


def wpl_step(policy: Tensor, value: Tensor, legal: Tensor, step: float, minimum: float) -> Tensor:
    """Abdallah & Lesser's move of the whole policy, by given values Q; arguments as above."""
    delta = value - (policy * value).sum(-1, keepdim=True)
    delta = delta * torch.where(delta < 0, policy, 1 - policy)
    return project_onto_simplex(policy + step * delta, legal, minimum)


class WPL(PolicyTableRouter):
    """One WPL agent per task, with a table over depth and action.

    Args:
        spec: of the game.
        seed: of exploration.
        rule: see the module's table.
        step: of the policy, lambda_pi; by default 0.01, and 0.1 for the full vector.
        value_step: of Q in the full-vector rule.
        minimum: least probability in the full-vector rule.
        gamma: discount of the action rewards.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        rule: Rule = "algorithm-3",
        step: Rate | None = None,
        value_step: Rate = 0.05,
        minimum: float = 0.001,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        if rule not in ("algorithm-3", "section-7.4", "full-vector"):
            raise ValueError(f"rule is {rule!r}; it must be 'algorithm-3', 'section-7.4' or 'full-vector'")
        self.rule: Rule = rule
        self.step: Rate = step if step is not None else (0.1 if rule == "full-vector" else 0.01)
        self.value_step = value_step
        self.minimum = minimum
        self.gamma = gamma

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Algorithm 3, lines 2 to 13, or Abdallah & Lesser's rule."""
        (policy,), value = policies, self.value[samples.agent]
        rows = policy, value, samples.action, samples.return_, samples.legal
        step, value_step = rate_at(self.step, self.samples), rate_at(self.value_step, self.samples)
        if self.rule == "full-vector":
            policy, value = full_vector_update(*rows, step, value_step, self.minimum)
        else:
            policy, value = sampled_update(*rows, step, self.rule)
        self.value[samples.agent] = value
        return (policy,)
