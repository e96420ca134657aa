"""``mixed``: every task has samples of several kinds, and the kind of a sample, which v shows, says how it is labelled.

The best block of a sample follows from its kind, so that a router has to look at v: with one route per task the kinds
harm each other in the same blocks. The router ``oracle`` knows the kinds.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from routing_env.data import DATASETS
from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.cuts import seeded
from routing_env.names import is_number, require

CLASSES = 4
TEST_SAMPLES = 200
MARK = 4.0


def load(
    *,
    tasks: int = 4,
    kinds: int = 3,
    samples: int = 600,
    features: int = 64,
    data_seed: int = 2018,
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    """Draw tasks.

    An input begins with a mark, the one-hot of its kind times ``MARK``, and goes on with normally distributed features.
    Its label is the index of the largest of four linear functions of the features, which differ from kind to kind and
    are the same for all tasks.

    Args:
        tasks: number of tasks, which differ in their samples alone.
        kinds: number of kinds, each as likely as the others.
        samples: training and validation samples of each task; 200 more are its test split.
        features: features of an input behind the mark.
        data_seed: seed of the tasks themselves, independent of the seed of the run.
        validation: share of the training inputs that is held out for validation.
        seed: seed of the validation cut.

    Raises:
        ValueError: An argument is out of range.
    """
    for name, value in (("tasks", tasks), ("kinds", kinds), ("samples", samples), ("features", features)):
        require(name, value, is_number(value) and value >= 1, "at least 1")
    generator = seeded(data_seed)
    per_task = samples + TEST_SAMPLES
    kind = torch.randint(kinds, (tasks * per_task,), generator=generator)
    values = torch.randn(len(kind), features, generator=generator, dtype=torch.float32)
    functions = torch.randn(kinds, features, CLASSES, generator=generator, dtype=torch.float32)
    label = torch.stack([values @ function for function in functions], dim=1)[torch.arange(len(kind)), kind].argmax(1)
    mark = MARK * torch.nn.functional.one_hot(kind, kinds).to(torch.float32)
    task = torch.arange(tasks).repeat_interleave(per_task)
    rows = torch.arange(len(kind))
    tests = rows % per_task >= samples
    train, test = (Split(rows[which], task[which], label[which]) for which in (~tests, tests))
    names = [f"task {number}" for number in range(tasks)]
    inputs = torch.cat([mark, values], dim=1)
    data = make_data("mixed", inputs, train, test, names, [CLASSES] * tasks, validation=validation, seed=seed)
    return replace(data, kinds=kinds, usual=DATASETS["mixed"].usual)
