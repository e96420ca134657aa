"""Routers whose deals can be captured as CUDA graphs, see :mod:`routing_env.game.captured`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from torch import Tensor

from routing_env.types import Router, Trace


class CapturableRouter(Router):
    """A router that can act and learn without waiting for the device.

    Attributes:
        captures: Whether this very class, not its subclasses, can be captured: ``act``, ``other_routes`` and
            :meth:`learn_captured` wait for no result, write what is learned in place, and depend on no Python value
            that changes.
    """

    captures: ClassVar[bool] = False

    @property
    def capturable(self) -> bool:
        """Whether deals can be captured from now on; by default always, where the class ``captures``."""
        return bool(vars(type(self)).get("captures")) and self.block_loss is None

    @property
    def asks_for_routes(self) -> bool:
        """Whether it learns from routes that were not taken; by default whether it needs counterfactuals."""
        return self.needs_counterfactuals

    def plan(self, task: Tensor) -> tuple[Tensor, ...]:
        """What must be known of the next deal that changes from deal to deal.

        Args:
            task: Of its samples, int64 [B] on the CPU.

        Returns:
            Tensors on the CPU; by default none. A deal is captured once for each of their shapes.
        """
        return ()

    @contextmanager
    def planned(self, *plan: Tensor) -> Generator[None]:
        """Inside, ``act`` and ``learn_captured`` follow the plan of a deal; by default they need to know nothing."""
        yield

    def learn_captured(self, trace: Trace, *plan: Tensor) -> Mapping[str, Tensor]:
        """Learn from a deal what ``learn`` would, but for what :meth:`count` does; by default nothing.

        Returns:
            What ``learn`` would log, as tensors float [].
        """
        return {}

    def count(self, lanes: int) -> None:
        """Count the lanes of a captured deal in Python; by default nowhere."""
        return
