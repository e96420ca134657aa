"""Data whose test split nobody may evaluate: its labels make the loss raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from routing_env import MultiTaskData

SECRET: dict[str, Any] = {
    "data": f"{Path(__file__).resolve()}:load",
    "loss": f"{Path(__file__).resolve()}:loss",
    "validation": 0.2,
    "hidden": 8,
}
"""Settings of a game on these data."""


def load(*, validation: float, seed: int) -> MultiTaskData:
    """Three tasks; only test samples are of class 2."""
    rng = np.random.default_rng(0)

    def tasks(low: int, high: int) -> dict[str, Any]:
        return {f"task {t}": (rng.normal(size=(40, 4)), rng.integers(low, high, 40)) for t in range(3)}

    train, test, classes = tasks(0, 2), tasks(2, 3), {f"task {t}": 3 for t in range(3)}
    return MultiTaskData.from_arrays(train, test=test, classes=classes, name="secret", validation=validation, seed=seed)


def loss(output: Tensor, target: Tensor) -> Tensor:
    """The cross entropy, float32 [B].

    Raises:
        ValueError: A sample is one of the test split.
    """
    if (target == 2).any():
        raise ValueError("somebody has read the test split")
    return cross_entropy(output, target, reduction="none")
