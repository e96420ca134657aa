"""Data sets by name, and the form they take."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from routing_env.data.base import MultiTaskData, Split, SplitName, make_data
from routing_env.data.dealers import EndlessPass, OnePerTask, ShuffledPass
from routing_env.data.subsets import first_tasks, training_share
from routing_env.names import look_up

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "EndlessPass",
    "MultiTaskData",
    "OnePerTask",
    "Recipe",
    "ShuffledPass",
    "Split",
    "SplitName",
    "first_tasks",
    "load",
    "make_data",
    "recipe",
    "training_share",
]

Network = Literal["mlp", "simple_convnet"]


@dataclass(frozen=True)
class Recipe:
    """The settings that a data set is trained with unless told otherwise.

    Attributes:
        network: "mlp" or "simple_convnet".
        hidden: width between routed layers.
        batch_size: lanes per deal.
        learning_rate: of the blocks.
        rho: weight of the collaboration reward.
        epochs: passes over the training split.
        layers: routed layers.
        threads: of the CPU; None leaves it to torch. Small networks gain little from a second thread and lose much
            when another program needs that core.
    """

    network: Network
    hidden: int
    batch_size: int
    learning_rate: float
    rho: float
    epochs: int
    layers: int = 3
    threads: int | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that can be named.

    Attributes:
        module: whose ``load(validation=, seed=)`` returns it; where ``files`` is set, ``load`` takes ``data_dir`` too.
        summary: one line.
        recipe: its settings.
        files: whether it is read from files that the user has or downloads.
    """

    module: str
    summary: str
    recipe: Recipe
    files: bool = False


DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        "routing_env.data.digits",
        "8x8 handwritten digits as 10 one-vs-rest tasks; comes with scikit-learn",
        Recipe("simple_convnet", hidden=64, batch_size=64, learning_rate=0.2, rho=0.0, epochs=12, threads=1),
    ),
    "planted": DatasetInfo(
        "routing_env.data.planted",
        "synthetic tasks in groups, whose best sharing is known; a router's first check, in seconds",
        Recipe("mlp", hidden=64, batch_size=24, learning_rate=0.2, rho=0.0, epochs=6, layers=1, threads=1),
    ),
    "mnist": DatasetInfo(
        "routing_env.data.mnist",
        "MNIST-MTL: 10 one-vs-rest tasks over 28x28 digits (paper, section 4)",
        Recipe("simple_convnet", hidden=128, batch_size=32, learning_rate=0.01, rho=0.3, epochs=10),
        files=True,
    ),
    "fashion_mnist": DatasetInfo(
        "routing_env.data.fashion_mnist",
        "Fashion-MNIST as 10 one-vs-rest tasks over 28x28 clothes, made as MNIST-MTL is",
        Recipe("simple_convnet", hidden=128, batch_size=32, learning_rate=0.01, rho=0.3, epochs=10),
        files=True,
    ),
    "cifar": DatasetInfo(
        "routing_env.data.cifar",
        "CIFAR-MTL: CIFAR-100's 20 coarse labels as tasks of 5 classes, 32x32 (paper, section 4)",
        Recipe("simple_convnet", hidden=128, batch_size=32, learning_rate=0.01, rho=0.0, epochs=10),
        files=True,
    ),
    "mini_imagenet": DatasetInfo(
        "routing_env.data.mini_imagenet",
        "MIN-MTL: 50 labels of mini-ImageNet in 10 tasks of 5, 84x84 (paper, section 4)",
        Recipe("simple_convnet", hidden=128, batch_size=32, learning_rate=0.01, rho=0.0, epochs=10),
        files=True,
    ),
}


def load(name: str, *, data_dir: str | None = None, validation: float = 0.1, seed: int = 0) -> MultiTaskData:
    """Load a data set by its name.

    Args:
        name: a key of ``DATASETS``.
        data_dir: where the files are, for the data sets that need some.
        validation: share of the training inputs that validate.
        seed: of the validation cut.

    Raises:
        ValueError: an unknown name, a bad share, or a file that is damaged or holds something else.
        FileNotFoundError: a file is missing.
    """
    info = look_up("data set", name, DATASETS)
    options = {"data_dir": data_dir} if info.files else {}
    return import_module(info.module).load(validation=validation, seed=seed, **options)


def recipe(data: MultiTaskData) -> Recipe:
    """The settings for a data set; for one's own data the paper's, with convolutions under images."""
    if data.name in DATASETS:
        return DATASETS[data.name].recipe
    image = len(data.input_shape) == 3 and min(data.input_shape[1:]) >= 8
    network, hidden = ("simple_convnet", 128) if image else ("mlp", 64)
    return Recipe(network, hidden=hidden, batch_size=32, learning_rate=0.01, rho=0.0, epochs=10)
