"""``planted``: synthetic tasks whose best sharing is known, for a first check of a router in seconds.

Tasks come in groups. A group has one labelling function, so that tasks of a group gain from sharing blocks: each alone
has too few samples to learn it. Different groups label the same inputs differently, so that tasks of different groups
harm each other when they share. The best network therefore gives each group blocks of its own.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data

_DATA_SEED = 2018
"""The tasks are the same in every run, whatever the run's seed."""


def load(*, validation: float = 0.1, seed: int = 0) -> MultiTaskData:
    """The default tasks, see :func:`plant`.

    Args:
        validation: share of the training inputs that validate.
        seed: of the validation cut.
    """
    return plant(validation=validation, seed=seed)


def plant(
    *,
    groups: int = 3,
    tasks_per_group: int = 4,
    samples: int = 60,
    test_samples: int = 200,
    features: int = 16,
    classes: int = 4,
    overlap: float = 0.0,
    noise: float = 0.0,
    data_seed: int = _DATA_SEED,
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    generator = torch.Generator().manual_seed(data_seed)
    per_task = samples + test_samples
    inputs = torch.randn(tasks_per_group * per_task, features, generator=generator)
    common, own = (
        torch.randn(features, classes, generator=generator),
        torch.randn(groups, features, classes, generator=generator),
    )
    teacher = overlap**0.5 * common + (1 - overlap) ** 0.5 * own
    label = (inputs @ teacher).argmax(-1)  # [groups, inputs]
    group = torch.arange(groups).repeat_interleave(tasks_per_group)
    position = torch.arange(tasks_per_group).repeat(groups)

    def split(first: int, count: int) -> Split:
        task = torch.arange(len(group)).repeat_interleave(count)
        index = position[task] * per_task + first + torch.arange(count).repeat(len(group))
        return Split(index, task, label[group[task], index])

    train, test = split(0, samples), split(samples, test_samples)
    wrong = torch.rand(len(train), generator=generator) < noise
    random = torch.randint(classes, (len(train),), generator=generator)
    train = Split(train.index, train.task, torch.where(wrong, random, train.target))
    names = [f"group {g} task {t}" for g in range(groups) for t in range(tasks_per_group)]
    data = make_data("planted", inputs, train, test, names, [classes] * len(names), validation=validation, seed=seed)
    return replace(data, groups=tuple(group.tolist()))


def partition(routes: Tensor) -> list[int]:
    """Tasks clustered by route: tasks with the same most frequent action at every depth get the same number."""
    _, cluster = routes.argmax(2).unique(dim=0, return_inverse=True)
    return cluster.tolist()


def partition_score(routes: Tensor, groups) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(list(groups), partition(routes)))
