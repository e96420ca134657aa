"""``mnist``: MNIST-MTL (paper, section 4), ten one-vs-rest tasks over MNIST.

Task t asks whether an image shows digit t. It trains on 1,000 images of t and 1,000 of each other digit, and is tested
on 200, 20 of each digit. Each task draws its own images, always the same ones; one image may serve several tasks, with
conflicting labels. Always naming "no" is right in 90 % of the cases, so look at the balanced accuracy too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.files import find_files
from routing_env.data.idx import read_idx

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000
TRAIN_PER_CLASS, TEST_PER_CLASS = 1000, 20
_DRAW_SEED = 2018
"""Which images a task has is the same in every run, whatever the run's seed."""


def load(*, validation: float = 0.1, seed: int = 0, data_dir: str | None = None) -> MultiTaskData:
    """Ten tasks of two classes; inputs uint8 [70000, 1, 28, 28].

    Args:
        validation: share of the training images that validate.
        seed: of the validation cut.
        data_dir: the folder that holds ``mnist/``, or that folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or holds something else.
    """
    names = [f"{digit} or not" for digit in range(10)]
    return load_one_vs_rest("mnist", "mnist", names, validation=validation, seed=seed, data_dir=data_dir)


def load_one_vs_rest(
    name: str, folder: str, task_names: Sequence[str], *, validation: float, seed: int, data_dir: str | None
) -> MultiTaskData:
    """Ten one-vs-rest tasks from four files in MNIST's format; the arguments are those of :func:`load`."""
    place = find_files(name, folder, FILES, data_dir)
    train_labels = _read_labels(place / FILES[1], TRAIN_IMAGES)
    test_labels = _read_labels(place / FILES[3], TEST_IMAGES)
    images = torch.cat(
        [read_idx(place / FILES[0], (TRAIN_IMAGES, 28, 28)), read_idx(place / FILES[2], (TEST_IMAGES, 28, 28))]
    )
    generator = torch.Generator().manual_seed(_DRAW_SEED)
    train = draw_one_vs_rest(train_labels, TRAIN_PER_CLASS, 0, generator)
    test = draw_one_vs_rest(test_labels, TEST_PER_CLASS, TRAIN_IMAGES, generator)
    return make_data(name, images.unsqueeze(1), train, test, task_names, [2] * 10, validation=validation, seed=seed)


def draw_one_vs_rest(label: Tensor, per_class: int, offset: int, generator: torch.Generator) -> Split:
    """For every task the same number of images of each class; target 1 is the task's own class.

    Args:
        label: int64 [N], 0 to 9.
        per_class: images of each class for each task.
        offset: of the images' rows among the inputs.
        generator: of the draw.
    """
    members = [(label == c).nonzero().squeeze(1) for c in range(10)]
    rows = [
        own[torch.randperm(len(own), generator=generator)[:per_class]] for _ in range(10) for own in members
    ]  # task by task, class by class
    task = torch.arange(10).repeat_interleave(10 * per_class)
    own_class = torch.arange(10).repeat_interleave(per_class).repeat(10)
    return Split(torch.cat(rows) + offset, task, (own_class == task).to(torch.int64))


def _read_labels(path: Path, count: int) -> Tensor:
    labels = read_idx(path, (count,)).to(torch.int64)
    if labels.max() > 9:
        raise ValueError(f"{path} has label {int(labels.max())}; labels are 0 to 9: download it again")
    return labels
