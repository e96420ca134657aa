"""``cifar``: CIFAR-MTL (paper, section 4), the 20 coarse labels of CIFAR-100 as tasks of 5 fine labels each.

Read from the binary version, ``cifar-100-binary``: a record is the coarse label, the fine label and 3 x 32 x 32 pixels,
one byte each. The five fine labels of a coarse label become its classes 0 to 4, in ascending order.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.files import download_command, find_files

FOLDER = "cifar-100-binary"
NAMES = "coarse_label_names.txt"
TASKS, CLASSES, SHAPE = 20, 5, (3, 32, 32)
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000
CHECKSUMS = {
    "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
    "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    NAMES: "14e28b5b70e3d8a29704b0d9f8c5985cca5f3c3d08ea043dcc87a036df37a2b3",
}
"""sha256 of the files: the format itself has no checksum, so nothing else would show a flipped bit."""
_RECORD = 2 + 3 * 32 * 32
_RECORDS_AT_ONCE = 1000


def load(*, validation: float = 0.1, seed: int = 0, data_dir: str | None = None) -> MultiTaskData:
    """Twenty tasks of five classes, 2,500 training and 500 test samples each; inputs uint8 [60000, 3, 32, 32].

    Args:
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
        data_dir: the folder that holds ``cifar-100-binary/``, or that folder itself.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged or is not the published one.
    """
    place = find_files("cifar", FOLDER, tuple(CHECKSUMS), data_dir)
    if sha256_of(place / NAMES) != CHECKSUMS[NAMES]:
        raise ValueError(_not_published(place / NAMES, CHECKSUMS[NAMES]))
    task_names = (place / NAMES).read_text(encoding="utf-8").split()
    images = np.empty((TRAIN_IMAGES + TEST_IMAGES, *SHAPE), np.uint8)
    labels = np.empty((TRAIN_IMAGES + TEST_IMAGES, 2), np.uint8)
    read_records(place / "train.bin", images[:TRAIN_IMAGES], labels[:TRAIN_IMAGES], CHECKSUMS["train.bin"])
    read_records(place / "test.bin", images[TRAIN_IMAGES:], labels[TRAIN_IMAGES:], CHECKSUMS["test.bin"])
    coarse, fine = torch.from_numpy(labels).to(torch.int64).unbind(1)
    everything = Split(torch.arange(len(images)), coarse, number_fine_labels(coarse, fine)[fine])
    train, test = (everything[rows] for rows in everything.index.split([TRAIN_IMAGES, TEST_IMAGES]))
    return make_data(
        "cifar", torch.from_numpy(images), train, test, task_names, [CLASSES] * TASKS, validation=validation, seed=seed
    )


def read_records(path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], sha256: str) -> None:
    """Read a file into arrays, a part at a time so that it is never in memory twice.

    Args:
        path: the file.
        images: uint8 [N, 3, 32, 32], written to.
        labels: uint8 [N, 2], coarse and fine label, written to.
        sha256: checksum that the file must have.

    Raises:
        ValueError: The file has another size or checksum.
    """
    size = path.stat().st_size
    if size != len(images) * _RECORD:
        raise ValueError(
            f"{path} has {size} bytes, not {len(images)} records of {_RECORD}; is it cut short, or are train.bin and "
            f"test.bin swapped? To replace it, run: {_download(path)}"
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, len(images), _RECORDS_AT_ONCE):
            part = file.read(_RECORDS_AT_ONCE * _RECORD)
            digest.update(part)
            records = np.frombuffer(part, np.uint8).reshape(-1, _RECORD)
            labels[start : start + len(records)] = records[:, :2]
            images[start : start + len(records)] = records[:, 2:].reshape(-1, *SHAPE)
    if digest.hexdigest() != sha256:
        raise ValueError(_not_published(path, sha256))


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_published(path: Path, sha256: str) -> str:
    return f"{path} is damaged: its sha256 is not {sha256}. To replace it, run: {_download(path)}"


def _download(path: Path) -> str:
    """The command that replaces a file."""
    return download_command("cifar", path.parent.parent if path.parent.name == FOLDER else path.parent)


def number_fine_labels(coarse: Tensor, fine: Tensor) -> Tensor:
    """Number the fine labels within each coarse label, as found in the records.

    Args:
        coarse: int64 [N], 0 to 19.
        fine: int64 [N], 0 to 99.

    Returns:
        int64 [100], the class of every fine label: 0 to 4 in ascending order within its coarse label.

    Raises:
        ValueError: A fine label has two coarse labels, or a coarse label does not have exactly five fine ones.
    """
    pairs = (100 * coarse + fine).unique()
    coarse, fine = pairs // 100, pairs % 100
    if len(fine.unique()) != len(fine) or torch.bincount(coarse, minlength=TASKS).tolist() != [CLASSES] * TASKS:
        raise ValueError(
            f"the labels are not CIFAR-100's: {len(pairs)} pairs of a coarse and a fine label instead of "
            f"{TASKS} coarse with {CLASSES} fine labels each; run: routing-env download cifar"
        )
    number = torch.empty(TASKS * CLASSES, dtype=torch.int64)
    number[fine] = torch.arange(CLASSES).repeat(TASKS)
    return number
