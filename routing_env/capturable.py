"""Routers whose deals can be captured as CUDA graphs, see :mod:`routing_env.game.captured`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from routing_env.types import Router, Trace


class CapturableRouter(Router):
    """A router that can act and learn without waiting for the device.

    Attributes:
        captures: Whether this very class, not its subclasses, can be captured: ``act`` and :meth:`learn_captured` wait
            for no result, write what is learned in place, and depend on no Python value that changes.
    """

    captures: ClassVar[bool] = False

    @property
    def capturable(self) -> bool:
        """Whether deals can be captured from now on; by default always, where the class ``captures``."""
        own = bool(vars(type(self)).get("captures"))
        return own and self.block_loss is None and not self.needs_counterfactuals

    def plan(self, task: Tensor) -> tuple[Tensor, ...]:
        """What :meth:`learn_captured` must know of a deal that depends on its tasks, int64 [B] on the CPU.

        Returns:
            Tensors on the CPU; by default none. A deal is captured once for each of their shapes.
        """
        return ()

    def learn_captured(self, trace: Trace, *plan: Tensor) -> None:
        """Learn from a deal what ``learn`` would, but for what :meth:`count` does; by default nothing."""
        return

    def count(self, lanes: int) -> None:
        """Count the lanes of a captured deal in Python; by default nowhere."""
        return
