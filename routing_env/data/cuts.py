"""Cuts that keep every class in training."""

from __future__ import annotations

import torch
from torch import Tensor


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
    rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order)))
    labels, label = label.unique(return_inverse=True)
    last = torch.zeros_like(labels).scatter_reduce(0, label, rank[row], "amax")
    return order[torch.ones(len(order), dtype=torch.bool).index_fill(0, last, False)][:number]
