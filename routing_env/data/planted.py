"""``planted``: synthetic tasks whose best sharing is known, for a first check of a router in seconds.

Tasks come in groups. A group has one labelling function, so the tasks of a group gain from sharing blocks: each alone
has too few samples to learn the function. Groups label the same inputs differently, so tasks of different groups harm
each other when they share. The best network therefore gives each group separate blocks, as the router ``oracle`` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import comb

import torch
from torch import Tensor

from routing_env.data import DATASETS
from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.cuts import seeded
from routing_env.evaluations import Evaluation

CLASSES = 4
TEST_SAMPLES = 200


def plant(
    *,
    groups: int = 3,
    tasks_per_group: int = 4,
    sizes: Sequence[int] | None = None,
    samples: int = 400,
    features: int = 128,
    overlap: float = 0.0,
    noise: float = 0.0,
    interleaved: bool = False,
    data_seed: int = 2018,
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    """Draw tasks in groups.

    Inputs are normally distributed. A label is the index of the largest of four linear functions of the input, which
    differ from group to group. The n-th tasks of all groups have the same inputs; the tasks of one group have different
    inputs.

    Args:
        groups: number of groups.
        tasks_per_group: number of tasks in a group, which have one labelling function.
        sizes: number of tasks in each group, in place of ``groups`` and ``tasks_per_group``.
        samples: training and validation samples of each task; 200 more are its test split.
        features: features of an input; a labelling function of more features takes more samples to learn.
        overlap: correlation between the functions of two groups, in [0, 1]: at 0 they agree by chance, at 1 always.
        noise: share of the training labels that are replaced by random ones, in [0, 1]; test labels are clean.
        interleaved: whether the tasks are numbered across the groups, the first of every group first.
        data_seed: seed of the tasks themselves, independent of the seed of the run.
        validation: share of the training inputs that is held out for validation.
        seed: seed of the validation cut.

    Raises:
        ValueError: An argument is out of range.
    """
    for name, value in (("groups", groups), ("tasks_per_group", tasks_per_group), ("samples", samples)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    sizes = [tasks_per_group] * groups if sizes is None else list(sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes is {sizes}; every group must have at least 1 task")
    for name, value in (("overlap", overlap), ("noise", noise)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must be in [0, 1]")
    generator = seeded(data_seed)
    per_task = samples + TEST_SAMPLES
    inputs = torch.randn(max(sizes) * per_task, features, generator=generator, dtype=torch.float32)
    common = torch.randn(features, CLASSES, generator=generator, dtype=torch.float32)
    own = torch.randn(len(sizes), features, CLASSES, generator=generator, dtype=torch.float32)
    label = (inputs @ (overlap**0.5 * common + (1 - overlap) ** 0.5 * own)).argmax(-1)  # [groups, inputs]
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    member = torch.cat([torch.arange(size) for size in sizes])
    if interleaved:
        order = member.argsort(stable=True)
        group, member = group[order], member[order]

    def split(first: int, count: int) -> Split:
        task = torch.arange(len(group)).repeat_interleave(count)
        index = member[task] * per_task + first + torch.arange(count).repeat(len(group))
        return Split(index, task, label[group[task], index])

    train, test = split(0, samples), split(samples, TEST_SAMPLES)
    noisy = torch.rand(len(train), generator=generator, dtype=torch.float32) < noise
    anything = torch.randint(CLASSES, (len(train),), generator=generator)
    train = replace(train, target=train.target.where(~noisy, anything))
    names = [f"group {g} task {t}" for g, t in zip(group.tolist(), member.tolist(), strict=True)]
    data = make_data("planted", inputs, train, test, names, [CLASSES] * len(names), validation=validation, seed=seed)
    return replace(data, groups=tuple(group.tolist()), usual=DATASETS["planted"].usual)


load = plant


def partition(routes: Tensor) -> list[int]:
    """Cluster tasks by route: two tasks are together if they prefer the same action at every depth.

    Args:
        routes: int64 [T, D, A], how often each task took each action, as in an ``Evaluation``.

    Returns:
        The cluster of each task.
    """
    _, cluster = routes.argmax(2).unique(dim=0, return_inverse=True)
    return cluster.tolist()


def partition_score(routes: Tensor, groups: Sequence[int]) -> float:
    """Compare a router's partition with the right one by the adjusted Rand index (Hubert & Arabie 1985).

    Args:
        routes: int64 [T, D, A], as for :func:`partition`.
        groups: group of each task, ``MultiTaskData.groups``.

    Returns:
        1 for the right partition, about 0 for a random one.
    """
    return adjusted_rand_index(groups, partition(routes))


def adjusted_rand_index(groups: Sequence[int], clusters: Sequence[int]) -> float:
    """How well two partitions of the same things agree (Hubert & Arabie 1985).

    Args:
        groups: group of each thing.
        clusters: cluster of each thing.

    Returns:
        1 for the same partition, about 0 for a random one.
    """
    both, first, second = (
        sum(comb(size, 2) for size in Counter(parts).values())
        for parts in (zip(groups, clusters, strict=True), groups, clusters)
    )  # pairs of things that are together in both partitions, in the first, in the second
    pairs = comb(len(groups), 2)
    highest = (first + second) * pairs - 2 * first * second
    return 2 * (both * pairs - first * second) / highest if highest else 1.0


def regret(evaluation: Evaluation, oracle: Evaluation) -> float:
    """Accuracy that a router lacks compared with the oracle router on the same split, in [-1, 1]."""
    return oracle.overall_accuracy - evaluation.overall_accuracy
