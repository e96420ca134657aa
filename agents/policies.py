"""Policies, as probabilities over the last axis of a tensor: making, projecting and drawing from them."""

from __future__ import annotations

import torch
from torch import Tensor


def best_action(preference: Tensor, legal: Tensor) -> Tensor:
    """The legal action with the highest preference, int64 [B]; the first one of equals."""
    return preference.masked_fill(~legal, -torch.inf).argmax(1)


def draw_action(probability: Tensor, generator: torch.Generator) -> Tensor:
    """One action per row of [..., A], int64 [...]; ``torch.multinomial``'s own numbers, without its wait for a device.

    The action whose exponential clock, at the rate of its probability, rings first.
    """
    return (probability / torch.empty_like(probability).exponential_(generator=generator)).argmax(-1)


MANY = 100
"""With this many actions or more, one uniform number per lane draws an action, not one per action."""


def draw_from_many(probability: Tensor, generator: torch.Generator) -> Tensor:
    """One action per row of [..., A], int64 [...]: the first whose cumulative probability exceeds a uniform number.

    A number that rounding has moved to the sum of all draws the last action that is possible.
    """
    cumulative = probability.cumsum(-1)
    whole = cumulative[..., -1:]
    drawn = torch.rand(whole.shape, generator=generator, device=whole.device) * whole
    return torch.minimum((cumulative <= drawn).sum(-1), (cumulative < whole).sum(-1))


def uniform(legal: Tensor) -> Tensor:
    """Equal probability for every legal action, float32 [..., A]."""
    return legal / legal.sum(-1, keepdim=True)


def epsilon_greedy(preference: Tensor, legal: Tensor, epsilon: float) -> Tensor:
    """Probability epsilon spread over the legal actions, and the rest on the best one; float32 [B, A]."""
    best = best_action(preference, legal).unsqueeze(1)
    spread = epsilon * uniform(legal)
    return spread.scatter_add(1, best, (1 - epsilon) * spread.new_ones(best.shape))


_TINY = torch.finfo(torch.float32).tiny  # stands for 0: it vanishes next to larger numbers, and alone it is uniform


def clip_and_normalise(policy: Tensor, legal: Tensor) -> Tensor:
    """The paper's simplex projection, clip(pi) / sum(clip(pi)); a row that is clipped to zeros becomes uniform."""
    clipped = policy.clamp(_TINY, 1) * legal
    return clipped / clipped.sum(-1, keepdim=True)


def project_onto_simplex(x: Tensor, legal: Tensor, minimum: float = 0.0) -> Tensor:
    """The nearest distribution (Euclidean) that gives every legal action at least ``minimum`` and the others 0.

    Held, Wolfe & Crowder (1974): subtract the one threshold that leaves a sum of 1 after clipping at 0; it is the
    greatest of (sum of the n largest - 1) / n. A minimum that leaves no room gives the uniform distribution.
    """
    count = legal.sum(-1, keepdim=True)
    least = (1 / count).clamp_max(minimum)
    above = (x - least).masked_fill(~legal, -torch.inf)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device)
    ordered = above.sort(-1, descending=True).values
    threshold = ((ordered.cumsum(-1) - (1 - count * least)) / rank).amax(-1, keepdim=True)
    return ((above - threshold).clamp_min(0) + least) * legal
