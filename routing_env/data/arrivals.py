"""Tasks that arrive one after another (paper, section 6): their order, their few training samples, and their dealer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, channel_statistics
from routing_env.data.cuts import seeded
from routing_env.data.dealers import ShuffledRows, check_place
from routing_env.state_dicts import AnyLength, Exactly, check_state, restore_generator
from routing_env.types import Batch


def parse_stages(text: str) -> tuple[int, ...]:
    """Read the number of tasks that arrive at each stage, such as ``9+1`` or ``5+3+2``.

    Raises:
        ValueError: The text is not a sum of whole numbers of at least 1.
    """
    parts = [part.strip() for part in text.split("+")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ValueError(f"arrivals is {text!r}; it must be the number of tasks of each stage, such as 9+1 or 5+3+2")
    return tuple(map(int, parts))


def arriving(
    data: MultiTaskData, stages: Sequence[int], *, order: Sequence[int] = (), shots: int = 0, seed: int = 0
) -> MultiTaskData:
    """Number the tasks in the order in which they arrive, and leave those of later stages few training samples.

    The tasks of the first stage keep all their training samples. Inputs are standardised by these alone, because the
    inputs of later tasks are not known yet when the first ones are learned. Validation and test stay whole.

    Args:
        data: data set whose tasks arrive.
        stages: number of tasks that arrive at each stage; their sum is T.
        order: the tasks in the order of their arrival, by their numbers in ``data``; by default as they are.
        shots: training samples of each class that a task of a later stage keeps, drawn with ``seed``; for regression,
            samples of the task. A class with fewer samples keeps them all. 0 keeps everything.
        seed: seed of the draw.

    Raises:
        ValueError: The stages do not sum to T, the order is not a permutation of the tasks, or ``shots`` is negative.
    """
    _check_stages(data, stages)
    order = tuple(order) or tuple(range(data.tasks))
    if sorted(order) != list(range(data.tasks)):
        raise ValueError(
            f"the order of arrival is {list(order)}; it must name each task from 0 to {data.tasks - 1} once"
        )
    if shots < 0:
        raise ValueError(f"shots is {shots}; it must be at least 0")
    place = torch.empty(data.tasks, dtype=torch.int64, device=data.device)
    place[torch.tensor(order, device=data.device)] = torch.arange(data.tasks, device=data.device)
    train, validation, test = (
        Split(split.index, place[split.task], split.target) for split in (data.train, data.validation, data.test)
    )
    train = _few(train, stages[0], shots, seed) if shots else train
    mean, std = channel_statistics(data.inputs, train.index[train.task < stages[0]].unique())
    return replace(
        data,
        train=train,
        validation=validation,
        test=test,
        task_names=tuple(data.task_names[task] for task in order),
        classes=None if data.classes is None else tuple(data.classes[task] for task in order),
        groups=None if data.groups is None else tuple(data.groups[task] for task in order),
        programs=None if data.programs is None else tuple(data.programs[task] for task in order),
        mean=mean,
        std=std,
    )


class _StagedDealer(ABC):
    """What dealers of stages save and restore alike: the number of deals, and shuffled rows to take samples from."""

    _data: MultiTaskData
    _dealt: int
    _generator: torch.Generator
    _sizes: list[int]

    @property
    @abstractmethod
    def _pools(self) -> list[ShuffledRows]:
        """All shuffled rows."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the number of deals, the orders and positions in them, the generator's state and the sizes."""
        pools = self._pools
        return {
            "dealt": self._dealt,
            "orders": [pool.order for pool in pools],
            "next": [pool.next for pool in pools],
            "generator": self._generator.get_state(),
            "sizes": self._sizes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        own = self.state_dict()
        fixed = {name: Exactly(own[name]) for name in ("sizes", "replay") if name in own}
        check_state(state, {**own, **fixed, "orders": [AnyLength(order) for order in own["orders"]]})
        if state["dealt"] < 0:
            raise ValueError(f"{state['dealt']} deals have been dealt; it must be at least 0")
        for order, place in zip(state["orders"], state["next"], strict=True):
            check_place(order, place, len(self._data.train))
        restore_generator(self._generator, state["generator"])
        self._dealt = state["dealt"]
        for pool, order, place in zip(self._pools, state["orders"], state["next"], strict=True):
            pool.order, pool.next = order, place


class TaskSequence(_StagedDealer):
    """Deals the tasks of one stage after the other; a deal holds arriving tasks, and replays a share of earlier ones.

    Within a stage, the samples of the arriving tasks are dealt in one shuffled pass after another, and so are those of
    all earlier tasks. The deals of a stage differ in size by at most one sample and end exactly with the stage. The
    last stage goes on for as long as samples are wanted.

    Args:
        data: data to deal from; the tasks of the first stage come first, as :func:`arriving` numbers them.
        batch_size: largest number of lanes per deal.
        seed: seed of the order.
        stages: number of tasks that arrive at each stage.
        samples: training samples dealt at each stage.
        replay: share of the lanes of each deal, from the second stage on, that earlier tasks get, rounded; 0 for none.

    Attributes:
        pass_size: training samples of the tasks of the first stage.
        stage: stage of the next deal, from 0.

    Raises:
        ValueError: Stages that do not sum to the number of tasks or are not as many as ``samples``, numbers below 1, a
            share outside [0, 1), or a share that leaves a deal no lane for arriving tasks.
    """

    def __init__(
        self,
        data: MultiTaskData,
        batch_size: int,
        seed: int,
        *,
        stages: Sequence[int],
        samples: Sequence[int],
        replay: float = 0.0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        _check_stages(data, stages)
        if len(samples) != len(stages) or min(samples) < 1:
            raise ValueError(f"samples are {list(samples)}; each of the {len(stages)} stages needs at least 1")
        if not 0 <= replay < 1 or round(replay * batch_size) == batch_size:
            raise ValueError(
                f"replay is {replay}; it must be in [0, 1) and leave lanes to arriving tasks in deals of {batch_size}"
            )
        self._data = data
        self._replay = replay
        self._deals = [-(-number // batch_size) for number in samples]
        self._samples = list(samples)
        self._ends = list(accumulate(self._deals))
        self._dealt = 0
        self._generator = seeded(seed)
        task = data.train.task.cpu()
        arrived = [0, *accumulate(stages)]
        rows = [((task >= low) & (task < high)).nonzero().squeeze(1) for low, high in pairwise(arrived)]
        self._new = [ShuffledRows(own, self._generator) for own in rows]
        self._old = [ShuffledRows(torch.cat(rows[:stage]), self._generator) for stage in range(1, len(rows))]
        self.pass_size = len(rows[0])
        self._sizes = [batch_size, *stages, *samples, *map(len, rows)]

    @property
    def stage(self) -> int:
        """Stage of the next deal, from 0."""
        return min(bisect_right(self._ends, self._dealt), len(self._ends) - 1)

    def next_batch(self) -> Batch:
        """Deal the next batch."""
        stage = self.stage
        begun, deals, samples = self._ends[stage] - self._deals[stage], self._deals[stage], self._samples[stage]
        place = (self._dealt - begun) % deals
        lanes = samples * (place + 1) // deals - samples * place // deals
        self._dealt += 1
        replayed = min(round(self._replay * lanes), lanes - 1) if stage else 0
        rows = self._new[stage].take(lanes - replayed)
        if replayed:
            rows = torch.cat([rows, self._old[stage - 1].take(replayed)])
        return self._data.gather(self._data.train[rows.to(self._data.device)])

    def state_dict(self) -> dict[str, Any]:
        """As the base, with the share of replay."""
        return {**super().state_dict(), "replay": self._replay}

    @property
    def _pools(self) -> list[ShuffledRows]:
        return [*self._new, *self._old]


class OnePerArrivedTask(_StagedDealer):
    """Deals a sample of every task that has arrived, lane b for task b; each task passes over its samples by itself.

    Args:
        data: data to deal from; the tasks of the first stage come first.
        batch_size: T, the number of lanes when all tasks have arrived.
        seed: seed of the orders.
        stages: number of tasks that arrive at each stage.
        deals: deals of every stage but the last one, which does not end.

    Attributes:
        pass_size: training samples of all tasks.

    Raises:
        ValueError: Stages that do not sum to the number of tasks, another batch size, or fewer than 1 deal.
    """

    def __init__(self, data: MultiTaskData, batch_size: int, seed: int, *, stages: Sequence[int], deals: int) -> None:
        _check_stages(data, stages)
        if batch_size != data.tasks:
            raise ValueError(f"batch_size is {batch_size}; to deal a sample of every task it must be {data.tasks}")
        if deals < 1:
            raise ValueError(f"a stage has {deals} deals; it must have at least 1")
        self.pass_size = len(data.train)
        self._data = data
        self._arrived = list(accumulate(stages))
        self._deals = deals
        self._sizes = [self.pass_size, deals, *self._arrived]
        self._dealt = 0
        self._generator = seeded(seed)
        task = data.train.task.cpu()
        self._rows = [ShuffledRows((task == one).nonzero().squeeze(1), self._generator) for one in range(data.tasks)]

    def next_batch(self) -> Batch:
        """Deal the next batch."""
        arrived = self._arrived[min(self._dealt // self._deals, len(self._arrived) - 1)]
        self._dealt += 1
        rows = torch.cat([rows.take(1) for rows in self._rows[:arrived]])
        return self._data.gather(self._data.train[rows.to(self._data.device)])

    @property
    def _pools(self) -> list[ShuffledRows]:
        return self._rows


def _check_stages(data: MultiTaskData, stages: Sequence[int]) -> None:
    """Refuse stages that are not those of all tasks."""
    if min(stages, default=0) < 1 or sum(stages) != data.tasks:
        raise ValueError(
            f"{'+'.join(map(str, stages))} tasks arrive, and {data.name} has {data.tasks}; the stages must sum to that"
        )


def _few(train: Split, first: int, shots: int, seed: int) -> Split:
    """Keep ``shots`` samples of each class of the tasks from number ``first`` on, and all of the others."""
    label = train.label.cpu()
    shuffled = torch.randperm(len(label), generator=seeded(seed), device="cpu")
    _, label = label.unique(return_inverse=True)
    by_label = shuffled[torch.argsort(label[shuffled], stable=True)]
    count = torch.bincount(label)
    rank: Tensor = torch.empty_like(label)
    rank[by_label] = torch.arange(len(label), device="cpu") - (count.cumsum(0) - count).repeat_interleave(count)
    keep = (train.task.cpu() < first) | (rank < shots)
    return train[keep.nonzero().squeeze(1).to(train.task.device)]
