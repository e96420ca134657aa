"""Downloads data sets. A file gets its name only when it is complete and its checksum is right."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from routing_env.data import DATASETS, cifar, fashion_mnist, mnist
from routing_env.data.files import data_directory
from routing_env.names import look_up

_TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as unreachable."""
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        folder: its folder inside the data directory.
        url: the folder on the server, with a slash at the end.
        files: file name to md5.
        members: if the only file is a tar archive, the files that it must hold in a folder named ``folder``, and
            their sha256.
    """

    folder: str
    url: str
    files: Mapping[str, str]
    members: Mapping[str, str] = field(default_factory=dict[str, str])


SOURCES = {
    "mnist": Source(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {file: checksums.md5 for file, checksums in mnist.CHECKSUMS.items()},
    ),
    "fashion_mnist": Source(
        "fashion-mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {file: checksums.md5 for file, checksums in fashion_mnist.CHECKSUMS.items()},
    ),
    "cifar": Source(
        cifar.FOLDER,
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
        members=cifar.CHECKSUMS,
    ),
}

MINI_IMAGENET = """\
mini_imagenet cannot be downloaded freely: its images are ImageNet's, whose terms ask everyone to register
(https://image-net.org/download.php). Put into the data directory

    mini-imagenet/images/        60,000 JPEGs of 84x84 pixels, for example n0153282900000005.jpg
    mini-imagenet/train.csv      filename,label
    mini-imagenet/val.csv
    mini-imagenet/test.csv

in the layout of Ravi & Larochelle (2017), whose repository meta-learning-lstm has the three tables. A part of the
images is enough if the tables name no others and at least 50 labels have at least 12 images each."""


def download(name: str, data_dir: str | os.PathLike[str] | None, console: Console) -> Path | None:
    """Download a data set by its name. Files that are there and have the right checksum are not downloaded again.

    Args:
        name: a key of ``DATASETS``.
        data_dir: data directory; defaults to the environment variable ROUTING_ENV_DATA, then to ``data``.
        console: console that shows the progress.

    Returns:
        The folder with the files; None for a data set that needs no files.

    Raises:
        ValueError: The name is unknown, the data set has no free source, or a checksum does not match.
        ConnectionError: The server cannot be reached, or the connection was cut; run again to continue.
    """
    if not look_up("data set", name, DATASETS).files:
        console.print(f"{name} needs no files; there is nothing to download")
        return None
    if name not in SOURCES:
        raise ValueError(MINI_IMAGENET)
    folder = fetch(SOURCES[name], data_directory(data_dir), console)
    console.print(f"{name} is in {folder}")
    return folder


def fetch(source: Source, root: Path, console: Console) -> Path:
    """Download the files of a source into its folder under ``root``; raises the errors of :func:`download`."""
    folder = root / source.folder
    members = {folder / member: sha256 for member, sha256 in source.members.items()}
    if members and all(path.is_file() and cifar.sha256_of(path) == sha256 for path, sha256 in members.items()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for file, md5 in source.files.items():
        path = _retrieve(source.url + file, md5, folder, console)
        if source.members:
            extract(path, source)
            path.unlink()
    return folder


def extract(archive: Path, source: Source) -> None:
    """Unpack the members of an archive beside it. Each appears under its name only when it is complete.

    Raises:
        ValueError: The archive is damaged, lacks a member, or would write outside its folder.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        try:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(scratch, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(f"{archive} cannot be unpacked safely: {error}; delete it") from error
        for member in source.members:
            unpacked = Path(scratch, source.folder, member)
            if unpacked.is_symlink() or not unpacked.is_file():
                raise ValueError(f"{archive} has no file {source.folder}/{member}; delete it and download it again")
        for member in source.members:
            Path(scratch, source.folder, member).replace(archive.parent / member)


def _retrieve(url: str, md5: str, folder: Path, console: Console) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    file = url.rsplit("/", 1)[1]
    part = folder / f"{file}.part"

    def continue_part(url: str, output_file: str, _: Any) -> None:
        _continue(url, part, console)
        part.replace(output_file)

    downloader: Any = continue_part
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", fname=file, path=folder, downloader=downloader))
    except ValueError as error:
        raise ValueError(
            f"the file that {url} sent does not have the md5 {md5} and was discarded; run the download again, and if "
            "it fails again, get the file elsewhere"
        ) from error


def _continue(url: str, part: Path, console: Console) -> None:
    """Download into ``part``, continuing an earlier download that was cut off."""
    if part.is_symlink():  # nothing is written through a link
        part.unlink()
    have = part.stat().st_size if part.exists() else 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with _open(url, have) as response, Progress(*columns, console=console) as progress:
            resumed = response.status == 206
            have = have if resumed else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            bar = progress.add_task(part.stem, total=total, completed=have)
            with part.open("ab" if resumed else "wb") as file:
                have += _copy(response, file, lambda count: progress.advance(bar, count))
    except HTTPError as error:
        raise ConnectionError(f"{url} answered {error.code} {error.reason}; try again later") from error
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"{url} cannot be reached or broke off ({error}); run again to continue") from error
    if total is not None and have < total:
        raise ConnectionError(f"{url} broke off after {have:,} of {total:,} bytes; run again to continue")


def _open(url: str, have: int) -> HTTPResponse:
    """Ask for the missing part; if the server has nothing beyond what is here, ask for the whole file."""
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        return urlopen(url, timeout=_TIMEOUT)


def _copy(response: HTTPResponse, file: IO[bytes], advance: Any) -> int:
    copied = 0
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        copied += len(chunk)
        advance(len(chunk))
    return copied
