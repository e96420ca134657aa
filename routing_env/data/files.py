"""Where a data set's files are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "ROUTING_ENV_DATA"
"""The environment variable that names the data directory."""


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """The argument, else the environment variable ROUTING_ENV_DATA, else ``data`` in the current directory."""
    return Path(data_dir or os.environ.get(VARIABLE) or "data").expanduser()


def find_files(name: str, folder: str, files: Sequence[str], data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder that holds a data set's files.

    Args:
        name: of the data set, for the message.
        folder: what it is called inside the data directory; the data directory may also be that folder itself.
        files: what must be in it.
        data_dir: see :func:`data_directory`.

    Raises:
        FileNotFoundError: something is missing.
    """
    root = data_directory(data_dir)
    for place in (root / folder, root):
        if all((place / file).exists() for file in files):
            return place
    place = root / folder if (root / folder).is_dir() else root
    missing = next(file for file in files if not (place / file).exists())
    missing = missing if place != root else f"{folder}/{missing}"
    raise FileNotFoundError(
        f"data directory {place.resolve()} has no {missing}; pass --data-dir or set {VARIABLE} to where the files are, "
        f"or run: routing-env download {name}"
    )
