"""Cuts that keep every class in training."""

from __future__ import annotations

from operator import index
from typing import Any

import torch
from torch import Tensor


def seeded(seed: Any) -> torch.Generator:
    """A generator of random numbers.

    Raises:
        ValueError: The seed is not a whole number from 0 to 2**63 - 1.
    """
    try:
        number = int(index(seed))
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise ValueError(f"seed is {seed!r}; it must be a whole number of at least 0")
    return torch.Generator("cpu").manual_seed(number)


def hold_out(order: Tensor, number: int, row: Tensor, label: Tensor) -> Tensor:
    """Take the first rows of an order, but leave out rows that training needs.

    For each label, the last of its rows in the order stays in training, so that no label is left without a sample.
    Where the first ``number`` rows leave none of them without, they are exactly what is returned.

    Args:
        order: int64 [R], a permutation of 0 to R - 1.
        number: rows to take.
        row: int64 [N], the row of each sample.
        label: int64 [N], the label of each sample, any numbers; a task and its class count as one label.

    Returns:
        int64 [number], or fewer if training needs the others.
    """
    rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device="cpu"))
    labels, label = label.unique(return_inverse=True)
    last = torch.zeros_like(labels).scatter_reduce(0, label, rank[row], "amax")
    return order[torch.ones(len(order), dtype=torch.bool, device="cpu").index_fill(0, last, False)][:number]
