"""Parts of a data set: fewer training samples or fewer tasks."""

from __future__ import annotations

from dataclasses import replace

import torch

from routing_env.data.base import MultiTaskData, Split, channel_statistics
from routing_env.data.cuts import seeded


def training_share(data: MultiTaskData, fraction: float, *, seed: int = 0) -> MultiTaskData:
    """Keep a share of the training samples of each task; validation and test stay as they are.

    Each task keeps its share, rounded, and at least one sample. Inputs are standardised by the samples that are kept.

    Args:
        data: data set whose training split is reduced.
        fraction: share that each task keeps, in (0, 1].
        seed: seed of the draw.

    Raises:
        ValueError: The fraction is out of range, or the seed is invalid.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it must be in (0, 1]")
    task = data.train.task.cpu()
    generator = seeded(seed)
    shuffled = torch.randperm(len(task), generator=generator, device="cpu")
    by_task = shuffled[torch.argsort(task[shuffled], stable=True)]
    count = torch.bincount(task, minlength=data.tasks)
    place = torch.arange(len(task), device="cpu") - (count.cumsum(0) - count).repeat_interleave(count)
    keep = (fraction * count).round().long().clamp_min(1).repeat_interleave(count)
    train = data.train[by_task[place < keep].sort().values.to(data.device)]
    mean, std = channel_statistics(data.inputs, train.index.unique())
    return replace(data, train=train, mean=mean, std=std)


def first_tasks(data: MultiTaskData, tasks: int) -> MultiTaskData:
    """Keep the first tasks of a data set, standardised by the training inputs of these tasks.

    Args:
        data: data set to reduce.
        tasks: number of tasks to keep.

    Raises:
        ValueError: The number is less than one or more than the data set has.
    """
    if not 1 <= tasks <= data.tasks:
        raise ValueError(f"tasks is {tasks}; it must be from 1 to the {data.tasks} of {data.name}")

    def cut(split: Split) -> Split:
        return split[split.task < tasks]

    train = cut(data.train)
    mean, std = channel_statistics(data.inputs, train.index.unique())
    return replace(
        data,
        train=train,
        validation=cut(data.validation),
        test=cut(data.test),
        task_names=data.task_names[:tasks],
        classes=None if data.classes is None else data.classes[:tasks],
        groups=None if data.groups is None else data.groups[:tasks],
        programs=None if data.programs is None else data.programs[:tasks],
        mean=mean,
        std=std,
    )
