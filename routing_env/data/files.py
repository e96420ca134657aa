"""Finds the files of a data set."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

VARIABLE = "ROUTING_ENV_DATA"
"""The environment variable that names the data directory."""


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """The argument, else the environment variable ROUTING_ENV_DATA, else ``data`` in the current directory."""
    return Path(data_dir or os.environ.get(VARIABLE) or "data").expanduser()


def as_named(place: Path, file: str) -> Path | None:
    """The file or folder of exactly this name, or None."""
    path = place / file
    return path if path.exists() else None


def find_files(
    name: str,
    folder: str,
    files: Sequence[str],
    data_dir: str | os.PathLike[str] | None,
    *,
    layouts: Sequence[str] = (),
    form: Callable[[Path, str], Path | None] = as_named,
) -> Path:
    """Find the folder that holds the files of a data set.

    Args:
        name: name of the data set, for the message.
        folder: its folder inside the data directory; the data directory may also be that folder itself.
        files: files that must be there.
        data_dir: see :func:`data_directory`.
        layouts: further folders inside the data directory where other programs put the files.
        form: returns the path of a file in a folder, under any of the names that are accepted, or None.

    Raises:
        FileNotFoundError: A file is missing.
    """
    root = data_directory(data_dir)
    places = [root / folder, root, *(root / layout for layout in layouts)]
    for place in places:
        if all(form(place, file) for file in files):
            return place
    partly = [place for place in places if any(form(place, file) for file in files)]
    place = partly[0] if partly else root / folder if (root / folder).is_dir() else root
    missing = next(file for file in files if not form(place, file))
    missing = missing if place != root or partly else f"{folder}/{missing}"
    raise FileNotFoundError(
        f"data directory {place.resolve()} has no {missing}; pass data_dir (--data-dir on the command line) or set "
        f"{VARIABLE} to the folder that holds the files, or run: {download_command(name, data_dir)}"
    )


def download_command(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    """The command that downloads a data set to where it was looked for."""
    return f"routing-env download {name}" + (f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else "")
