"""Arrays for tests, and what a data set has made of them."""

import warnings
from typing import Any

import numpy as np
import torch

from routing_env import MultiTaskData
from routing_env.data import Split

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 3
ROWS = np.arange(60)


def silently(*args: Any, **options: Any) -> MultiTaskData:
    """The data, which must give no cause for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return MultiTaskData.from_arrays(*args, **options)


def quietly(*args: Any, **options: Any) -> MultiTaskData:
    """The data, whatever is remarked about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MultiTaskData.from_arrays(*args, **options)


def splits(data: MultiTaskData) -> tuple[Split, Split, Split]:
    return data.train, data.validation, data.test


def samples(data: MultiTaskData, task: int) -> list[tuple[bytes, float]]:
    """Inputs and targets of a task over all splits, sorted."""
    found: list[tuple[bytes, float]] = []
    for split in splits(data):
        mine = split[split.task == task]
        rows = data.inputs[mine.index].flatten(1).to(torch.float32).numpy()
        found += [(row.tobytes(), float(target)) for row, target in zip(rows, mine.target.flatten(), strict=True)]
    return sorted(found)


def expected(inputs: np.ndarray, targets: np.ndarray) -> list[tuple[bytes, float]]:
    flat = np.ascontiguousarray(inputs, np.float32).reshape(len(inputs), -1)
    return sorted((row.tobytes(), float(target)) for row, target in zip(flat, targets, strict=True))
