"""What may be searched: the values of an option or setting, as plain data.

A router or baseline declares the options that are worth tuning beside them:

    space: ClassVar[SearchSpace] = {"step": Between(0.001, 0.1, log=True), "baseline": Choices((True, False))}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from routing_env.names import as_integer, is_number, require


@dataclass(frozen=True)
class Choices:
    """A few values.

    Args:
        values: Numbers, strings, True, False or None; at least one.

    Raises:
        ValueError: There is no value, or one of another kind.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        plain = all(value is None or isinstance(value, bool | int | float | str) for value in self.values)
        require("values", self.values, bool(self.values) and plain, "one or more numbers, strings, True, False or None")


@dataclass(frozen=True)
class Between:
    """All numbers from one to another.

    Args:
        low: Smallest value.
        high: Greatest value.
        log: Whether equal ratios are searched alike rather than equal differences.
        integer: Whether only integers count.

    Raises:
        ValueError: The range is empty, or it begins at 0 or below on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        require(
            "low", self.low, is_number(self.low, "above 0" if self.log else None), "a number, above 0 if log is set"
        )
        require("high", self.high, is_number(self.high) and self.high > self.low, f"a number above low, {self.low}")
        if self.integer:
            for name in ("low", "high"):
                require(name, getattr(self, name), as_integer(getattr(self, name)) is not None, "an integer")


Dimension = Choices | Between
SearchSpace = Mapping[str, Dimension]
"""What each option or setting may be."""


def grid(space: SearchSpace) -> list[dict[str, Any]] | None:
    """All points of a space, in order; None where it is not finite."""
    values: list[tuple[Any, ...]] = []
    for dimension in space.values():
        if isinstance(dimension, Between):
            return None
        values.append(dimension.values)
    return [dict(zip(space, point, strict=True)) for point in product(*values)]
