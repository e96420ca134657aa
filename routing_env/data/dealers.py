"""In which order training samples are dealt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, SplitName
from routing_env.types import Batch

_PLANNED = 32
"""Deals of one sample per task that are planned at a time: tasks take their turns in a Python loop."""


class ShuffledPass:
    """Deals passes over a split, each in a new order; every sample once a pass.

    Args:
        data: to deal from.
        batch_size: lanes per deal; the deals of a pass differ by at most one sample in size, none is larger.
        seed: of the order.
    """

    def __init__(self, data: MultiTaskData, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.pass_size = len(data.train)
        self._data = data
        self._deals = -(-self.pass_size // batch_size)
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64)
        self._next = self._deals

    def next_batch(self) -> Batch:
        """The next deal."""
        if self._next == self._deals:
            self._order = torch.randperm(self.pass_size, generator=self._generator).to(self._data.device)
            self._next = 0
        start, end = (self.pass_size * i // self._deals for i in (self._next, self._next + 1))
        self._next += 1
        return self._data.gather(self._data.train[self._order[start:end]])

    def state_dict(self) -> dict[str, Any]:
        """Order, place in it and generator."""
        return {"order": self._order.cpu(), "next": self._next, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._order = state["order"].to(self._data.device)
        self._next = int(state["next"])
        self._generator.set_state(state["generator"])


class EndlessPass:
    """Deals passes over the training samples without a gap; a deal may hold the end of one and the start of the next.

    For interfaces whose number of lanes never changes.

    Args:
        data: to deal from.
        batch_size: lanes of every deal.
        seed: of the order.
    """

    def __init__(self, data: MultiTaskData, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.pass_size = len(data.train)
        self._data = data
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._rows = _Endless(torch.arange(self.pass_size), self._generator)

    def next_batch(self) -> Batch:
        """The next deal."""
        return self._data.gather(self._data.train[self._rows.take(self._batch_size).to(self._data.device)])

    def state_dict(self) -> dict[str, Any]:
        """Order, place in it and generator."""
        return {"order": self._rows.order, "next": self._rows.next, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._rows.order, self._rows.next = state["order"], int(state["next"])
        self._generator.set_state(state["generator"])


class OnePerTask:
    """Deals samples of every task, lane b for task b % T; each task goes through its own samples in its own order.

    Args:
        data: to deal from.
        batch_size: lanes per deal, a multiple of the number of tasks T.
        seed: of the orders.
        split: to deal from, "train", "validation" or "test".

    Raises:
        ValueError: a batch size that is not a multiple of T, or an empty split.
    """

    def __init__(self, data: MultiTaskData, batch_size: int, seed: int, *, split: SplitName = "train") -> None:
        if batch_size < 1 or batch_size % data.tasks:
            raise ValueError(
                f"batch_size is {batch_size}; to deal samples of every task it must be a multiple of the "
                f"{data.tasks} tasks"
            )
        self._data = data
        self._split = data.split(split)
        self.pass_size = len(self._split)
        self._copies = batch_size // data.tasks
        self._generator = torch.Generator().manual_seed(seed)
        task_of_row = self._split.task.cpu()
        self._rows = [
            _Endless((task_of_row == task).nonzero().squeeze(1), self._generator) for task in range(data.tasks)
        ]
        self._planned = torch.empty(0, 0, dtype=torch.int64)
        self._next = 0

    def next_batch(self) -> Batch:
        """The next deal."""
        if self._next == len(self._planned):
            taken = torch.stack([rows.take(_PLANNED * self._copies) for rows in self._rows], dim=1)
            self._planned = taken.view(_PLANNED, -1).to(self._data.device)
            self._next = 0
        self._next += 1
        return self._data.gather(self._split[self._planned[self._next - 1]])

    def state_dict(self) -> dict[str, Any]:
        """Planned deals, orders, places in them and generator."""
        return {
            "planned": self._planned[self._next :].cpu(),
            "orders": [rows.order for rows in self._rows],
            "next": [rows.next for rows in self._rows],
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._planned, self._next = state["planned"].to(self._data.device), 0
        for rows, order, place in zip(self._rows, state["orders"], state["next"], strict=True):
            rows.order, rows.next = order, int(place)
        self._generator.set_state(state["generator"])


class _Endless:
    """Rows of a split in one shuffled order after the other."""

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self.order = torch.empty(0, dtype=torch.int64)
        self.next = 0
        self._rows = rows
        self._generator = generator

    def take(self, number: int) -> Tensor:
        """The next rows, int64 [number]."""
        while len(self.order) - self.next < number:
            shuffled = self._rows[torch.randperm(len(self._rows), generator=self._generator)]
            self.order = torch.cat([self.order[self.next :], shuffled])
            self.next = 0
        self.next += number
        return self.order[self.next - number : self.next]
