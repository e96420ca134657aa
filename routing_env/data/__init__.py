"""Data sets by name, with the settings that they are usually trained with.

The names below that need torch are loaded when they are first used, so that the command line can list data sets at
once.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from routing_env.names import check_options, find, lazy_attributes

if TYPE_CHECKING:
    from routing_env.data.base import MultiTaskData as MultiTaskData
    from routing_env.data.base import Split as Split
    from routing_env.data.base import SplitName as SplitName
    from routing_env.data.base import make_data as make_data
    from routing_env.data.dealers import EndlessPass as EndlessPass
    from routing_env.data.dealers import OnePerTask as OnePerTask
    from routing_env.data.dealers import ShuffledPass as ShuffledPass
    from routing_env.data.subsets import first_tasks as first_tasks
    from routing_env.data.subsets import training_share as training_share

_HOMES = {
    "EndlessPass": "dealers",
    "MultiTaskData": "base",
    "OnePerTask": "dealers",
    "ShuffledPass": "dealers",
    "Split": "base",
    "SplitName": "base",
    "first_tasks": "subsets",
    "make_data": "base",
    "training_share": "subsets",
}

__all__ = ["DATASETS", "DatasetInfo", "load", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that has a name.

    Attributes:
        module: its ``load(validation=, seed=)`` returns the data; where ``files`` is set, it takes ``data_dir`` too.
        summary: one line.
        usual: the values of settings that it is trained with unless others are given, by the names of
            :class:`~routing_env.game.settings.Settings` and :class:`~routing_env.runs.settings.RunSettings`.
        files: whether it is read from files that the user has or downloads.
    """

    module: str
    summary: str
    usual: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: bool = False


DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        "routing_env.data.digits",
        "8x8 handwritten digits as 10 one-vs-rest tasks; comes with the package",
        # Small networks gain little from a second thread, and lose much when another program needs that core.
        {
            "network": "simple_convnet",
            "hidden": 64,
            "batch_size": 64,
            "learning_rate": 0.2,
            "epochs": 12,
            "threads": 1,
        },
    ),
    "planted": DatasetInfo(
        "routing_env.data.planted",
        "synthetic tasks in groups whose best sharing is known; a first check of a router, in seconds",
        {"layers": 1, "batch_size": 24, "learning_rate": 0.2, "epochs": 6, "threads": 1},
    ),
    "compose": DatasetInfo(
        "routing_env.data.compose",
        "synthetic tasks that are programs over the same hidden functions; the best route is known",
        {
            "hidden": 12,
            "layers": 2,
            "blocks": 3,
            "recursive": True,
            "pass_action": True,
            "depth": 4,
            "optimizer": "adam",
            "learning_rate": 0.01,
            "decay_every": 40,
            "batch_size": 64,
            "epochs": 50,
            "threads": 1,
        },
    ),
    "sequences": DatasetInfo(
        "routing_env.data.sequences",
        "sequences of digits; 9 tasks compose the same operations; for recurrent networks, in a minute",
        {
            "network": "routed_lstm",
            "hidden": 16,
            "blocks": 4,
            "optimizer": "adam",
            "learning_rate": 0.01,
            "batch_size": 64,
            "epochs": 20,
            "threads": 1,
        },
    ),
    "mixed": DatasetInfo(
        "routing_env.data.mixed",
        "synthetic tasks with samples of several kinds; the best route depends on the sample, not on the task",
        {"layers": 1, "blocks": 3, "batch_size": 24, "learning_rate": 0.2, "epochs": 12, "threads": 1},
    ),
    "mnist": DatasetInfo(
        "routing_env.data.mnist",
        "MNIST-MTL: 10 one-vs-rest tasks over 28x28 digits (paper, section 4)",
        {"network": "simple_convnet", "hidden": 128, "optimizer": "sgd", "rho": 0.3},
        files=True,
    ),
    "fashion_mnist": DatasetInfo(
        "routing_env.data.fashion_mnist",
        "Fashion-MNIST as 10 one-vs-rest tasks over 28x28 clothes, made as MNIST-MTL is",
        {"network": "simple_convnet", "hidden": 128, "rho": 0.3},
        files=True,
    ),
    "cifar": DatasetInfo(
        "routing_env.data.cifar",
        "CIFAR-MTL: CIFAR-100's 20 coarse labels as tasks of 5 classes, 32x32 (paper, section 4)",
        {"network": "simple_convnet", "hidden": 128, "optimizer": "sgd"},
        files=True,
    ),
    "mini_imagenet": DatasetInfo(
        "routing_env.data.mini_imagenet",
        "MIN-MTL: 50 labels of mini-ImageNet in 10 tasks of 5, 84x84 (paper, section 4)",
        {"network": "simple_convnet", "hidden": 128, "optimizer": "sgd"},
        files=True,
    ),
}


def load(
    name: str, *, data_dir: str | None = None, validation: float = 0.1, seed: int = 0, **options: Any
) -> MultiTaskData:
    """Load a data set by its name, with its usual settings.

    Args:
        name: a key of ``DATASETS``, or ``module:name`` or ``file.py:name`` of your own: a
            :class:`~routing_env.data.base.MultiTaskData`, or a function that returns one and takes ``validation`` and
            ``seed`` as keyword arguments, and ``data_dir`` if it needs files.
        data_dir: folder of the files, for the data sets that need some; None stands for the environment variable
            ROUTING_ENV_DATA, or else ./data.
        validation: share of the training inputs that is held out for validation.
        seed: seed of the validation cut.
        options: further arguments of the data set's function, such as those of
            :func:`routing_env.data.planted.plant`.

    Raises:
        ValueError: The name or an option is unknown, the share or the seed is invalid, or a file is damaged or holds
            something else.
        FileNotFoundError: A file is missing.
    """
    import torch

    from routing_env.data.base import MultiTaskData

    loaders = {known: f"{info.module}:load" for known, info in DATASETS.items()}
    found = find("data set", name, loaders)
    if options and not callable(found):
        raise ValueError(f"data set {name!r} is an object and has no options; got {', '.join(options)}")
    if callable(found):
        check_options(f"data set {name!r}", found, options, besides=("validation", "seed", "data_dir"))
        files = {"data_dir": data_dir} if "data_dir" in inspect.signature(found).parameters else {}
        try:
            with torch.device("cpu"):
                found = found(validation=validation, seed=seed, **files, **options)
        except TypeError as error:
            raise ValueError(f"data set {name!r} cannot be loaded: {error}; see routing_env.data.load") from error
    if not isinstance(found, MultiTaskData):
        raise ValueError(f"{name!r} gives a {type(found).__name__}, not MultiTaskData; see docs/data.md")
    return replace(found, usual=DATASETS[name].usual) if name in DATASETS else found
