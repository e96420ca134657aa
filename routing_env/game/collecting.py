"""Deals too small to be a step of the blocks, collected until there are enough samples for one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from routing_env.game.settings import Settings, check
from routing_env.state_dicts import AnyLength
from routing_env.types import Batch


class CollectedDeals:
    """Routed samples that the blocks have not been trained on yet.

    Args:
        samples: how many make a step; None: none are ever collected.

    Attributes:
        samples: as given.

    Raises:
        SettingError: it is not an integer, or below 1.
    """

    def __init__(self, samples: int | None) -> None:
        check({"block_batch": samples}, Settings)
        self.samples = samples
        self._deals: list[tuple[Batch, Tensor]] = []

    def add(self, batch: Batch, actions: Tensor, playing: Tensor | None) -> tuple[Batch, Tensor] | None:
        """Add a deal.

        Args:
            batch: its samples.
            actions: their routes, int64 [B, D].
            playing: bool [B], the lanes that have not lost their route; None: all.

        Returns:
            All samples and their routes once there are enough; nothing is kept then.
        """
        if playing is not None:
            batch = Batch(batch.x[playing], batch.task[playing], batch.target[playing])
            actions = actions[playing]
        self._deals.append((batch, actions))
        if sum(len(deal) for deal, _ in self._deals) < (self.samples or 0):
            return None
        x, task, target = (torch.cat([getattr(b, name) for b, _ in self._deals]) for name in ("x", "task", "target"))
        taken = torch.cat([actions for _, actions in self._deals])
        self._deals.clear()
        return Batch(x, task, target), taken

    def state_dict(self) -> list[list[Tensor]]:
        """Inputs, tasks, targets and routes of every deal."""
        return [[batch.x, batch.task, batch.target, actions] for batch, actions in self._deals]

    def load_state_dict(self, state: Sequence[Sequence[Tensor]], device: torch.device) -> None:
        """Restore from :meth:`state_dict`; the caller has checked that it fits."""
        deals = [[tensor.to(device) for tensor in collected] for collected in state]
        self._deals = [(Batch(x, task, target), actions) for x, task, target, actions in deals]

    @staticmethod
    def fitting_state(empty: Batch, depth: int) -> AnyLength:
        """What a state must look like.

        Args:
            empty: no samples, of the form of the game's.
            depth: D.
        """
        parts = (empty.x, empty.task, empty.target, empty.task.new_empty(0, depth))
        return AnyLength([[AnyLength(part) for part in parts]])
