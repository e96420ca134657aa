"""``digits``: UCI's 8x8 handwritten digits as ten one-vs-rest tasks, the way the paper makes MNIST-MTL.

``digits.npz`` beside this file holds the 1,797 images of the test part of Alpaydin & Kaynak's `Optical Recognition of
Handwritten Digits <https://archive.ics.uci.edu/dataset/80>`_ (CC BY 4.0), in the order of
``sklearn.datasets.load_digits``, and the numbers of those that train and test. Task t asks whether an image shows digit
t. Each image is a sample of every task; as in MNIST-MTL, one image has conflicting labels in different tasks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data

FILE = Path(__file__).with_name("digits.npz")
"""Its SHA-256 is in docs/data.md."""


def load(*, validation: float = 0.1, seed: int = 0) -> MultiTaskData:
    """Ten tasks of two classes; inputs uint8 [1797, 1, 8, 8] with values 0 to 16.

    Args:
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
    """
    images, digit = digit_images()
    with np.load(FILE) as file:
        train, test = (torch.from_numpy(file[part].astype(np.int64)) for part in ("train", "test"))
    return make_data(
        "digits",
        images,
        one_vs_rest(digit, train),
        one_vs_rest(digit, test),
        [f"{d} or not" for d in range(10)],
        [2] * 10,
        validation=validation,
        seed=seed,
    )


def digit_images() -> tuple[Tensor, Tensor]:
    """The images, uint8 [1797, 1, 8, 8] with values 0 to 16, and the digit that each one shows, int64 [1797]."""
    with np.load(FILE) as file:
        return torch.from_numpy(file["images"]).unsqueeze(1), torch.from_numpy(file["digits"].astype(np.int64))


def one_vs_rest(digit: Tensor, rows: Tensor) -> Split:
    """Make every given image a sample of each of the ten tasks; class 1 means yes.

    Args:
        digit: int64 [M], the digit of each image.
        rows: int64 [N], the images to use.
    """
    task = torch.arange(10).repeat_interleave(len(rows))
    index = rows.repeat(10)
    return Split(index, task, (digit[index] == task).to(torch.int64))
