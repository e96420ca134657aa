"""``mnist``: MNIST-MTL (paper, section 4), ten one-vs-rest tasks over MNIST.

Task t asks whether an image shows digit t. It trains on 1,000 images of t and 1,000 of each other digit, and is tested
on 200, 20 of each digit. Each task draws its own images, the same in every run; one image may serve several tasks, with
conflicting labels. Always answering "no" is right in 90 % of the cases, so look at the balanced accuracy too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.files import download_command, find_files
from routing_env.data.idx import Checksums, idx_file, is_published, read_idx

CHECKSUMS = {
    "train-images-idx3-ubyte.gz": Checksums(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte.gz": Checksums(
        "d53e105ee54ea40749a09fcbcd1e9432", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte.gz": Checksums(
        "9fb629c4189551a2d022fa330f9573f3", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte.gz": Checksums(
        "ec29112dd5afa0611ce80d1b7f02629c", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}
"""Many data sets have files of these names and shapes, so only a checksum tells that the digits are MNIST's."""
FILES = tuple(CHECKSUMS)
TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000
TRAIN_PER_CLASS, TEST_PER_CLASS = 1000, 20
_SHAPES = ((TRAIN_IMAGES, 28, 28), (TRAIN_IMAGES,), (TEST_IMAGES, 28, 28), (TEST_IMAGES,))
_DRAW_SEED = 2018
"""Seed of the images that each task draws: the same in every run, whatever the seed of the run."""


def load(*, validation: float = 0.1, seed: int = 0, data_dir: str | None = None) -> MultiTaskData:
    """Ten tasks of two classes; inputs uint8 [70000, 1, 28, 28].

    Args:
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
        data_dir: the folder that holds ``mnist/`` or torchvision's ``MNIST/raw/``, or that folder itself. The files
            may be unpacked, and may have Kaggle's names.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged or is not MNIST's.
    """
    names = [f"{digit} or not" for digit in range(10)]
    train, test = read_files("mnist", "mnist", "MNIST/raw", CHECKSUMS, data_dir)
    return make_one_vs_rest("mnist", train, test, names, validation=validation, seed=seed)


def read_files(
    name: str, folder: str, torchvision: str, checksums: Mapping[str, Checksums], data_dir: str | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read the four files of a data set in MNIST's format.

    Args:
        name: name of the data set.
        folder: its folder inside the data directory.
        torchvision: the folder that torchvision makes for it.
        checksums: of the files, in the order of ``FILES``.
        data_dir: as for :func:`load`.

    Returns:
        Training images uint8 [60000, 28, 28] and labels uint8 [60000]; test images and labels, 10,000 of each.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged or is not the published one.
    """
    place = find_files(name, folder, FILES, data_dir, layouts=(torchvision, "raw"), form=idx_file)
    paths = [idx_file(place, file) or place / file for file in FILES]
    contents = [read_idx(path, shape) for path, shape in zip(paths, _SHAPES, strict=True)]
    for path, content, expected in zip(paths, contents, checksums.values(), strict=True):
        if not is_published(path, content, expected):
            checked = f"its content has another sha256 than {expected.sha256}"
            raise ValueError(
                f"{path} is not the published file of {name}: "
                + (checked if expected.sha256 else f"it is not the gzipped file whose md5 is {expected.md5}")
                + f". It may belong to another data set whose files have the same names. Run: "
                f"{download_command(name, data_dir)}; or read files of your own with routing_env.data.idx.read_idx and "
                "pass them to MultiTaskData.from_arrays under their own name"
            )
    train_images, train_labels, test_images, test_labels = contents
    return (train_images, train_labels), (test_images, test_labels)


def make_one_vs_rest(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    task_names: Sequence[str],
    *,
    validation: float,
    seed: int,
) -> MultiTaskData:
    """Make ten one-vs-rest tasks.

    Args:
        name: name of the data set.
        train: images uint8 [N, H, W] and labels uint8 [N], 0 to 9.
        test: images and labels of the test split.
        task_names: ten names.
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
    """
    images = torch.cat([train[0], test[0]]).unsqueeze(1)
    generator = torch.Generator().manual_seed(_DRAW_SEED)
    trains = draw_one_vs_rest(train[1].to(torch.int64), TRAIN_PER_CLASS, 0, generator)
    tests = draw_one_vs_rest(test[1].to(torch.int64), TEST_PER_CLASS, len(train[0]), generator)
    return make_data(name, images, trains, tests, task_names, [2] * 10, validation=validation, seed=seed)


def draw_one_vs_rest(label: Tensor, per_class: int, offset: int, generator: torch.Generator) -> Split:
    """Draw the same number of images of each class for every task; target 1 is the task's own class.

    Args:
        label: int64 [N], 0 to 9.
        per_class: images of each class for each task.
        offset: row of the first image among the inputs.
        generator: generator of the draw.
    """
    members = [(label == c).nonzero().squeeze(1) for c in range(10)]
    rows = [
        own[torch.randperm(len(own), generator=generator)[:per_class]] for _ in range(10) for own in members
    ]  # task by task, class by class
    task = torch.arange(10).repeat_interleave(10 * per_class)
    own_class = torch.arange(10).repeat_interleave(per_class).repeat(10)
    return Split(torch.cat(rows) + offset, task, (own_class == task).to(torch.int64))
