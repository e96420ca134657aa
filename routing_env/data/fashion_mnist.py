"""``fashion_mnist``: Fashion-MNIST (Xiao et al. 2017) as ten one-vs-rest tasks, made as MNIST-MTL is from MNIST."""

from __future__ import annotations

from routing_env.data.base import MultiTaskData
from routing_env.data.mnist import load_one_vs_rest

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


def load(*, validation: float = 0.1, seed: int = 0, data_dir: str | None = None) -> MultiTaskData:
    """Ten tasks of two classes; inputs uint8 [70000, 1, 28, 28]. Arguments and errors as for ``mnist``."""
    return load_one_vs_rest(
        "fashion_mnist", "fashion-mnist", CLASSES, validation=validation, seed=seed, data_dir=data_dir
    )
