"""Dealers: the order in which training samples are dealt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, SplitName
from routing_env.data.cuts import seeded
from routing_env.state_dicts import ANYTHING, AnyLength, Exactly, Stateful, check_state, restore_generator
from routing_env.types import Batch

_PLANNED = 32
"""Deals of one sample per task that are planned at a time, because the tasks take turns in a Python loop."""


@runtime_checkable
class Dealer(Stateful, Protocol):
    """Decides which training samples are dealt next. A setting's function builds it from data, batch size and seed."""

    @property
    def pass_size(self) -> int:
        """Samples in an epoch."""
        ...

    def next_batch(self) -> Batch:
        """The next deal."""
        ...


class DriftingTasks:
    """Tasks that change hands: for some passes each task is dealt the samples of another one, and then its own.

    Which one is drawn once, by a fixed seed. Where a deal has equally many samples of every task, a lane keeps its
    task, as environments with an agent per task need it.

    Args:
        dealer: deals the samples.
        data: the data set.
        passes: passes until the tasks change hands.

    Raises:
        ValueError: Tasks differ in their numbers of classes.
    """

    def __init__(self, dealer: Dealer, data: MultiTaskData, passes: int) -> None:
        if data.classes is not None and len(set(data.classes)) > 1:
            raise ValueError(f"tasks of {data.name} cannot change hands: they differ in their numbers of classes")
        self.pass_size = dealer.pass_size
        self._dealer = dealer
        self._before = torch.randperm(data.tasks, generator=seeded(0)).to(data.device)
        self._left = passes * self.pass_size

    def next_batch(self) -> Batch:
        """Deal the next batch."""
        batch = self._dealer.next_batch()
        if self._left <= 0:
            return batch
        self._left -= len(batch)
        task = self._before[batch.task]
        counts = (torch.bincount(each, minlength=len(self._before)) for each in (task, batch.task))
        if not torch.equal(*counts):
            return replace(batch, task=task)
        rows = torch.empty_like(task)
        rows[batch.task.argsort(stable=True)] = task.argsort(stable=True)
        return Batch(batch.x[rows], batch.task, batch.target[rows])

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the dealer, and the samples that are left until the tasks change hands."""
        return {"dealer": self._dealer.state_dict(), "left": self._left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, {"dealer": ANYTHING, "left": self._left})
        self._dealer.load_state_dict(state["dealer"])
        self._left = state["left"]


class ShuffledPass:
    """Deals passes over the training split, each in a new order; every sample is dealt once per pass.

    Args:
        data: data to deal from.
        batch_size: largest number of lanes per deal; the deals of a pass differ in size by at most one sample.
        seed: seed of the order.

    Raises:
        ValueError: The batch size is less than 1, or the seed is invalid.
    """

    def __init__(self, data: MultiTaskData, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.pass_size = len(data.train)
        self._data = data
        self._batch_size = batch_size
        self._deals = -(-self.pass_size // batch_size)
        self._generator = seeded(seed)
        self._order = torch.empty(0, dtype=torch.int64, device="cpu")
        self._next = self._deals

    def next_batch(self) -> Batch:
        """Deal the next batch."""
        if self._next == self._deals:
            self._order = _shuffled(self.pass_size, self._generator).to(self._data.device)
            self._next = 0
        start, end = (self.pass_size * i // self._deals for i in (self._next, self._next + 1))
        self._next += 1
        return self._data.gather(self._data.train[self._order[start:end]])

    def state_dict(self) -> dict[str, Any]:
        """Return the order, the position in it, the state of the generator, and how many samples, lanes and tasks."""
        return {
            "order": self._order.cpu(),
            "next": self._next,
            "generator": self._generator.get_state(),
            "sizes": [self.pass_size, self._batch_size, self._data.tasks],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        own = self.state_dict()
        check_state(state, {**own, "order": AnyLength(self._order), "sizes": Exactly(own["sizes"])})
        order, place = state["order"], state["next"]
        check_place(order, place, self.pass_size, self._deals)
        if len(order) != (self.pass_size if place < self._deals else len(order)):
            raise ValueError(f"the order has {len(order)} samples; a pass has {self.pass_size}")
        restore_generator(self._generator, state["generator"])
        self._order, self._next = order.to(self._data.device), place


class EndlessPass:
    """Deals passes over the training split without a gap: a deal may end one pass and start the next.

    This suits interfaces whose number of lanes never changes.

    Args:
        data: data to deal from.
        batch_size: number of lanes of every deal.
        seed: seed of the order.

    Raises:
        ValueError: The batch size is less than 1, or the seed is invalid.
    """

    def __init__(self, data: MultiTaskData, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.pass_size = len(data.train)
        self._data = data
        self._batch_size = batch_size
        self._generator = seeded(seed)
        self._rows = ShuffledRows(torch.arange(self.pass_size, device="cpu"), self._generator)

    def next_batch(self) -> Batch:
        """Deal the next batch."""
        return self._data.gather(self._data.train[self._rows.take(self._batch_size).to(self._data.device)])

    def state_dict(self) -> dict[str, Any]:
        """Return the order, the position in it, the state of the generator, and how many samples, lanes and tasks."""
        return {
            "order": self._rows.order,
            "next": self._rows.next,
            "generator": self._generator.get_state(),
            "sizes": [self.pass_size, self._batch_size, self._data.tasks],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        own = self.state_dict()
        check_state(state, {**own, "order": AnyLength(own["order"]), "sizes": Exactly(own["sizes"])})
        check_place(state["order"], state["next"], self.pass_size)
        restore_generator(self._generator, state["generator"])
        self._rows.order, self._rows.next = state["order"], state["next"]


class OnePerTask:
    """Deals samples of every task, lane b for task b % T; each task passes over its samples in a separate order.

    Args:
        data: data to deal from.
        batch_size: number of lanes per deal, a multiple of the number of tasks T.
        seed: seed of the orders.
        split: split to deal from, "train", "validation" or "test".

    Raises:
        ValueError: The batch size is not a multiple of T, the split is empty, or the seed is invalid.
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
        self._generator = seeded(seed)
        task_of_row = self._split.task.cpu()
        self._rows = [
            ShuffledRows((task_of_row == task).nonzero().squeeze(1), self._generator) for task in range(data.tasks)
        ]
        self._planned = torch.empty(0, batch_size, dtype=torch.int64, device="cpu")
        self._next = 0

    def next_batch(self) -> Batch:
        """Deal the next batch."""
        if self._next == len(self._planned):
            taken = torch.stack([rows.take(_PLANNED * self._copies) for rows in self._rows], dim=1)
            self._planned = taken.view(_PLANNED, -1).to(self._data.device)
            self._next = 0
        self._next += 1
        return self._data.gather(self._split[self._planned[self._next - 1]])

    def state_dict(self) -> dict[str, Any]:
        """Return planned deals, orders, positions in them, the generator's state and the sizes of passes and deals."""
        return {
            "planned": self._planned[self._next :].cpu(),
            "orders": [rows.order for rows in self._rows],
            "next": [rows.next for rows in self._rows],
            "generator": self._generator.get_state(),
            "sizes": [self.pass_size, self._planned.shape[1]],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        own = self.state_dict()
        open_ended = {"planned": AnyLength(own["planned"]), "orders": [AnyLength(order) for order in own["orders"]]}
        check_state(state, {**own, **open_ended, "sizes": Exactly(own["sizes"])})
        check_place(state["planned"], 0, self.pass_size)
        for order, place in zip(state["orders"], state["next"], strict=True):
            check_place(order, place, self.pass_size)
        restore_generator(self._generator, state["generator"])
        self._planned, self._next = state["planned"].to(self._data.device), 0
        for rows, order, place in zip(self._rows, state["orders"], state["next"], strict=True):
            rows.order, rows.next = order, place


class ShuffledRows:
    """Deals the rows of a split in one shuffled order after another."""

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self.order = torch.empty(0, dtype=torch.int64, device="cpu")
        self.next = 0
        self._rows = rows
        self._generator = generator

    def take(self, number: int) -> Tensor:
        """Take the next rows, int64 [number]."""
        while len(self.order) - self.next < number:
            shuffled = self._rows[_shuffled(len(self._rows), self._generator)]
            self.order = torch.cat([self.order[self.next :], shuffled])
            self.next = 0
        self.next += number
        return self.order[self.next - number : self.next]


def check_place(order: Tensor, place: int, samples: int, last: int | None = None) -> None:
    """Refuse an order of samples that do not exist, and a position behind its end."""
    if len(order) and not 0 <= int(order.min()) <= int(order.max()) < samples:
        raise ValueError(f"the order names samples from {int(order.min())} to {int(order.max())} of {samples}")
    last = len(order) if last is None else last
    if not 0 <= place <= last:
        raise ValueError(f"the position in the order is {place}; the last one is {last}")


def _shuffled(size: int, generator: torch.Generator) -> Tensor:
    """A permutation on the CPU, whatever the default device is."""
    return torch.randperm(size, generator=generator, device="cpu")
