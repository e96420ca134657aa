"""Hedge (Freund & Schapire, JCSS 1997): exponential weights when every action's return is known, not just one's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import Rate, TableRouter
from routing_env.agents.policies import uniform
from routing_env.agents.samples import Samples
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import State


def hedge_policy(evidence: Tensor, legal: Tensor, rate: float) -> Tensor:
    """Proportional to exp(rate G(a)) over the legal actions, float32 [..., A], for the evidence G, float32 [..., A]."""
    return (rate * evidence).masked_fill(~legal, -torch.inf).softmax(-1)


def hedge_update(evidence: Tensor, returns: Tensor, policy: Tensor, discount: float) -> Tensor:
    """G(a) <- delta G(a) + R(a) - sum_b p(b) R(b).

    The sum changes no weight, since it is the same for all actions. It gives a meaning to actions whose return is not
    known: they count as if they had earned the mean of the others, as sleeping experts do (Freund, Schapire, Singer &
    Warmuth, STOC 1997).

    Args:
        evidence: G, float32 [..., A].
        returns: R, float32 [..., A]; NaN where a return is not known.
        policy: p, float32 [..., A].
        discount: delta; below 1 it makes the learner forget (Cesa-Bianchi & Lugosi, 2006, section 2.11).
    """
    return discount * evidence + advantages(returns, policy)


def advantages(returns: Tensor, policy: Tensor) -> Tensor:
    """R(a) - sum_b p(b) R(b), where p is the policy among the actions whose return is known; 0 for the others.

    Args:
        returns: R, float32 [..., A]; NaN where a return is not known.
        policy: float32 [..., A].
    """
    known = ~returns.isnan()
    chance = policy * known
    chance = chance / chance.sum(-1, keepdim=True).clamp_min(torch.finfo(chance.dtype).tiny)
    returns = returns.where(known, 0.0)
    return (returns - (chance * returns).sum(-1, keepdim=True)).where(known, 0.0)


@dataclass(eq=False, kw_only=True)
class Hedge(TableRouter):
    """Hedge: exponential weights over the actions of each task and depth, from what every action would have earned.

    The return of an action at a depth is that of the same route with only this action changed. Where a trace has no
    returns of other actions, the return of the action taken is divided by its probability, as in EXP3.

    Attributes:
        evidence: G, float32 [agents, D, A].
    """

    captures: ClassVar[bool] = True
    space: ClassVar[SearchSpace] = {
        "rate": Choices((0.1, 0.3, 1.0, 3.0)),
        "discount": Choices((0.99, 0.998, 1.0)),
    }

    rate: float = 1.0
    """Rate of the exponential weights, in units of 1 / return."""
    discount: float = 1.0
    """Factor, in (0, 1], of an agent's earlier evidence at each sample; 1 forgets nothing."""
    pooled: Rate = 0.0
    """Weight of the pooled evidence of all agents in that of each agent: 0 uses only its own, 1 makes all agents alike.
    The schedule (1, 0, samples) lets tasks part as evidence grows."""
    exploration: Rate = (0.3, 0.02, 20_000)
    """Share of uniform exploration."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("above 0", "rate")
        self.check_numbers("in (0, 1]", "discount")
        self.check_rates("in [0, 1]", "pooled", "exploration")
        self.evidence = self.new_table()
        self.tables |= {"evidence": self.evidence}

    @property
    def needs_counterfactuals(self) -> bool:
        """Always."""
        return True

    def pooled_evidence(self) -> Tensor:
        """Each agent's evidence mixed with that of all agents, float32 [agents, D, A]."""
        if self.pooled == 0:
            return self.evidence
        return torch.lerp(self.evidence, self.evidence.sum(0, keepdim=True), self.now(self.pooled))

    def probability(self, state: State) -> Tensor:
        """The exponential weights and uniform exploration."""
        weights = hedge_policy(self.preference(state), state.legal, self.rate)
        return torch.lerp(weights, uniform(state.legal), self.now(self.exploration))

    def preference(self, state: State) -> Tensor:
        """The evidence."""
        return self.row(self.pooled_evidence(), state)

    def update(self, samples: Samples) -> None:
        """Update every depth by itself."""
        returns = samples.others
        if returns is None:
            estimate = (samples.return_ / samples.probability).unsqueeze(-1)
            returns = torch.zeros_like(samples.legal, dtype=estimate.dtype)
            returns = returns.scatter(-1, samples.action.unsqueeze(-1), estimate).where(samples.legal, torch.nan)
        policy = hedge_policy(self.pooled_evidence()[samples.agent], samples.legal, self.rate)
        self.evidence[samples.agent] = hedge_update(self.evidence[samples.agent], returns, policy, self.discount)
