"""Measuring ratios: the sides of a contest take turns in one process, and their medians are compared.

One side is the base, such as the plain network. A round measures every side once, and each round starts with a
different side, so that a temporary slowdown of the machine affects all of them. ``rows`` defines what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, nan

import numpy as np
import torch

SPAN = 0.05
"""Target duration of one measurement, in seconds; a quick step is repeated until it fills this time."""

PATIENCE = 30.0
"""CPU seconds; a side whose first measurement takes longer is left out."""


@dataclass(frozen=True)
class Side:
    """One side of a contest.

    Attributes:
        name: Name in the table.
        measure: Takes one measurement and returns it in the contest's unit.
        bar: Upper bound that the ratio to the base must not exceed; None if there is no such target.
        point: Position in the growth figure: the name of a line, and a number of blocks or tasks.
    """

    name: str
    measure: Callable[[], float]
    bar: float | None = None
    point: tuple[str, int] | None = None


@dataclass(frozen=True)
class Contest:
    """Sides that are measured alternately.

    Attributes:
        row: Letter of the table's row.
        title: What is measured, with its setting.
        sides: Builds the sides when their turn comes; the first one is the base.
        unit: Unit of the measurements.
        warm_up: Whether to discard each side's first measurement; False for measurements in fresh processes.
        rounds: Fixed number of rounds; None leaves it to the effort.
        weight: Estimated duration relative to other contests, about one per side; used for the progress bar only.
    """

    row: str
    title: str
    sides: Callable[[], Sequence[Side]]
    unit: str = "ms"
    warm_up: bool = True
    rounds: int | None = None
    weight: float = 2.0


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: Time budget per side.
        least: Minimum number of rounds, however long they take.
        most: Maximum number of rounds, however quick they are.
    """

    seconds: float = 2.5
    least: int = 3
    most: int = 100


QUICK = Effort(seconds=0.1, least=2)


@dataclass(frozen=True)
class Spread:
    """A median with its lower and upper quartile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute the median and the quartiles, with linear interpolation."""
        low, median, high = np.percentile(values, [25, 50, 75]).tolist()
        return cls(median, low, high)


NOTHING = Spread(nan, nan, nan)


@dataclass(frozen=True)
class Result:
    """A line of the table.

    Attributes:
        row: Letter of the contest's row.
        title: Title of the contest.
        name: Name of the side.
        base: Name of the base.
        unit: Unit of ``value`` and ``base_value``.
        value: Measurements of the side.
        base_value: Measurements of the base.
        ratio: Ratio of the two medians, with the quartiles of the ratios within each round.
        bar: Upper bound of the ratio, or None.
        rounds: Number of rounds measured.
        note: Why a measurement is missing; empty otherwise.
        point: Position of the side in the growth figure.
        base_point: Position of the base in the growth figure.
    """

    row: str
    title: str
    name: str
    base: str
    unit: str
    value: Spread
    base_value: Spread
    ratio: Spread
    bar: float | None = None
    rounds: int = 0
    note: str = ""
    point: tuple[str, int] | None = None
    base_point: tuple[str, int] | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the ratio is within its bar; None without a bar or without a measurement."""
        return None if self.bar is None or not self.rounds else self.ratio.median <= self.bar


class Timed:
    """Measures the duration of a step in milliseconds.

    The first measurement finds out how many steps fill ``SPAN``. Every measurement then runs that many steps in a row,
    as training does, and returns their mean.

    Args:
        step: The step to time.
        device: Device that the step runs on; a measurement synchronises with it before and after.
        clock: Returns seconds; ``time.process_time`` excludes the time that the machine spends on other processes.
    """

    def __init__(
        self,
        step: Callable[[], object],
        device: torch.device | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._step = step
        self._device = device
        self._clock = clock
        self._steps = 0

    def __call__(self) -> float:
        """Take one measurement."""
        if not self._steps:
            first = self._seconds(1)
            if first > SPAN:
                self._steps = 1
                return 1000 * first
            self._steps = ceil(SPAN / max(self._seconds(3) / 3, 1e-6))
        return 1000 * self._seconds(self._steps) / self._steps

    def _seconds(self, steps: int) -> float:
        self._wait()
        started = self._clock()
        for _ in range(steps):
            self._step()
        self._wait()
        return self._clock() - started

    def _wait(self) -> None:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def alternate(
    sides: Sequence[Side], effort: Effort, *, warm_up: bool = True, progress: Callable[[float], None] | None = None
) -> tuple[list[list[float]], dict[str, float]]:
    """Measure the sides in turn: a warm-up that is discarded, then rounds that each start with a different side.

    Args:
        sides: The first one is the base.
        effort: Determines the number of rounds.
        warm_up: Whether to warm up; a side can be left out as too slow only if so.
        progress: Called after every round with the share of the work done, in [0, 1].

    Returns:
        The measurements of each side, one per round (none for a side that was left out), and for each side that was
        left out the seconds that its first measurement took.
    """
    values: list[list[float]] = [[] for _ in sides]
    left_out: dict[str, float] = {}
    places = list(range(len(sides)))
    for place, side in enumerate(sides if warm_up else ()):
        seconds = seconds_of(side.measure, time.process_time)
        if place and seconds > PATIENCE:
            places.remove(place)
            left_out[side.name] = seconds
    budget, spent, rounds = effort.seconds * len(places), 0.0, 0
    while rounds < effort.least or (rounds < effort.most and spent < budget):
        first = rounds % len(places)
        started = time.perf_counter()
        for place in places[first:] + places[:first]:
            values[place].append(sides[place].measure())
        spent += time.perf_counter() - started
        rounds += 1
        if progress is not None:
            by_time = min(1.0, spent / budget) if budget else 1.0
            progress(max(rounds / effort.most, min(rounds / effort.least, by_time)))
    return values, left_out


def seconds_of(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Duration of an action in seconds."""
    started = clock()
    action()
    return clock() - started


def compare(contest: Contest, effort: Effort, progress: Callable[[float], None] | None = None) -> list[Result]:
    """Run a contest and return one result for every side but the base."""
    sides = contest.sides()
    if contest.rounds is not None:
        effort = Effort(least=contest.rounds, most=contest.rounds)
    values, left_out = alternate(sides, effort, warm_up=contest.warm_up, progress=progress)
    return [
        summarise(contest, sides[0], side, values[0], own, left_out.get(side.name))
        for side, own in zip(sides[1:], values[1:], strict=True)
    ]


def summarise(
    contest: Contest,
    base: Side,
    side: Side,
    base_values: Sequence[float],
    values: Sequence[float],
    gave_up_after: float | None = None,
) -> Result:
    """Summarise the measurements of a side and of its base; ``values`` is empty for a side that was left out."""
    result = partial(
        Result,
        row=contest.row,
        title=contest.title,
        name=side.name,
        base=base.name,
        unit=contest.unit,
        base_value=Spread.of(base_values),
        bar=side.bar,
        point=side.point,
        base_point=base.point,
    )
    if not values:
        note = f"left out, took {gave_up_after or nan:.0f} s"
        return result(value=NOTHING, ratio=NOTHING, note=note)
    value = Spread.of(values)
    ratios = Spread.of([own / other for own, other in zip(values, base_values, strict=True)])
    ratio = Spread(value.median / Spread.of(base_values).median, ratios.low, ratios.high)
    return result(value=value, ratio=ratio, rounds=len(values))
