"""``fashion_mnist``: Fashion-MNIST (Xiao et al. 2017) as ten one-vs-rest tasks, made as MNIST-MTL is from MNIST."""

from __future__ import annotations

from routing_env.data.base import MultiTaskData
from routing_env.data.idx import Checksums
from routing_env.data.mnist import make_one_vs_rest, read_files

CLASSES = (
    "T-shirt or top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": Checksums("8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "train-labels-idx1-ubyte.gz": Checksums("25c81989df183df01b3e8a0aad5dffbe"),
    "t10k-images-idx3-ubyte.gz": Checksums("bef4ecab320f06d8554ea6380940ec79"),
    "t10k-labels-idx1-ubyte.gz": Checksums("bb300cfdad3c16e7a12a480ee83cd310"),
}
"""Only the gzipped files have published checksums, so unpacked ones cannot be told from those of another data set."""


def load(*, validation: float = 0.1, seed: int = 0, data_dir: str | None = None) -> MultiTaskData:
    """Ten tasks of two classes; inputs uint8 [70000, 1, 28, 28].

    Args:
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
        data_dir: the folder that holds ``fashion-mnist/`` or torchvision's ``FashionMNIST/raw/``, or that folder
            itself. The files must be the gzipped ones as published.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged or is not Fashion-MNIST's.
    """
    train, test = read_files("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", CHECKSUMS, data_dir)
    return make_one_vs_rest("fashion_mnist", train, test, CLASSES, validation=validation, seed=seed)
