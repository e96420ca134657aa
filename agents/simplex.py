"""Projections onto the probability simplex, restricted to the legal actions."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = torch.finfo(torch.float32).tiny
"""Stands for 0 in a row that has more than that, and makes a row that has not uniform."""


def clip_and_normalise(policy: Tensor, legal: Tensor) -> Tensor:
    """The paper's simplex projection, clip(pi) / sum(clip(pi)); a row that clips to nothing becomes uniform."""
    clipped = policy.clamp(_LEAST, 1) * legal
    return clipped / clipped.sum(-1, keepdim=True)


def project_onto_simplex(x: Tensor, legal: Tensor, minimum: float = 0.0) -> Tensor:
    """The nearest distribution (Euclidean) that gives every legal action at least ``minimum`` and the others 0.

    Held, Wolfe & Crowder (1974): subtract the one threshold that leaves a sum of 1 after clipping at 0. It is the
    greatest of (sum of the n largest - 1) / n. A minimum that leaves no room stands for the uniform distribution.
    """
    count = legal.sum(-1, keepdim=True)
    least = (1 / count).clamp_max(minimum)
    above = (x - least).masked_fill(~legal, -torch.inf)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device)
    ordered = above.sort(-1, descending=True).values
    threshold = ((ordered.cumsum(-1) - (1 - count * least)) / rank).amax(-1, keepdim=True)
    return ((above - threshold).clamp_min(0) + least) * legal
