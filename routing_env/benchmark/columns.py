"""The columns of the leaderboard, each defined once: its value, its text, its meaning, and the tables that show it.

To add a column, add one entry to ``COLUMNS``; the terminal table, Markdown, CSV and legends follow from it. Columns
with an option of their own, such as :func:`samples_to`, are made for a report.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing_env.benchmark.entries import (
    Column,
    Entry,
    Place,
    detectable_text,
    interval_text,
    p_value,
    percent,
    plus_minus,
    samples_text,
    short_interval,
    three_digits,
)
from routing_env.benchmark.statistics import (
    CensoredMedian,
    Interval,
    area_under_curve,
    censored_median,
    first_reached,
    interquartile_mean_interval,
    mean_interval,
    probability_of_improvement,
    worst_task,
)
from routing_env.evaluations import Rows
from routing_env.runs.behaviour import switch_rate


def _accuracy(entry: Entry) -> Interval:
    mean, half = (float(one) for one in mean_interval([row["test_accuracy"] for row in entry.last]))
    return Interval(mean, mean - half, mean + half)


def area_so_far(epochs: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Mean height of a curve from its beginning to each of its points, [E]."""
    x, y = np.asarray(epochs, dtype=np.float64), np.asarray(values, dtype=np.float64)
    return np.array([area_under_curve(x[:end], y[:end]) for end in range(1, len(x) + 1)])


def _area_of(rows: Rows) -> float:
    return area_under_curve([row["epoch"] for row in rows], [row["test_accuracy"] for row in rows])


def _area(entry: Entry) -> float:
    return float(np.mean([_area_of(rows) for rows in entry.runs.values()]))


def _regret(entry: Entry) -> float | None:
    lacking = [_area_of(rows) - _area_of(entry.runs[seed]) for seed, rows in entry.best.items() if seed in entry.runs]
    return float(np.mean(lacking)) if lacking else None


def _difference(entry: Entry) -> Interval | None:
    versus = entry.versus
    return None if versus is None else Interval(versus.difference, versus.low, versus.high)


def _improvement(entry: Entry) -> Interval | None:
    seeds = sorted(entry.runs.keys() & entry.against.keys())
    ours, theirs = ([runs[seed][-1]["test_task_accuracy"] for seed in seeds] for runs in (entry.runs, entry.against))
    if not seeds or np.shape(ours) != np.shape(theirs):  # nobody to compare with, or data with other tasks
        return None
    return probability_of_improvement(ours, theirs)


def _switch_rate(entry: Entry) -> float | None:
    if any("test_routes" not in rows[-1] or len(rows) < 2 for rows in entry.runs.values()):
        return None
    routes = [np.array([row["test_routes"] for row in rows]) for rows in entry.runs.values()]
    return float(np.mean([switch_rate(counts).mean() for counts in routes]))


def _training_flops(entry: Entry) -> float | None:
    rows = [row for rows in entry.runs.values() for row in rows]
    known = [row["training_flops"] for row in rows if row.get("training_flops") is not None]
    return float(np.mean(known)) if len(known) == len(rows) else None


def _parameters(entry: Entry) -> float | None:
    return None if any(row.get("parameters") is None for row in entry.last) else entry.mean("parameters")


def _routing(key: str, meaning: str) -> Column:
    """A column for a measure of routing that the runs themselves have recorded."""

    def value(entry: Entry) -> float | None:
        return None if any(row.get(key) is None for row in entry.last) else entry.mean(key)

    return Column(key, key.replace("_", " "), meaning, value, three_digits, _ROUTING)


_EVERYWHERE = frozenset[Place]({"terminal", "markdown", "csv"})
_CSV = frozenset[Place]({"csv"})
_ROUTING = frozenset[Place]({"routing", "csv"})


def samples_to(goal: float) -> Column:
    """The column of the training samples that an entrant takes to an accuracy.

    Args:
        goal: Accuracy in %.

    Raises:
        ValueError: The accuracy is not in (0, 100].
    """
    if not 0 < goal <= 100:
        raise ValueError(f"samples-to is {goal:g}; it is an accuracy in %, above 0 and at most 100")

    def value(entry: Entry) -> CensoredMedian:
        known: list[float] = []
        bounds: list[float] = []
        for rows in entry.runs.values():
            place = first_reached([row["test_accuracy"] for row in rows], goal / 100)
            (bounds if place is None else known).append(rows[-1 if place is None else place]["samples"])
        return censored_median(known, bounds)

    return Column(
        f"samples_to_{goal:g}",
        f"to {goal:g} %",
        f"training samples until a measured test accuracy is at least {goal:g} %, median over seeds; (2 of 3) if one "
        "of 3 seeds never gets there, and > the samples of a whole run if more than half of them do not",
        value,
        samples_text,
        _EVERYWHERE,
    )


RECORDED = (
    _routing(
        "policy_entropy", "entropy of the exploring policy in nats, mean over tasks and depths; - where it is not known"
    ),
    _routing("effective_blocks", "exp of the entropy of block usage over all tasks, mean over depths"),
    _routing("collapse_worst", "1 - H(usage) / log(legal actions) at the worst depth: 0 is even use, 1 a single block"),
    _routing("collapse_average", "the same, mean over depths"),
    _routing("mutual_information", "mutual information of task and block in nats, mean over depths"),
    _routing("route_overlap", "share of their routes that two tasks have in common, mean over pairs"),
    _routing("dead_blocks", "legal actions that no task takes, summed over depths"),
    _routing(
        "adjusted_rand",
        "adjusted Rand index of the tasks with the same route and the best known sharing: 1 if they agree, about 0 "
        "for random routes; - where the best sharing is not known",
    ),
)
"""Measures of routing that every run with a router records after each epoch."""

COLUMNS = (
    Column("seeds", "seeds", "number of finished runs", lambda entry: len(entry.runs), str, _CSV),
    Column(
        "accuracy",
        "accuracy",
        "accuracy on the test split after the last epoch, mean over seeds with its 95 % t-interval",
        _accuracy,
        plus_minus,
        _EVERYWHERE,
        interval=True,
    ),
    Column(
        "iqm",
        "IQM [95 %]",
        "interquartile mean of each seed's task accuracies, mean over seeds",
        lambda entry: interquartile_mean_interval(entry.task_accuracy).within(0, 1),
        interval_text,
        _EVERYWHERE,
        rank=5,
        terminal_text=short_interval,
        interval=True,
    ),
    Column(
        "balanced_accuracy",
        "balanced",
        "balanced accuracy, the mean recall over classes; guessing one of two classes gives 50",
        lambda entry: entry.mean("test_balanced_accuracy"),
        percent,
        _EVERYWHERE,
        rank=3,
    ),
    Column(
        "worst_task_accuracy",
        "worst",
        "accuracy on the worst task",
        lambda entry: float(worst_task(entry.task_accuracy).mean()),
        percent,
        _EVERYWHERE,
        rank=4,
    ),
    Column("area_under_curve", "area", "mean height of the learning curve", _area, percent, _EVERYWHERE, rank=8),
    Column(
        "regret",
        "regret",
        "how far the learning curve is below that of the best known routing with the same seed, mean over training",
        _regret,
        percent,
        _EVERYWHERE,
        rank=8,
    ),
    Column(
        "validation_accuracy",
        "validation",
        "accuracy on the validation split after the last epoch",
        lambda entry: entry.mean("validation_accuracy"),
        percent,
        _CSV,
    ),
    Column(
        "difference",
        "vs *",
        "difference from the entrant marked *: the best baseline by validation, or else training, accuracy, unless "
        "--against names another",
        _difference,
        lambda difference: f"{100 * difference.value:+.2f}",
        _EVERYWHERE,
        rank=1,
        interval=True,
    ),
    Column(
        "p",
        "p",
        "p-value of the paired t-test, Holm-corrected over all comparisons that the table might have shown",
        lambda entry: None if entry.versus is None else entry.versus.corrected_p,
        p_value,
        _EVERYWHERE,
        rank=2,
    ),
    Column(
        "uncorrected_p",
        "uncorrected p",
        "p-value of this comparison alone",
        lambda entry: None if entry.versus is None else entry.versus.p,
        p_value,
        _CSV,
    ),
    Column(
        "detectable",
        "detectable",
        "smallest difference from the entrant marked * that this number of seeds would detect with 80 % power",
        lambda entry: None if entry.versus is None else entry.versus.detectable,
        detectable_text,
        _EVERYWHERE,
        rank=11,
    ),
    Column(
        "improvement",
        "P(better) [95 %]",
        "probability of scoring higher than the entrant marked * on a random task, runs drawn at random",
        _improvement,
        interval_text,
        _EVERYWHERE,
        rank=9,
        interval=True,
    ),
    Column(
        "seconds",
        "s/run",
        "seconds per run on one thread",
        lambda entry: entry.mean("seconds"),
        lambda seconds: f"{seconds:.0f}",
        _EVERYWHERE,
        rank=10,
    ),
    Column(
        "parameters",
        "parameters",
        "trained parameters: the stem, all blocks or layers, and the networks of a router, but no tables",
        _parameters,
        lambda number: f"{number:,.0f}",
        _EVERYWHERE,
        rank=6,
    ),
    Column(
        "training_flops",
        "MFLOP",
        "millions of floating-point operations per training sample, forward, backward and in the router, mean over the "
        "epochs; - in runs that did not count them",
        _training_flops,
        lambda flops: f"{flops / 1e6:,.3f}" if flops < 1e7 else f"{flops / 1e6:,.1f}",
        _EVERYWHERE,
        rank=7,
    ),
    *RECORDED,
    Column(
        "switch_rate",
        "switch rate",
        "share of the tasks' most frequent actions that change from one epoch to the next",
        _switch_rate,
        three_digits,
        _ROUTING,
    ),
)
"""All columns, in the order of the tables."""
