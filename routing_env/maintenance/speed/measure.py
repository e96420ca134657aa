"""Measuring ratios: contestants take turns in one process, and medians are compared.

One contestant is the base, such as the plain network. A round measures everyone once, in an order that turns with the
rounds, so that what slows the machine for a while slows them all. What is measured is in ``rows``.
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
"""Seconds that one measurement of a quick step is to last: so many steps follow each other."""

PATIENCE = 30.0
"""A contestant whose first measurement takes more seconds of this process than this is left out."""


@dataclass(frozen=True)
class Side:
    """A contestant.

    Attributes:
        name: as the table shows it.
        measure: measures once, and returns a number in the comparison's unit.
        bar: what the ratio to the base must not exceed; None where nothing was promised.
        point: where it stands in a figure: the name of a line, and a number of blocks or tasks.
    """

    name: str
    measure: Callable[[], float]
    bar: float | None = None
    point: tuple[str, int] | None = None


@dataclass(frozen=True)
class Comparison:
    """Contestants that are measured alternately.

    Attributes:
        row: its letter.
        title: what is compared, with its setting.
        sides: builds them when their turn has come; the first is the base.
        unit: of the measurements.
        warm_up: whether the first measurements do not count; those of fresh processes do.
        rounds: so many, where the effort is not to decide.
        weight: how long it takes beside others, about one for each side; for the progress only.
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
        seconds: for each side.
        least: rounds, however long they take.
        most: rounds, however quick they are.
    """

    seconds: float = 2.5
    least: int = 3
    most: int = 100


QUICK = Effort(seconds=0.1, least=2)


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median and quartiles, interpolated linearly."""
        low, median, high = np.percentile(values, [25, 50, 75]).tolist()
        return cls(median, low, high)


NOTHING = Spread(nan, nan, nan)


@dataclass(frozen=True)
class Result:
    """A line of the table.

    Attributes:
        row: letter of the comparison.
        title: of the comparison.
        name: of the side.
        base: name of the base.
        unit: of the next two.
        value: of the side.
        base_value: of the base.
        ratio: of the two medians, between the quartiles of the rounds' ratios.
        bar: what the ratio must not exceed, or None.
        rounds: measured.
        note: why something is missing.
        point: of the side.
        base_point: of the base.
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
        """Whether the ratio is within its bar; None where there is none, or no measurement."""
        return None if self.bar is None or not self.rounds else self.ratio.median <= self.bar


class Timed:
    """Measures the milliseconds that a step takes.

    The first measurement counts how many steps fill ``SPAN``; from then on so many follow each other, as they do in
    training, and share their time evenly.

    Args:
        step: to be timed.
        device: that it runs on; a measurement waits for it on both ends.
        clock: in seconds; ``time.process_time`` leaves out what the machine does for others meanwhile.
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
        """One measurement."""
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
    """Measure sides in turns: a warm-up that does not count, then rounds that begin with another side each.

    Args:
        sides: the first is the base.
        effort: how many rounds.
        warm_up: whether there is one; only then a side can be left out.
        progress: called with the share that is done, after every round.

    Returns:
        The measurements of each side, equally many, none where it was left out; and for those that were left out the
        seconds that their first measurement took.
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
    """How long an action takes, by a clock in seconds."""
    started = clock()
    action()
    return clock() - started


def compare(comparison: Comparison, effort: Effort, progress: Callable[[float], None] | None = None) -> list[Result]:
    """Measure a comparison: a result for every side but the base."""
    sides = comparison.sides()
    if comparison.rounds is not None:
        effort = Effort(least=comparison.rounds, most=comparison.rounds)
    values, left_out = alternate(sides, effort, warm_up=comparison.warm_up, progress=progress)
    return [
        summarise(comparison, sides[0], side, values[0], own, left_out.get(side.name))
        for side, own in zip(sides[1:], values[1:], strict=True)
    ]


def summarise(
    comparison: Comparison,
    base: Side,
    side: Side,
    base_values: Sequence[float],
    values: Sequence[float],
    gave_up_after: float | None = None,
) -> Result:
    """The result of a side by the measurements of both; none of its own where it was given up."""
    result = partial(
        Result,
        row=comparison.row,
        title=comparison.title,
        name=side.name,
        base=base.name,
        unit=comparison.unit,
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
