"""The finished runs of an entrant, and a column: what it makes of them, and how that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from routing_env.benchmark.statistics import CensoredMedian, Comparison, Interval
from routing_env.evaluations import Rows

Value = float | Interval | CensoredMedian | None
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
        best: Runs of the best known routing, by seed, that were measured after the same epochs; empty where there are
            none.
    """

    runs: Mapping[int, Rows]
    versus: Comparison | None = None
    against: Mapping[int, Rows] = field(default_factory=dict[int, Rows])
    best: Mapping[int, Rows] = field(default_factory=dict[int, Rows])

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


def measured_alike(runs: Mapping[int, Rows], others: Sequence[tuple[int, Rows]]) -> dict[int, Rows]:
    """For each seed the first of other runs with this seed that was measured after the same epochs, if there is one."""

    def epochs(rows: Rows) -> list[int]:
        return [row["epoch"] for row in rows]

    alike: dict[int, Rows] = {}
    for seed, rows in others:
        if seed in runs and epochs(rows) == epochs(runs[seed]):
            alike.setdefault(seed, rows)
    return alike


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        key: Name in the CSV file. An interval has two more columns there, ``<key>_low`` and ``<key>_high``, and a
            censored median has one more, ``<key>_reached``, the number of values that are known.
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
        if isinstance(value, CensoredMedian):
            return {self.key: value.median, f"{self.key}_reached": value.known}
        if not self.interval:
            assert not isinstance(value, Interval), f"column {self.key} has intervals: declare interval=True"
            return {self.key: value}
        assert value is None or isinstance(value, Interval), f"column {self.key} declares intervals"
        ends = (None, None, None) if value is None else (value.value, value.low, value.high)
        return dict(zip((self.key, f"{self.key}_low", f"{self.key}_high"), ends, strict=True))


def percent(share: float) -> str:
    """Format a share in [0, 1] as percent; NaN is a dash."""
    return "-" if share != share else f"{100 * share:.2f}"


def detectable_text(difference: float) -> str:
    """Format a detectable difference of shares as percentage points; beyond the largest there can be it says so."""
    return "> 100" if difference > 1 else percent(difference)


def p_value(p: float) -> str:
    """Format a p-value; NaN is a dash."""
    return "-" if p != p else f"< {LEAST_P}" if p < LEAST_P else f"{p:.3f}"


def interval_text(interval: Interval) -> str:
    """Format shares in [0, 1] as percent with both ends of the interval."""
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def plus_minus(interval: Interval) -> str:
    """Format shares in [0, 1] as percent with half the interval, where it is known."""
    half = interval.value - interval.low
    return percent(interval.value) + ("" if half != half else f" ± {100 * half:.2f}")


def short_interval(interval: Interval) -> str:
    """As :func:`interval_text`, with one decimal."""
    ends = "" if interval.low != interval.low else f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{100 * interval.value:.1f}{ends}"


def samples_text(median: CensoredMedian) -> str:
    """Format numbers of samples; how many are known is said where some are not."""
    number = f"> {median.bound:,.0f}" if median.median is None else f"{median.median:,.0f}"
    return number + ("" if median.known == median.count else f" ({median.known} of {median.count})")


def three_digits(value: float) -> str:
    """Format a number with three decimals."""
    return f"{value:.3f}"
