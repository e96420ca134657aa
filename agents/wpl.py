"""Weighted Policy Learner (Abdallah & Lesser, AAMAS 2006 and JAIR 2008), the router of the paper's main results.

Three rules go by this name. They differ in what they multiply a step Delta by, and so in where they slow down:

===============  ===========================================  ============  =============  =========================
rule             Delta                                        Delta < 0     Delta >= 0     projection
===============  ===========================================  ============  =============  =========================
``algorithm-3``  R - Rhat of the action taken                 1 - pi(a)     pi(a)          clip, divide by the sum
``section-7.4``  the same                                     pi(a)         1 - pi(a)      the same
``full-vector``  Q(a) - sum_b pi(b) Q(b), for every action    pi(a)         1 - pi(a)      Euclidean, with a minimum
===============  ===========================================  ============  =============  =========================

The first is the paper's Algorithm 3 as printed, the second is what its section 7.4 says in words, and the third is the
original rule of Abdallah & Lesser. The third can also learn from full information: after each sample, Q(a) moves
towards the return of every action a at this depth, with the rest of the route as it was, instead of that of the action
taken alone.

The first two rules compare a return with the average return of the same action. So the mean of Delta is 0 whatever the
action earns, and what moves the policy is the spread of the returns. Let m(a) be half the mean of |Delta| for action a.
By section 7.4 the probability of a drifts as in a replicator equation with fitness m(a) (1 - 2 pi(a)), which favours
improbable actions: with equal spreads the uniform policy is the attractor, even if one action is much better than the
others. By Algorithm 3 the fitness is the negative of that, and the policy becomes deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from routing_env.agents.base import PolicyTableRouter, Rate, move_taken
from routing_env.agents.policies import clip_and_normalise, project_onto_simplex
from routing_env.agents.samples import Samples, of_taken
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Trace

Rule = Literal["algorithm-3", "section-7.4", "full-vector"]
Information = Literal["sampled", "full"]


def sampled_update(
    policy: Tensor, average: Tensor, action: Tensor, return_: Tensor, legal: Tensor, step: float, rule: Rule
) -> tuple[Tensor, Tensor]:
    """One step of Algorithm 3 (lines 4 to 13) for every row; only the probability of the action taken moves.

    Args:
        policy: pi, float32 [..., A].
        average: Rhat, the average return of each action, float32 [..., A].
        action: int64 [...].
        return_: R, float32 [...].
        legal: bool [..., A].
        step: lambda_pi, which is also the step of the average.
        rule: "algorithm-3" or "section-7.4".

    Returns:
        The new policy and average.
    """
    average = move_taken(average, action, return_, step)
    delta, probability = return_ - of_taken(average, action), of_taken(policy, action)
    towards, away = (probability, 1 - probability) if rule == "algorithm-3" else (1 - probability, probability)
    delta = delta * torch.where(delta < 0, away, towards)
    policy = policy.scatter_add(-1, action.unsqueeze(-1), (step * delta).unsqueeze(-1))
    return clip_and_normalise(policy, legal), average


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
    """One step of Abdallah & Lesser's rule (JAIR 2008, Algorithm 2) for every row; all probabilities move.

    Args:
        policy: pi, float32 [..., A].
        value: Q, float32 [..., A].
        action: int64 [...], the action whose return is observed.
        return_: R, float32 [...].
        legal: bool [..., A].
        step: Step of the policy.
        value_step: Step of Q.
        minimum: Least probability of a legal action.

    Returns:
        The new policy and value.
    """
    value = move_taken(value, action, return_, value_step)
    return wpl_step(policy, value, legal, step, minimum), value


def move_all(value: Tensor, others: Tensor, step: float) -> Tensor:
    """Q(a) <- Q(a) + alpha (R(a) - Q(a)) for every action whose return is known.

    Args:
        value: Q, float32 [..., A].
        others: R(a), float32 [..., A]; NaN where it is not known.
        step: alpha.
    """
    return torch.lerp(value, others.where(~others.isnan(), value), step)


def wpl_step(policy: Tensor, value: Tensor, legal: Tensor, step: float, minimum: float) -> Tensor:
    """Abdallah & Lesser's step of the whole policy for given values Q; arguments as above."""
    delta = value - (policy * value).sum(-1, keepdim=True)
    delta = delta * torch.where(delta < 0, policy, 1 - policy)
    return project_onto_simplex(policy + step * delta, legal, minimum)


@dataclass(eq=False, kw_only=True)
class WPL(PolicyTableRouter):
    """Weighted Policy Learner: one agent per task, with a table over depth and action."""

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {
        "rule": Choices(("algorithm-3", "full-vector")),
        "step": Choices((0.003, 0.01, 0.03, 0.1, 0.3)),
    }

    rule: Rule = "algorithm-3"
    """Update rule: "algorithm-3", "section-7.4", which draws the policy towards the uniform one, or "full-vector"; the
    top of its file has the details."""
    step: Rate | None = None
    """Step of the policy, lambda_pi; defaults to 0.01, and to 0.1 for the full-vector rule."""
    value_step: Rate = 0.05
    """Step of Q (full-vector rule only)."""
    minimum: float = 0.001
    """Least probability of a legal action (full-vector rule only)."""
    information: Information = "sampled"
    """What Q learns from: "sampled", the return of the action taken, or "full", the returns of all actions, which the
    game then computes (full-vector rule only)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("rule", get_args(Rule))
        self.check_rates("at least 0", "value_step", *([] if self.step is None else ["step"]))
        self.check_numbers("in [0, 1]", "minimum")
        self.check_choice("information", get_args(Information))
        if self.information == "full" and self.rule != "full-vector":
            raise ValueError(
                f"information is 'full' and rule {self.rule!r}, which compares the action taken with itself; "
                "use rule='full-vector'"
            )
        for option in () if self.rule == "full-vector" else ("value_step", "minimum"):
            if (value := getattr(self, option)) != getattr(WPL, option):
                raise ValueError(f"{option} is {value} beside rule {self.rule!r}, which has none; use 'full-vector'")

    @property
    def needs_counterfactuals(self) -> bool:
        """Whether the information is full."""
        return self.information == "full"

    def learn(self, trace: Trace) -> dict[str, float]:
        """As the base.

        Raises:
            ValueError: The information is full, and the trace has no counterfactuals.
        """
        if self.needs_counterfactuals:
            trace.require_counterfactuals()
        return super().learn(trace)

    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Lines 2 to 13 of Algorithm 3, or Abdallah & Lesser's rule."""
        (policy,), value = policies, self.value[samples.agent]
        rows = policy, value, samples.action, samples.return_, samples.legal
        usual = 0.1 if self.rule == "full-vector" else 0.01
        step = self.now(usual if self.step is None else self.step)
        if samples.others is not None and self.needs_counterfactuals:
            value = move_all(value, samples.others, self.now(self.value_step))
            policy = wpl_step(policy, value, samples.legal, step, self.minimum)
        elif self.rule == "full-vector":
            policy, value = full_vector_update(*rows, step, self.now(self.value_step), self.minimum)
        else:
            policy, value = sampled_update(*rows, step, self.rule)
        self.value[samples.agent] = value
        return (policy,)
