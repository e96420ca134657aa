"""Checks of the parts of a game that are a user's own, and of the numbers that they return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from routing_env.game.settings import SettingError

Part = TypeVar("Part")


def own_part(name: str, part: object, kind: type[Part]) -> Part:
    """Check what a function of your own has built.

    Args:
        name: the setting that has the function.
        part: what it returned.
        kind: what it must be.

    Raises:
        SettingError: it is something else.
    """
    if not isinstance(part, kind):
        raise SettingError(f"the {name} function returned {type(part).__name__} instead of {kind.__name__}")
    return part


def own_values(name: str, values: object, shape: Sequence[int], finite: Tensor | None = None) -> Tensor:
    """Check the numbers that a part of your own has returned, or that you have given.

    Args:
        name: what they are.
        values: the numbers.
        shape: the shape that they must have.
        finite: bool of that shape, where they must be finite; by default nowhere.

    Returns:
        The numbers.

    Raises:
        ValueError: they are not a float tensor of that shape, or not finite.
    """
    if not isinstance(values, Tensor) or values.shape != tuple(shape) or not values.is_floating_point():
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a float tensor of shape {list(shape)}, lanes first; got {found}")
    if finite is not None and not values[finite].isfinite().all():
        raise ValueError(f"{name} must be finite for every lane; got {values}")
    return values
