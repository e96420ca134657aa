"""The real files of MNIST, CIFAR-100 and mini-ImageNet, where a computer has them."""

import os
from pathlib import Path

import pytest
import torch

from routing_env.data import MultiTaskData, load

REAL = Path(os.environ.get("ROUTING_ENV_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def real(folder: str) -> Path:
    if not (REAL / folder).is_dir():
        pytest.skip(f"{REAL} has no {folder}; set ROUTING_ENV_DATA to a folder that has it")
    return REAL / folder


def load_real(name: str, folder: str, validation: float = 0.0) -> MultiTaskData:
    return load(name, data_dir=str(real(folder).parent), validation=validation)


def per_task_and_class(data: MultiTaskData, split: str) -> torch.Tensor:
    part = getattr(data, split)
    return torch.bincount(part.task * data.outputs + part.target).view(data.tasks, data.outputs)
