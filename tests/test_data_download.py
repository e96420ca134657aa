"""Downloads, from a server on this machine that can be told to misbehave."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from routing_env.data.download import Source, download, extract, fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves ``files``; hangs up after ``cut`` bytes of an answer, and ignores Range where ``ranges`` is False."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges = True
        self.sent: list[int] = []

    def source(self, md5: str | None = None, members: dict[str, str] | None = None) -> Source:
        """What a user of this server would know of its one file."""
        (name, content), *_ = self.files.items()
        url = f"http://127.0.0.1:{self.server_address[1]}/"
        return Source("folder", url, {name: md5 or hashlib.md5(content).hexdigest()}, members or {})


class Handler(BaseHTTPRequestHandler):
    """Answers as its :class:`Server` says."""

    def do_GET(self) -> None:
        """Send the rest of a file, or what the server's settings make of it."""
        server = cast(Server, self.server)
        content, start = server.files.get(self.path[1:]), 0
        if content is None:
            return self.send_error(404)
        asked = self.headers.get("Range")
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:][: server.cut]
        server.sent.append(len(body))
        self.wfile.write(body)
        return None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.files["file.gz"] = CONTENT
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_download_lands_whole_and_is_not_repeated(server: Server, console: Console, tmp_path: Path) -> None:
    for _ in range(2):
        folder = fetch(server.source(), tmp_path, console)
        assert (folder / "file.gz").read_bytes() == CONTENT
    assert names(tmp_path) == {"file.gz"}
    assert server.sent == [len(CONTENT)]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on_where_it_was_cut(
    server: Server, console: Console, tmp_path: Path, ranges: bool
) -> None:
    server.cut, server.ranges = 300_000, ranges
    with pytest.raises(ConnectionError, match="run again to continue"):
        fetch(server.source(), tmp_path, console)
    assert names(tmp_path) == {"file.gz.part"}
    server.cut = None
    folder = fetch(server.source(), tmp_path, console)
    assert (folder / "file.gz").read_bytes() == CONTENT
    assert server.sent == [300_000, 700_000 if ranges else 1_000_000]


def test_a_part_that_was_complete_or_too_long_is_no_obstacle(server: Server, console: Console, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.gz.part").write_bytes(CONTENT + b"more")
    assert (fetch(server.source(), tmp_path, console) / "file.gz").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, console: Console, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not have the md5 0123.* run the download again"):
        fetch(server.source(md5="0123" * 8), tmp_path, console)
    assert names(tmp_path) == set()


def test_a_damaged_file_is_replaced(server: Server, console: Console, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.gz").write_bytes(CONTENT[:-1] + b"!")
    assert (fetch(server.source(), tmp_path, console) / "file.gz").read_bytes() == CONTENT


def test_a_missing_file_and_a_dead_server_are_named(server: Server, console: Console, tmp_path: Path) -> None:
    source = server.source()
    del server.files["file.gz"]
    with pytest.raises(ConnectionError, match=r"file\.gz answered 404"):
        fetch(source, tmp_path, console)
    server.server_close()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        fetch(Source("folder", "http://127.0.0.1:9/", source.files), tmp_path, console)
    assert names(tmp_path) == set()


def archive(members: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return buffer.getvalue()


def test_an_archive_is_unpacked_and_removed(server: Server, console: Console, tmp_path: Path) -> None:
    server.files = {"a.tar.gz": archive({"folder/train.bin": b"train", "folder/test.bin": b"test", "folder/x": b""})}
    sums = {f"{part}.bin": hashlib.sha256(part.encode()).hexdigest() for part in ("train", "test")}
    source = server.source(members=sums)
    folder = fetch(source, tmp_path, console)
    assert (folder / "train.bin").read_bytes() == b"train"
    assert names(tmp_path) == {"train.bin", "test.bin"}
    fetch(source, tmp_path, console)
    assert len(server.sent) == 1


def test_a_damaged_member_of_an_archive_is_downloaded_again(server: Server, console: Console, tmp_path: Path) -> None:
    server.files = {"a.tar.gz": archive({"folder/train.bin": b"train"})}
    source = server.source(members={"train.bin": hashlib.sha256(b"train").hexdigest()})
    for harm in (b"trbin", b"", None):
        folder = fetch(source, tmp_path, console)
        assert (folder / "train.bin").read_bytes() == b"train"
        (folder / "train.bin").unlink() if harm is None else (folder / "train.bin").write_bytes(harm)
    assert len(server.sent) == 3


@pytest.mark.parametrize(
    "content",
    [
        archive({"folder/train.bin": b"fine", "../outside": b"evil"}),
        archive({"folder/train.bin": b"fine", "/etc/outside": b"evil", "folder/../../outside": b"evil"}),
        archive({}, link=("folder/train.bin", "../../outside")),
        archive({}, link=("folder/train.bin", "other")),
        archive({"folder/test.bin": b"no train.bin"}),
        archive({"folder/train.bin": b"cut short" * 100})[:80],
        gzip.compress(b"no archive"),
        b"",
    ],
    ids=["parent", "through a folder", "link out", "link inside", "member missing", "cut", "no tar", "empty"],
)
def test_an_archive_that_is_not_safe_or_whole_unpacks_nothing(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    path = folder / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tar\.gz .*delete it"):
        extract(path, Source("folder", "", {}, {"train.bin": ""}))
    assert names(tmp_path) == {"a.tar.gz"}


def test_what_cannot_or_need_not_be_downloaded_says_so(console: Console, tmp_path: Path) -> None:
    assert download("digits", tmp_path, console) is None
    with pytest.raises(ValueError, match="mini-imagenet/images/"):
        download("mini_imagenet", tmp_path, console)
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        download("minst", tmp_path, console)
    assert names(tmp_path) == set()
