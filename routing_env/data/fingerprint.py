"""A short digest of each split, by which a run recognises its data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_ROWS_AT_ONCE = 4096


def fingerprint(
    inputs: Tensor,
    index: Tensor,
    task: Tensor,
    target: Tensor,
    task_names: Sequence[str],
    classes: Sequence[int] | None,
) -> str:
    """Digest the samples of a split: their inputs as stored, tasks and targets in order, and what the tasks are.

    The digest does not depend on the device, nor on where in ``inputs`` the rows lie: rows are taken in the order in
    which the samples first use them.

    Args:
        inputs: [M, *input shape].
        index: int64 [N], rows of the inputs.
        task: int64 [N].
        target: [N] or [N, O].
        task_names: T names.
        classes: number of classes of each task; None for regression.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    rows, sample_row = index.cpu().unique(return_inverse=True)
    places = torch.arange(len(index), device="cpu")
    first = torch.full_like(rows, len(index)).scatter_reduce(0, sample_row, places, "amin")
    order = first.argsort()
    rank = torch.empty_like(order).scatter(0, order, places[: len(order)])
    classes = None if classes is None else list(classes)
    digest.update(repr((list(task_names), classes, str(inputs.dtype), list(inputs.shape[1:]))).encode())
    for part in rows[order].to(inputs.device).split(_ROWS_AT_ONCE):
        digest.update(inputs.index_select(0, part).cpu().numpy().data)
    for column in (rank[sample_row], task, target):
        digest.update(f"{column.dtype} {list(column.shape)}".encode())
        digest.update(column.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
