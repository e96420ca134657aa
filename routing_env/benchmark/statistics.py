"""Scores of runs and tests of their differences, as pure functions of arrays.

The tasks of a run share a network, so the tasks are not independent observations, but the seeds are. Every interval
therefore first computes one value per seed and then looks at the spread of these values.

Axes: S seeds, T tasks, E evaluations, N thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special, stats

LEVEL = 0.05
"""Differences with a smaller p-value are called significant."""

POWER = 0.8
"""Share of repetitions in which a difference of the detectable size is called significant."""

RECOMMENDED_SEEDS = 10
"""Number of seeds that comparisons should have."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval, whose ends are NaN for a single seed."""

    value: float
    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """The interval cut to the range of possible values, which does not change what it covers."""
        return Interval(self.value, float(np.clip(self.low, least, most)), float(np.clip(self.high, least, most)))


@dataclass(frozen=True)
class CensoredMedian:
    """The median of values some of which are only known to be larger than a bound.

    Attributes:
        median: None where less than half of the values are known.
        known: Number of values that are known.
        count: Number of values.
        bound: The largest value or bound.
    """

    median: float | None
    known: int
    count: int
    bound: float


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
        spread: Standard deviation over seeds of the difference; NaN for a single seed and for equal differences.
        corrected_p: p-value after the correction for ``comparisons`` comparisons (see :func:`holm_corrected`).
        comparisons: Number of comparisons in the family to which this one belongs.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int
    spread: float
    corrected_p: float
    comparisons: int = 1

    @property
    def detectable(self) -> float:
        """Smallest difference that these seeds detect with 80 % power, given the spread; NaN without a spread."""
        return detectable_difference(self.spread, self.seeds, comparisons=self.comparisons)

    def reversed(self) -> Comparison:
        """The same comparison, seen by the other entrant."""
        return replace(self, difference=-self.difference, low=-self.high, high=-self.low)


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


def first_reached(values: ArrayLike, goal: float) -> int | None:
    """Index of the first value that is at least ``goal``; None if none is.

    Args:
        values: [E].
        goal: What is to be reached.
    """
    reached = np.flatnonzero(np.asarray(values, dtype=np.float64) >= goal)
    return int(reached[0]) if len(reached) else None


def censored_median(values: Sequence[float], bounds: Sequence[float]) -> CensoredMedian:
    """The median of right-censored values: where the Kaplan-Meier estimate of survival falls to one half.

    Args:
        values: Those that are known.
        bounds: What each of the others exceeds.
    """
    survival = stats.ecdf(stats.CensoredData(uncensored=values, right=bounds)).sf
    fallen = np.flatnonzero(np.asarray(survival.probabilities) <= 0.5 + 1e-12)  # only known values make it fall
    median = float(survival.quantiles[fallen[0]]) if len(fallen) else None
    return CensoredMedian(median, len(values), len(values) + len(bounds), max((*values, *bounds)))


def interquartile_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half of each run's scores (Agarwal et al., NeurIPS 2021): [..., T] to [...]."""
    return np.asarray(stats.trim_mean(np.asarray(scores, dtype=np.float64), 0.25, axis=-1))


def interquartile_mean_interval(scores: ArrayLike) -> Interval:
    """Interquartile mean over the tasks of each seed, and the t-interval of its mean over seeds.

    Agarwal et al. (NeurIPS 2021) resample the seeds of each task separately, which assumes that the tasks of a run
    are independent. Here they share a network: if a seed shifts all tasks of a run, that interval covers the true
    value in 39 to 51 % of simulated benchmarks. The t-interval covers it in 94 to 96 % with 3, 5 and 10 seeds;
    bootstraps over whole seeds (percentile, studentised, BCa) cover it in 68 to 83 % with 3 seeds.

    Args:
        scores: [S, T].
    """
    mean, half = mean_interval(interquartile_mean(scores))
    return Interval(float(mean), float(mean - half), float(mean + half))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the tasks that score above each threshold, with a band over seeds (Agarwal et al., NeurIPS 2021).

    Args:
        scores: [S, T].
        thresholds: [N].

    Returns:
        Mean over seeds of the share, [N], and the half width of its pointwise 95 % t-interval, [N], which is NaN for
        a single seed.
    """
    table, tau = np.asarray(scores, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    return mean_interval(np.mean(table[:, :, None] > tau, axis=1))


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> Interval:
    """Probability that a run of ours beats a run of theirs on a random task (Agarwal et al., NeurIPS 2021).

    It is the Mann-Whitney statistic of each task, averaged over tasks; equal scores count one half. For the interval,
    each seed gets the placement of its run of ours among all of theirs plus that of its run of theirs among all of
    ours (DeLong et al., Biometrics 1988). The t-interval over these values is computed on the logit scale, so that
    it stays between 0 and 1. If all runs of ours are better, or all are worse, then the interval ends where a result as
    clear as this has a chance of 2.5 %.

    Args:
        ours: [S, T].
        theirs: [S, T], scores of the same seeds and tasks in the same order.

    Returns:
        The probability. The ends of the interval are NaN for a single seed, and if the seeds do not reveal a spread
        although the probability is neither 0 nor 1.

    Raises:
        ValueError: The shapes differ.
    """
    x, y = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or not x.size:
        raise ValueError(f"scores of shapes {x.shape} and {y.shape} are not pairs; give one score per seed and task")
    wins = np.mean((np.sign(x[:, None] - y) + 1) / 2, axis=-1)  # [S of ours, S of theirs]
    probability = float(np.mean(wins))
    _, half = mean_interval(np.mean(wins, axis=1) + np.mean(wins, axis=0))
    if probability in (0.0, 1.0) and len(x) > 1:
        bound = (LEVEL / 2) ** (1 / len(x))
        return Interval(1.0, bound, 1.0) if probability else Interval(0.0, 0.0, 1 - bound)
    if not half > 1e-12:  # NaN for a single seed
        return Interval(probability, np.nan, np.nan)
    centre, reach = special.logit(probability), float(half) / (probability * (1 - probability))
    return Interval(probability, float(special.expit(centre - reach)), float(special.expit(centre + reach)))


def mean_interval(values: ArrayLike, *, axis: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over seeds and half width of its 95 % t-interval, which is NaN for a single seed."""
    table = np.asarray(values, dtype=np.float64)
    seeds = table.shape[axis]
    mean = np.mean(table, axis=axis)
    if seeds < 2:
        return mean, np.full_like(mean, np.nan)
    spread = np.std(table, axis=axis, ddof=1) / np.sqrt(seeds)
    return mean, special.stdtrit(seeds - 1, 1 - LEVEL / 2) * spread


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
    value, margin, degrees = float(mean), float(half), len(difference) - 1
    p, spread = np.nan, np.nan
    if degrees and np.allclose(difference, value, rtol=0, atol=1e-12):  # equal differences do not reveal their spread
        p, margin = (1.0, 0.0) if abs(value) < 1e-12 else (np.nan, np.nan)
    elif degrees:
        spread = float(np.std(difference, ddof=1))
        p = 2 * float(special.stdtr(degrees, -abs(value) / (spread / np.sqrt(degrees + 1))))
    return Comparison(value, value - margin, value + margin, p, len(difference), spread, corrected_p=p)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for their number (Holm, Scandinavian Journal of Statistics 1979).

    If every corrected p-value below a level is called significant, then the chance of one false call or more is at
    most that level, whichever of the hypotheses are true and however the tests depend on each other.

    Args:
        p: [K]. NaN counts as no test.

    Returns:
        Corrected p-values in the same order, [K], NaN where ``p`` is.
    """
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full_like(values, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    ascending = tested[np.argsort(values[tested])]
    factors = np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(factors * values[ascending]), 1.0)
    return corrected


def holm_corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, with p-values corrected for their number by :func:`holm`."""
    corrected = holm([one.p for one in family])
    tests = max(1, int(np.sum(~np.isnan(corrected))))
    return [replace(one, corrected_p=float(p), comparisons=tests) for one, p in zip(family, corrected, strict=True)]


def detectable_difference(spread: float, seeds: int, *, comparisons: int = 1) -> float:
    """Smallest true difference that the paired t-test detects at the 5 % level with at least 80 % power.

    The t statistic has a noncentral t distribution with noncentrality difference / (spread / sqrt(seeds)). With several
    comparisons the level is divided by their number, which is the first step of Holm's correction.

    Args:
        spread: Standard deviation over seeds of the difference.
        seeds: Number of seeds.
        comparisons: Number of comparisons in the family.

    Returns:
        A difference in the unit of ``spread``; NaN for a single seed.
    """
    if seeds < 2:
        return float("nan")
    critical = -special.stdtrit(seeds - 1, LEVEL / comparisons / 2)
    return float(special.nctdtrinc(seeds - 1, 1 - POWER, critical) * spread / np.sqrt(seeds))
