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

from routing_env.agents.table import TableRouter, in_turn, uniform
from routing_env.types import GameSpec, State, Trace

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
    delta = value - (policy * value).sum(-1, keepdim=True)
    delta = delta * torch.where(delta < 0, policy, 1 - policy)
    return project_onto_simplex(policy + step * delta, legal, minimum), value


def clip_and_normalise(policy: Tensor, legal: Tensor) -> Tensor:
    """The paper's simplex projection, clip(pi) / sum(clip(pi)); a row that clips to nothing becomes uniform."""
    clipped = policy.clamp(0, 1) * legal
    total = clipped.sum(-1, keepdim=True)
    return torch.where(total > 0, clipped / total, uniform(legal))


def project_onto_simplex(x: Tensor, legal: Tensor, minimum: float = 0.0) -> Tensor:
    """The nearest distribution (Euclidean) that gives every legal action at least ``minimum`` and the others 0.

    Held, Wolfe & Crowder (1974): subtract the one threshold that leaves a sum of 1 after clipping at 0.
    """
    count = legal.sum(-1, keepdim=True)
    minimum_ = (1 / count).clamp_max(minimum) if minimum else torch.zeros_like(count, dtype=x.dtype)
    free = 1 - count * minimum_
    shifted = (x - minimum_).masked_fill(~legal, -torch.inf)
    ordered = shifted.sort(-1, descending=True).values
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device)
    threshold = (ordered.where(rank <= count, 0.0).cumsum(-1) - free) / rank
    support = ((ordered > threshold) & (rank <= count)).sum(-1, keepdim=True).clamp_min(1)
    projected = (shifted - threshold.gather(-1, support - 1)).clamp_min(0) + minimum_
    return projected.where(legal, 0.0)


class WPL(TableRouter):
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
        step: float | None = None,
        value_step: float = 0.05,
        minimum: float = 0.001,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        if rule not in ("algorithm-3", "section-7.4", "full-vector"):
            raise ValueError(f"rule is {rule!r}; it must be 'algorithm-3', 'section-7.4' or 'full-vector'")
        self.rule: Rule = rule
        self.step = step if step is not None else (0.1 if rule == "full-vector" else 0.01)
        self.value_step = value_step
        self.minimum = minimum
        self.gamma = gamma
        self.policy = uniform(spec.legal.expand(spec.tasks, -1, -1))
        self.value = self.new_table()
        self.tables = {"policy": self.policy, "value": self.value}

    def probability(self, state: State) -> Tensor:
        """The table's row, over the actions that are legal in this very state."""
        return clip_and_normalise(self.policy[state.task, state.depth], state.legal)

    def preference(self, state: State) -> Tensor:
        """The most probable action is the greedy one."""
        return self.policy[state.task, state.depth]

    def learn(self, trace: Trace) -> dict[str, float]:
        """Algorithm 3 for every agent, sample by sample."""
        actions, returns, agents, legal = trace.actions, trace.returns(self.gamma), trace.task, self.spec.legal
        for lanes in in_turn(agents):
            agent = agents[lanes]
            rows = self.policy[agent], self.value[agent], actions[lanes], returns[lanes], legal
            if self.rule == "full-vector":
                policy, value = full_vector_update(*rows, self.step, self.value_step, self.minimum)
            else:
                policy, value = sampled_update(*rows, self.step, self.rule)
            self.policy[agent], self.value[agent] = policy, value
        return {}
