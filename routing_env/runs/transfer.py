"""Measures of learning tasks that arrive: what is kept of the old ones, and what they give to the new ones.

All of them are functions of the accuracy matrix R, float64 [S + 1, T]: R[0, t] is the accuracy on task t before any
training, and R[s, t] that after stage s. Task t arrives at stage ``arrival[t]``, from 1 to S. In the sources one task
arrives at each stage; where several do, the means below run over tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def arrival_stages(stages: Sequence[int]) -> NDArray[np.int64]:
    """The stage from 1 at which each task arrives, int64 [T], from the number of tasks of each stage."""
    return np.repeat(np.arange(1, len(stages) + 1), stages)


def average_accuracy(matrix: Matrix) -> float:
    """Mean accuracy over all tasks after the last stage: ACC of Lopez-Paz & Ranzato (2017, equation 2)."""
    return float(matrix[-1].mean())


def backward_transfer(matrix: Matrix, arrival: NDArray[np.int64]) -> float:
    """Mean of R[S, t] - R[arrival of t, t] over the tasks of earlier stages: BWT of Lopez-Paz & Ranzato (equation 3).

    Negative values are forgetting. NaN where there is only one stage.
    """
    earlier = np.flatnonzero(arrival < len(matrix) - 1)
    return _mean(matrix[-1, earlier] - matrix[arrival[earlier], earlier])


def forward_transfer(matrix: Matrix, arrival: NDArray[np.int64]) -> float:
    """Mean of R[arrival of t - 1, t] - R[0, t] over the tasks of later stages: FWT of Lopez-Paz & Ranzato (equation 4).

    It is the accuracy on a task just before it arrives, against that of the untrained network. NaN where there is only
    one stage.
    """
    later = np.flatnonzero(arrival > 1)
    return _mean(matrix[arrival[later] - 1, later] - matrix[0, later])


def forgetting(matrix: Matrix, arrival: NDArray[np.int64]) -> float:
    """Mean of max R[1..S-1, t] - R[S, t] over the tasks of earlier stages (Chaudhry et al., 2018, section 3, F_k).

    NaN where there is only one stage.
    """
    earlier = np.flatnonzero(arrival < len(matrix) - 1)
    return _mean(matrix[1:-1, earlier].max(0) - matrix[-1, earlier]) if len(earlier) else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
