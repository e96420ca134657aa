"""Scores of runs and tests of their differences, as pure functions of arrays.

Axes: S seeds, T tasks, E evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, stats


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval, whose ends are NaN for a single seed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The difference between two entrants over the same seeds.

    Attributes:
        difference: Mean over seeds of ours minus theirs.
        low: Lower end of the 95 % confidence interval of the difference. NaN, as are ``high`` and ``p``, for a single
            seed, and if the difference is the same for every seed (unless it is 0).
        high: Upper end of the interval.
        p: p-value of the two-sided paired t-test.
        seeds: Number of seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int


def worst_task(accuracy: ArrayLike) -> NDArray[np.float64]:
    """Accuracy of the worst task of each run: [..., T] to [...]."""
    return np.min(np.asarray(accuracy, dtype=np.float64), axis=-1)


def area_under_curve(epochs: ArrayLike, values: ArrayLike) -> float:
    """Mean height of a learning curve by the trapezoidal rule, or its only value.

    Args:
        epochs: [E], ascending.
        values: [E].
    """
    x, y = np.asarray(epochs, dtype=np.float64), np.asarray(values, dtype=np.float64)
    return float(y[0] if len(x) == 1 else integrate.trapezoid(y, x) / (x[-1] - x[0]))


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores (Agarwal et al., NeurIPS 2021)."""
    return float(stats.trim_mean(np.ravel(np.asarray(scores, dtype=np.float64)), 0.25))


def bootstrap_interquartile_mean(scores: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Interquartile mean with a stratified percentile bootstrap interval (Agarwal et al., NeurIPS 2021).

    The strata are the tasks: seeds are resampled within each task.

    Args:
        scores: [S, T].
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.
    """
    table = np.asarray(scores, dtype=np.float64)

    def statistic(*strata: NDArray[np.float64], axis: int = -1) -> Any:
        return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)

    value = interquartile_mean(table)
    if len(table) < 2:
        return Interval(value, np.nan, np.nan)
    drawn = np.random.default_rng(seed)
    result = stats.bootstrap(
        tuple(table.T), statistic, n_resamples=resamples, vectorized=True, method="percentile", rng=drawn
    )
    low, high = result.confidence_interval
    return Interval(value, float(low), float(high))


def mean_interval(values: ArrayLike, *, axis: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over seeds and half width of its 95 % t-interval, which is NaN for a single seed."""
    table = np.asarray(values, dtype=np.float64)
    seeds = table.shape[axis]
    mean = np.mean(table, axis=axis)
    if seeds < 2:
        return mean, np.full_like(mean, np.nan)
    spread = np.std(table, axis=axis, ddof=1) / np.sqrt(seeds)
    return mean, float(stats.t.ppf(0.975, seeds - 1)) * spread


def paired_comparison(ours: ArrayLike, theirs: ArrayLike) -> Comparison:
    """Compare two entrants seed by seed with the paired t-test.

    An exact permutation test would be of no use: with three seeds its p-value cannot be below 1/4.

    Args:
        ours: [S], one score per seed.
        theirs: [S], scores for the same seeds in the same order.

    Raises:
        ValueError: The numbers of seeds differ or are 0.
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if difference.ndim != 1 or not len(difference) or np.shape(ours) != np.shape(theirs):
        raise ValueError(
            f"scores of shapes {np.shape(ours)} and {np.shape(theirs)} are not pairs; give one score per seed"
        )
    mean, half = mean_interval(difference)
    value, margin = float(mean), float(half)
    if len(difference) < 2:
        p = np.nan
    elif np.allclose(difference, value, rtol=0, atol=1e-12):  # equal differences do not reveal their spread
        p, margin = (1.0, 0.0) if abs(value) < 1e-12 else (np.nan, np.nan)
    else:
        p = float(stats.ttest_rel(np.asarray(ours), np.asarray(theirs))[1])
    return Comparison(value, value - margin, value + margin, p, len(difference))
