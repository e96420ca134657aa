"""The IDX format of MNIST: big-endian, a magic number, the dimensions, then the bytes; gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read one gzipped IDX file of unsigned bytes.

    Args:
        path: of the file.
        shape: that the file must have.

    Returns:
        uint8 of that shape.

    Raises:
        ValueError: a file that is damaged (gzip keeps a checksum), or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no gzip file ({error}); delete it and download it again") from error
    header = 4 + 4 * len(shape)
    magic = bytes([0, 0, _UNSIGNED_BYTE, len(shape)])
    if content[:4] != magic:
        raise ValueError(
            f"{path} begins with {content[:4].hex() or 'nothing'}, not {magic.hex()}: it is no IDX file of bytes in "
            f"{len(shape)} dimensions; are images and labels swapped?"
        )
    found = tuple(np.frombuffer(content, ">u4", count=(min(len(content), header) - 4) // 4, offset=4).tolist())
    if found != shape:
        raise ValueError(f"{path} has shape {found}, not {shape}; are the training and test files swapped?")
    if len(content) - header != np.prod(shape):
        raise ValueError(f"{path} holds {len(content) - header} values, not {np.prod(shape)}; download it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
