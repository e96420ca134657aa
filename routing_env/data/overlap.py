"""Finds test and validation samples whose inputs occur in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from routing_env.data.base import Split
from routing_env.data.cuts import seeded

_ROWS_AT_ONCE = 4096

MANY = 0.05
"""A few inputs occur twice in most data; more than this share of a task's test samples is worth a warning."""


@dataclass(frozen=True)
class Overlap:
    """Samples of a split whose inputs occur in training, by content.

    Attributes:
        own: bool [N], the input trains the same task.
        other: bool [N], the input trains another task and not the same one.
    """

    own: Tensor
    other: Tensor


def number_by_content(inputs: Tensor) -> Tensor:
    """Number the rows of the inputs such that equal rows, and no others, have equal numbers: int64 [M].

    It works on hashes of the rows, and so makes no second copy of the inputs.

    Args:
        inputs: uint8 or float32 [M, *input shape].
    """
    rows = inputs.flatten(1)
    if rows.shape[1] * rows.itemsize % 4 == 0:
        rows = rows.view(torch.int32)  # of float32 the bits: -0.0 is not 0.0
    weights = torch.randint(-(2**63), 2**63 - 1, (rows.shape[1],), generator=seeded(0))
    return number_by_hash(rows, torch.cat([part.to(torch.int64) @ weights for part in rows.split(_ROWS_AT_ONCE)]))


def number_by_hash(rows: Tensor, hashes: Tensor) -> Tensor:
    """Number rows by their hashes; rows that share a hash are compared, so that the result is exact with any hash.

    Args:
        rows: integers [M, F].
        hashes: int64 [M], equal for equal rows.

    Returns:
        int64 [M], equal for equal rows and no others.
    """
    hashes, order = hashes.sort(stable=True)
    begins = torch.ones_like(hashes, dtype=torch.bool)
    begins[1:] = hashes[1:] != hashes[:-1]
    number = torch.empty_like(order).scatter(0, order, begins.cumsum(0) - 1)
    first = order[begins][number]
    repeats = (first != torch.arange(len(rows))).nonzero()[:, 0]
    strange = [part[(rows[part] != rows[first[part]]).any(1)] for part in repeats.split(_ROWS_AT_ONCE)]
    if len(unlike := torch.cat([repeats[:0], *strange])):  # another row has their hash
        _, others = rows[unlike].unique(dim=0, return_inverse=True)
        number[unlike] = others + len(rows)
    return number


def find_overlap(content: Tensor, held_out: Split, training: Split) -> Overlap:
    """Compare the samples of a split with those of training.

    Args:
        content: int64 [M], from :func:`number_by_content`.
        held_out: test or validation split.
        training: training split.
    """
    tasks = 1 + int(training.task.max())
    known, seen = content[training.index], content[held_out.index]
    own = torch.isin(seen * tasks + held_out.task, known * tasks + training.task)
    return Overlap(own, torch.isin(seen, known) & ~own)


def refuse_training_rows(names: Sequence[str], content: Tensor, tests: Split, training: Split) -> None:
    """Refuse a given test split that consists of rows that train the same task.

    Args:
        names: names of the tasks.
        content: int64 [M], from :func:`number_by_content`.
        tests: test split.
        training: training split.

    Raises:
        ValueError: A task has a row in both splits, or its two splits have the same inputs in the same order.
    """
    for task, name in enumerate(names):
        tested, trained = (split.index[split.task == task] for split in (tests, training))
        both = int(torch.isin(tested, trained).sum())
        if not both and torch.equal(content[tested], content[trained]) and len(content[tested].unique()) > 1:
            both = len(tested)
        if both:
            raise ValueError(
                f"{both} of the {len(tested)} test rows of task {name!r} are rows that train it; test it on other "
                "rows, or pass a share such as test=0.2 to have them cut off"
            )


def describe_overlap(
    names: Sequence[str], content: Tensor, splits: tuple[Split, Split, Split], test_given: bool
) -> list[str]:
    """Say which samples are tested or validated by inputs that train.

    Args:
        names: names of the tasks.
        content: int64 [M], from :func:`number_by_content`.
        splits: training, validation and test split.
        test_given: whether the test split was given rather than drawn; then a single sample is worth a remark.

    Returns:
        At most two remarks: about the same task and about others.
    """
    train, validation, tests = splits
    trained = Split(*(torch.cat([getattr(s, f) for s in (train, validation)]) for f in ("index", "task", "target")))
    test, validated = find_overlap(content, tests, trained), find_overlap(content, validation, train)
    remarks: list[str] = []
    for task, name in enumerate(names):
        of_task = tests.task == task
        count, samples = int(test.own[of_task].sum()), int(of_task.sum())
        if count > (0 if test_given else MANY * samples):
            remarks.append(
                f"{count} of the {samples} test samples of task {name!r} have inputs that occur among its training "
                "samples as well, so the test rewards memorising; remove the duplicates unless this is intended"
            )
            break
    if test.other.any() or validated.other.any():
        leaking = test.other if test.other.any() else validated.other
        split = tests if test.other.any() else validation
        which = "test" if test.other.any() else "validation"
        tasks = split.task[leaking].unique().tolist()
        counts = ", ".join(f"{int(leaking[split.task == t].sum())} of task {names[t]!r}" for t in tasks[:3])
        remarks.append(
            f"{int(leaking.sum())} of the {len(leaking)} {which} samples have inputs that train another task ({counts}"
            f"{', ...' if len(tasks) > 3 else ''}). To have shared inputs cut together, give them as rows of one "
            "array, from_arrays(inputs=X, tasks={name: (rows, targets)}), with a share as test"
        )
    return remarks
