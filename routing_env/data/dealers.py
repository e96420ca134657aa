"""In which order training samples are dealt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData
from routing_env.types import Batch


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


class OnePerTask:
    """Deals one sample of every task, lane t for task t; each task goes through its own samples in its own order.

    Args:
        data: to deal from.
        seed: of the orders.
    """

    def __init__(self, data: MultiTaskData, seed: int) -> None:
        self.pass_size = len(data.train)
        self._data = data
        self._rows = [(data.train.task.cpu() == task).nonzero().squeeze(1) for task in range(data.tasks)]
        self._generator = torch.Generator().manual_seed(seed)
        self._orders = [torch.empty(0, dtype=torch.int64)] * data.tasks
        self._next = [0] * data.tasks

    def next_batch(self) -> Batch:
        """The next deal."""
        rows: list[Tensor] = []
        for task, own in enumerate(self._rows):
            if self._next[task] == len(self._orders[task]):
                self._orders[task] = own[torch.randperm(len(own), generator=self._generator)]
                self._next[task] = 0
            rows.append(self._orders[task][self._next[task]])
            self._next[task] += 1
        return self._data.gather(self._data.train[torch.stack(rows).to(self._data.device)])

    def state_dict(self) -> dict[str, Any]:
        """Orders, places in them and generator."""
        return {"orders": list(self._orders), "next": list(self._next), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._orders = list(state["orders"])
        self._next = list(state["next"])
        self._generator.set_state(state["generator"])
