"""The IDX format of MNIST: a magic number, the dimensions in big-endian order, then the bytes; usually gzipped."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_UNSIGNED_BYTE = b"\0\0\x08"
_GZIP = b"\x1f\x8b"
_SLACK = 1 << 16
"""Bytes beyond the expected end that are read, to tell how much too long a file is; a gzip bomb gets no further."""


@dataclass(frozen=True)
class Checksums:
    """What tells a published IDX file from another one of the same name and shape.

    Attributes:
        md5: of the gzipped file as published.
        sha256: of the unpacked content, where it is known; then files that were unpacked or packed again pass, too.
    """

    md5: str
    sha256: str | None = None


def idx_file(place: Path, file: str) -> Path | None:
    """Find an IDX file under any of the names that it goes by.

    Args:
        place: the folder.
        file: the published name, such as ``train-images-idx3-ubyte.gz``. The unpacked file, Kaggle's
            ``train-images.idx3-ubyte``, and either of them inside a folder of the same name will do.

    Returns:
        Its path, or None if it is not there.
    """
    plain = file.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    names = (file, plain, f"{dotted}.gz", dotted, f"{plain}/{plain}", f"{dotted}/{dotted}")
    return next((place / name for name in names if (place / name).is_file()), None)


def read_idx(path: Path, shape: tuple[int, ...] | None = None) -> Tensor:
    """Read an IDX file of unsigned bytes, gzipped if its name ends in ``.gz`` and unpacked otherwise.

    Args:
        path: the file.
        shape: the shape that the file must have; None accepts any.

    Returns:
        uint8 tensor of that shape.

    Raises:
        ValueError: The file is damaged (gzip keeps a checksum), or holds something else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            dimensions = magic[3] if len(magic) == 4 else 0
            if magic[:3] != _UNSIGNED_BYTE or not dimensions or (shape and dimensions != len(shape)):
                expected = (_UNSIGNED_BYTE + bytes([len(shape)])).hex() if shape else f"{_UNSIGNED_BYTE.hex()}.."
                raise ValueError(
                    f"{path} begins with {magic.hex() or 'nothing'}, not {expected}: it is not an IDX file of bytes"
                    + (f" in {len(shape)} dimensions; are images and labels swapped?" if shape else "")
                    + ("; it is packed, so add .gz to its name" if magic[:2] == _GZIP else "")
                )
            sizes = file.read(4 * dimensions)
            found = tuple(np.frombuffer(sizes, ">u4", count=len(sizes) // 4).tolist())
            if len(found) != dimensions or (shape and found != shape):
                raise ValueError(f"{path} has shape {found}, not {shape}; are the training and test files swapped?")
            content = file.read(math.prod(found) + _SLACK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        with path.open("rb") as file:
            unpacked = file.read(3) == _UNSIGNED_BYTE
        remedy = "it is unpacked already, so take .gz from its name" if unpacked else "delete it and download it again"
        raise ValueError(f"{path} is damaged or no gzip file ({error}); {remedy}") from error
    if len(content) != math.prod(found):
        raise ValueError(f"{path} holds {len(content)} values, not {math.prod(found)}; download it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(found).copy())


def is_published(path: Path, values: Tensor, checksums: Checksums) -> bool:
    """Whether a file that was read is the published one.

    Args:
        path: the file.
        values: what :func:`read_idx` returned for it.
        checksums: of the published file.
    """
    with path.open("rb") as file:
        if path.suffix == ".gz" and hashlib.file_digest(file, "md5").hexdigest() == checksums.md5:
            return True
    digest = hashlib.sha256(_UNSIGNED_BYTE + bytes([values.dim()]) + np.array(values.shape, ">u4").tobytes())
    digest.update(values.numpy().data)
    return digest.hexdigest() == checksums.sha256
