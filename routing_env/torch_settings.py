"""Torch's settings for the whole process, whatever the caller has made of them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def usual_torch(*, keep_gradients: bool = False) -> Generator[None, None, None]:
    """Inside, torch's settings for the whole process are those that it starts with, whatever the caller has set.

    They are the default type and device of new tensors, gradients, and inference mode.

    Args:
        keep_gradients: Leave gradients switched on or off as they are.
    """
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    usual = (
        dtype is torch.float32 and torch.get_default_device().type == "cpu" and not torch.is_inference_mode_enabled()
    )
    if usual and (gradients or keep_gradients):
        yield  # a default device, even the CPU, would slow every call down
        return
    torch.set_default_dtype(torch.float32)
    try:
        wanted = gradients or not keep_gradients
        with torch.inference_mode(mode=False), torch.set_grad_enabled(wanted), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
