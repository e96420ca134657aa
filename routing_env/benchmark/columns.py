"""The columns of the leaderboard, each defined once: its value, its text, its meaning, and the tables that show it.

To add a column, add one entry to ``COLUMNS``; the terminal table, Markdown, CSV and legends follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from routing_env.benchmark.statistics import (
    Comparison,
    Interval,
    area_under_curve,
    interquartile_mean_interval,
    mean_interval,
    probability_of_improvement,
    worst_task,
)
from routing_env.drawing.training_figures import Rows
from routing_env.runs.behaviour import switch_rate

Value = float | Interval | None
"""A value of a column; None where the column does not apply to the entrant."""

Place = Literal["terminal", "markdown", "routing", "csv"]
"""A table: in the terminal, in Markdown, Markdown's second table about routing, or in the CSV file."""

LEAST_P = 0.001
"""Smaller p-values are printed as being less than this."""


@dataclass(frozen=True)
class Entry:
    """The finished runs of one entrant in one arena.

    Attributes:
        runs: For each seed, the evaluations of the run.
        versus: Comparison with the entrant that all are compared with; None for that one, and without a common seed.
        against: Runs of that entrant, by seed; empty where ``versus`` is None.
    """

    runs: Mapping[int, Rows]
    versus: Comparison | None = None
    against: Mapping[int, Rows] = field(default_factory=dict[int, Rows])

    @property
    def last(self) -> list[Mapping[str, Any]]:
        """The last evaluation of each run."""
        return [rows[-1] for rows in self.runs.values()]

    @property
    def task_accuracy(self) -> NDArray[np.float64]:
        """Test accuracy after the last epoch, [S, T]."""
        return np.array([row["test_task_accuracy"] for row in self.last])

    def mean(self, key: str) -> float:
        """Mean over seeds of a metric after the last epoch; NaN if a run lacks it."""
        values = [row.get(key) for row in self.last]
        return float(np.mean([np.nan if value is None else value for value in values]))


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        key: Name in the CSV file. An interval has two more columns there, ``<key>_low`` and ``<key>_high``.
        heading: Name in the other tables and in the legends.
        meaning: One line for the legends.
        value: Computes the value from the finished runs of an entrant.
        text: Formats a value that is not None.
        shown: The tables that have the column.
        rank: Where a terminal is too narrow, columns with the highest ranks are left out.
        terminal_text: Formats a value for the terminal; None means as ``text`` does.
        interval: Whether values are intervals.
    """

    key: str
    heading: str
    meaning: str
    value: Callable[[Entry], Value]
    text: Callable[[Any], str]
    shown: frozenset[Place]
    rank: int = 0
    terminal_text: Callable[[Any], str] | None = None
    interval: bool = False

    def cell(self, value: Value, place: Place) -> str:
        """Format a value for a table; a missing one is a dash."""
        if value is None:
            return "-"
        return (self.terminal_text if place == "terminal" and self.terminal_text else self.text)(value)

    def fields(self, value: Value) -> dict[str, float | None]:
        """The fields of a value in the CSV file."""
        if not self.interval:
            assert not isinstance(value, Interval), f"column {self.key} has intervals: declare interval=True"
            return {self.key: value}
        assert value is None or isinstance(value, Interval), f"column {self.key} declares intervals"
        ends = (None, None, None) if value is None else (value.value, value.low, value.high)
        return dict(zip((self.key, f"{self.key}_low", f"{self.key}_high"), ends, strict=True))


def percent(share: float) -> str:
    """Format a share in [0, 1] as percent; NaN is a dash."""
    return "-" if share != share else f"{100 * share:.2f}"


def p_value(p: float) -> str:
    """Format a p-value; NaN is a dash."""
    return "-" if p != p else f"< {LEAST_P}" if p < LEAST_P else f"{p:.3f}"


def _interval(interval: Interval) -> str:
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def _plus_minus(interval: Interval) -> str:
    half = interval.value - interval.low
    return percent(interval.value) + ("" if half != half else f" ± {100 * half:.2f}")


def _short_interval(interval: Interval) -> str:
    ends = "" if interval.low != interval.low else f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{100 * interval.value:.1f}{ends}"


def _accuracy(entry: Entry) -> Interval:
    mean, half = (float(one) for one in mean_interval([row["test_accuracy"] for row in entry.last]))
    return Interval(mean, mean - half, mean + half)


def _area(entry: Entry) -> float:
    curves = [([row["epoch"] for row in rows], [row["test_accuracy"] for row in rows]) for rows in entry.runs.values()]
    return float(np.mean([area_under_curve(epochs, accuracy) for epochs, accuracy in curves]))


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

    return Column(key, key.replace("_", " "), meaning, value, _three_digits, _ROUTING)


def _three_digits(value: float) -> str:
    return f"{value:.3f}"


_EVERYWHERE = frozenset[Place]({"terminal", "markdown", "csv"})
_CSV = frozenset[Place]({"csv"})
_ROUTING = frozenset[Place]({"routing", "csv"})

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
)
"""Measures of routing that every run with a router records after each epoch."""

COLUMNS = (
    Column("seeds", "seeds", "number of finished runs", lambda entry: len(entry.runs), str, _CSV),
    Column(
        "accuracy",
        "accuracy",
        "accuracy on the test split after the last epoch, mean over seeds with its 95 % t-interval",
        _accuracy,
        _plus_minus,
        _EVERYWHERE,
        interval=True,
    ),
    Column(
        "iqm",
        "IQM [95 %]",
        "interquartile mean of each seed's task accuracies, mean over seeds",
        lambda entry: interquartile_mean_interval(entry.task_accuracy).within(0, 1),
        _interval,
        _EVERYWHERE,
        rank=5,
        terminal_text=_short_interval,
        interval=True,
    ),
    Column(
        "balanced_accuracy",
        "balanced",
        "accuracy with equal weight for each class; guessing 1 of 2 gives 50",
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
        percent,
        _EVERYWHERE,
        rank=11,
    ),
    Column(
        "improvement",
        "P(better) [95 %]",
        "probability of scoring higher than the entrant marked * on a random task, runs drawn at random",
        _improvement,
        _interval,
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
        _three_digits,
        _ROUTING,
    ),
)
"""All columns, in the order of the tables."""
