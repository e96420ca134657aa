"""Torch's settings for the whole process, whatever the caller has made of them, and its devices."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def usual_torch(*, keep_gradients: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that needs torch's settings for the whole process as they are at the start.

    They are the default type and device of new tensors, gradients, and inference mode.

    Args:
        keep_gradients: Leave gradients switched on or off as they are.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if _is_usual() and (keep_gradients or torch.is_grad_enabled()):
                return function(*args, **kwargs)  # a default device, even the CPU, would slow every call down
            with _made_usual(keep_gradients):
                return function(*args, **kwargs)

        return run

    return decorate


def _is_usual() -> bool:
    new = torch.empty(0)
    return new.dtype is torch.float32 and new.device.type == "cpu" and not new.is_inference()


@contextmanager
def _made_usual(keep_gradients: bool) -> Generator[None]:
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    torch.set_default_dtype(torch.float32)
    try:
        wanted = gradients or not keep_gradients
        with torch.inference_mode(mode=False), torch.set_grad_enabled(wanted), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: it is not available.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not available: {str(error).splitlines()[0]}; try cpu") from error
    return device
