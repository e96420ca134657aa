"""EXP3 (Auer, Cesa-Bianchi, Freund & Schapire, SIAM J. Computing 32, 2002): a bandit against an adversary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import TableRouter
from routing_env.agents.samples import Samples
from routing_env.names import is_number, require
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import State


def exp3_policy(log_weight: Tensor, legal: Tensor, exploration: float) -> Tensor:
    """(1 - gamma) w(a) / sum_b w(b) + gamma / K over the K legal actions, float32 [..., A]."""
    weights = log_weight.masked_fill(~legal, -torch.inf).softmax(-1)
    return (1 - exploration) * weights + exploration * legal / legal.sum(-1, keepdim=True)


def exp3_update(
    log_weight: Tensor, action: Tensor, reward: Tensor, probability: Tensor, actions: Tensor, exploration: float
) -> Tensor:
    """Log w(a) <- log w(a) + (gamma / K) reward / p(a) for the action taken in every row.

    Args:
        log_weight: float32 [..., A].
        action: int64 [...].
        reward: float32 [...], in [0, 1].
        probability: p(a), the probability with which the action was drawn, float32 [...].
        actions: K, the number of legal actions, [...].
        exploration: gamma.
    """
    change = exploration / actions * reward / probability
    return log_weight.scatter_add(-1, action.unsqueeze(-1), change.unsqueeze(-1))


WIDEN, NARROW = 0.1, 0.001
"""Shares of its width by which a return outside the range moves the end that it passes, and one inside moves both."""


def follow_range(seen: Tensor, return_: Tensor, present: Tensor | None = None) -> Tensor:
    """Move a range by the returns of a deal, so that a few outliers cannot stretch it.

    EXP3 needs rewards in [0, 1]. With the least and the greatest return ever seen as 0 and 1, a single return far
    outside would press all others together for good. So each end follows a quantile by stochastic approximation
    (Robbins & Monro, 1951), with steps in proportion to the width: a return beyond an end moves it outwards, at most
    to that return, by ``WIDEN`` of the width, and every return between the ends moves both inwards by ``NARROW`` of
    it. They rest where about one return in a hundred lies beyond each of them; such returns count as 0 or 1, as in the
    truncation of rewards with heavy tails (Bubeck, Cesa-Bianchi & Lugosi, 2013). Until two different returns have been
    seen, the range takes in all of them.

    Returns that take only two values stay the ends of the range for ever.

    Args:
        seen: The ends so far, float32 [2]; (inf, -inf) at first.
        return_: float32 [N, ...].
        present: bool [N], the rows of ``return_`` that count; by default all.

    Returns:
        The new ends, float32 [2].
    """
    least, greatest = seen
    width = greatest - least
    lowest, highest = return_, return_
    if present is not None:
        absent = ~present.view(-1, *[1] * (return_.dim() - 1))
        return_ = return_.masked_fill(absent, torch.nan)  # neither below nor above nor inside
        lowest, highest = return_.masked_fill(absent, torch.inf), return_.masked_fill(absent, -torch.inf)
    first, last = lowest.min(), highest.max()
    below, above = (return_ < least).sum(), (return_ > greatest).sum()
    inside = ((return_ > least) & (return_ < greatest)).sum()
    inwards = width * (1 - (1 - NARROW) ** inside) / 2
    down = (least - WIDEN * width * below).maximum(first)
    up = (greatest + WIDEN * width * above).minimum(last)
    moved = torch.stack([torch.where(below > 0, down, least + inwards), torch.where(above > 0, up, greatest - inwards)])
    return torch.where(width > 0, moved, torch.stack([least.minimum(first), greatest.maximum(last)]))


@dataclass(eq=False, kw_only=True)
class EXP3(TableRouter):
    """EXP3: one adversarial bandit per task and depth.

    Attributes:
        log_weight: float32 [agents, D, A].
        seen_range: The returns that count as 0 and 1, float32 [2].
    """

    captures: ClassVar[bool] = True
    shared: ClassVar[tuple[str, ...]] = ("reward_range",)
    space: ClassVar[SearchSpace] = {"exploration": Choices((0.03, 0.1, 0.2, 0.3, 0.5))}

    exploration: float = 0.1
    """Share of uniform exploration, gamma of the source in (0, 1]; also the learning rate."""
    reward_range: tuple[float, float] | None = None
    """Returns that are rescaled to 0 and 1; those beyond are clipped. By default the range follows the returns seen,
    without being stretched by a few outliers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("in (0, 1]", "exploration")
        given = self.reward_range
        if given is not None:
            holds = len(given) == 2 and all(map(is_number, given)) and given[0] < given[1]
            require("reward_range", given, holds, "(least, greatest), in this order")
        self.seen_range = torch.tensor(given or (torch.inf, -torch.inf), device=self.spec.device)
        self.log_weight = self.new_table()
        self.tables |= {"log_weight": self.log_weight, "reward_range": self.seen_range}

    def probability(self, state: State) -> Tensor:
        """The bandit's mixture of weights and uniform exploration."""
        return exp3_policy(self.row(self.log_weight, state), state.legal, self.exploration)

    def preference(self, state: State) -> Tensor:
        """The log-weights."""
        return self.row(self.log_weight, state)

    def update(self, samples: Samples) -> None:
        """Update every depth as a separate bandit."""
        return_ = samples.return_
        if self.reward_range is None:
            self.seen_range.copy_(follow_range(self.seen_range, return_, samples.present))
        least, greatest = self.seen_range
        reward = ((return_ - least) / (greatest - least)).nan_to_num(0.5).clamp(0, 1)
        count = samples.legal.sum(-1)
        self.log_weight[samples.agent] = exp3_update(
            self.log_weight[samples.agent], samples.action, reward, samples.probability, count, self.exploration
        )
