"""What concerns the whole process: its threads, and how it keeps memory. Only commands and workers call this."""

from __future__ import annotations

import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def prepare(threads: int) -> None:
    """Set up a process that does nothing but train: its threads, and memory that it keeps.

    Args:
        threads: of the CPU.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of its tensors.

    A training step allocates and frees the same few megabytes again and again. By default glibc returns them to the
    system each time, and the system hands them out again page by page, zeroed: on CIFAR-MTL that cost a fifth of the
    step. From this call on the process keeps what it once had. Results are not touched.

    Returns:
        Whether the C library has such a setting; only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20)) and bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
