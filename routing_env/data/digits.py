"""``digits``: scikit-learn's 8x8 handwritten digits as ten one-vs-rest tasks, the way the paper makes MNIST-MTL.

The 1,797 images come with scikit-learn, so nothing is downloaded. Task t asks whether an image shows digit t. Each
image is a sample of every task; as in MNIST-MTL, one image has conflicting labels in different tasks.
"""

from __future__ import annotations

import numpy as np
import torch

from routing_env.data.base import MultiTaskData, Split, make_data

TEST_SHARE = 0.2
_TEST_SEED = 2018
"""Seed of the test split, which is the same in every run."""


def load(*, validation: float = 0.1, seed: int = 0) -> MultiTaskData:
    """Ten tasks of two classes; inputs uint8 [1797, 1, 8, 8] with values 0 to 16.

    Args:
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(np.asarray(pixels, dtype=np.uint8)).view(-1, 1, 8, 8)
    digit = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    train, test = train_test_split(np.arange(len(digit)), test_size=TEST_SHARE, stratify=digit, random_state=_TEST_SEED)
    return make_data(
        "digits",
        images,
        one_vs_rest(digit, torch.from_numpy(train)),
        one_vs_rest(digit, torch.from_numpy(test)),
        [f"{d} or not" for d in range(10)],
        [2] * 10,
        validation=validation,
        seed=seed,
    )


def one_vs_rest(digit: torch.Tensor, rows: torch.Tensor) -> Split:
    """Make every given image a sample of each of the ten tasks; class 1 means yes.

    Args:
        digit: int64 [M], the digit of each image.
        rows: int64 [N], the images to use.
    """
    task = torch.arange(10).repeat_interleave(len(rows))
    index = rows.repeat(10)
    return Split(index, task, (digit[index] == task).to(torch.int64))
