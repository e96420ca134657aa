"""The commands that meet with faults, their uninterrupted twins, and what must be true of them afterwards."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from routing_env.checkpoint import load_tree
from routing_env.runs.directory import RunDirectory

from .server import ROOT, Command, Ending, ForkServer, alive

RUNS = "runs"
"""Folder of all runs inside the folder of a fault."""

_OWN_ROUTER = f"{ROOT / 'examples' / 'custom_router.py'}:Greedy"
_PLANTED = ("--data", "planted", "--data-options", "samples=30")

TRAININGS: Mapping[str, tuple[str, ...]] = {
    "wpl": (*_PLANTED, "--epochs", "6", "--no-reference"),
    "references": (*_PLANTED, "--epochs", "3"),
    "baseline": (*_PLANTED, "--epochs", "6", "--no-reference", "--router", "mmoe"),
    "seldom": (*_PLANTED, "--epochs", "7", "--no-reference", "--router", "q-learning", "--measure-every", "2"),
    "dropout": (*_PLANTED, "--epochs", "5", "--no-reference", "--dropout", "0.2", "--optimizer", "adam"),
    "own": (*_PLANTED, "--epochs", "5", "--no-reference", "--router", _OWN_ROUTER),
}
"""Options of ``routing-env train``: several algorithms, each with a few short epochs."""

_ENTRANTS = ("planted", "--entrants", "wpl", "mmoe", "--epochs", "4", "--fraction", "0.1")
GRIDS: Mapping[str, tuple[str, ...]] = {
    name: (name, *_ENTRANTS, *options, "--workers", "2", "--run-dir", RUNS)
    for name, options in {
        "benchmark": ("--seeds", "2"),
        "tune": ("--search", "learning_rate", "--rates", "0.1", "0.3", "--trials", "2", "--seeds", "1"),
    }.items()
}
"""Commands that train many runs; the same command again goes on. The last argument is the folder of all runs."""

Breach = Literal["bits lost", "hangs", "tracebacks", "exit codes", "litter"]
"""What a fault may break; the columns of the table."""

BREACHES: tuple[Breach, ...] = ("bits lost", "hangs", "tracebacks", "exit codes", "litter")

_SUCCESS, _REFUSED, _INTERRUPTED = 0, 2, 130


class BreachError(Exception):
    """An invariant does not hold.

    Args:
        breach: Which.
        told: What happened.
    """

    def __init__(self, breach: Breach, told: str) -> None:
        super().__init__(f"{breach}: {told}")
        self.breach: Breach = breach


class SkippedError(Exception):
    """A fault cannot be injected here; the message says why."""


@dataclass(frozen=True)
class Twin:
    """A command that nothing has disturbed.

    Attributes:
        folder: Of its run, or of all runs of a grid.
        content: Of its files, see :func:`content`.
        seconds: That it took.
        half: Folder of a run of the same command that was killed between its first checkpoint and its last.
    """

    folder: Path
    content: Mapping[str, str]
    seconds: float
    half: Path | None = None


def first(training: str, folder: Path) -> Command:
    """The command that begins a training."""
    return Command(arguments=("train", *TRAININGS[training], "--run-dir", RUNS), folder=str(folder))


def again(training: str, run: Path, folder: Path) -> Command:
    """The command that continues it."""
    consent = ("--trust",) if training == "own" else ()
    return Command(arguments=("train", "--resume", str(run.relative_to(folder)), *consent), folder=str(folder))


def run_in(folder: Path) -> Path | None:
    """The run that a training has begun: its newest folder with a config, which is the last thing to be written."""
    found = sorted(path.parent for path in (folder / RUNS).glob("*/*/config.json"))
    return found[-1] if found else None


def twin_of(training: str, folder: Path, server: ForkServer) -> Twin:
    """Train in a new folder, undisturbed."""
    folder.mkdir(parents=True)
    (ending,) = server.run(first(training, folder))
    expect(ending, _SUCCESS)
    run = run_in(folder)
    assert run is not None
    return Twin(run, content(run), ending.seconds)


def grid_twin(name: str, folder: Path, server: ForkServer) -> Twin:
    """Run one of the ``GRIDS`` in a new folder, undisturbed."""
    folder.mkdir(parents=True)
    (ending,) = server.run(Command(arguments=GRIDS[name], folder=str(folder)))
    expect(ending, _SUCCESS)
    return Twin(folder / RUNS, content(folder / RUNS), ending.seconds)


def expect(ending: Ending, *codes: int) -> None:
    """Hold an ending to what every ending must be.

    Args:
        ending: Of a command.
        codes: The exit codes that it may have.

    Raises:
        BreachError: It hung, printed a traceback, or has another exit code.
    """
    if ending.hung:
        raise BreachError("hangs", f"it had not ended after {ending.seconds:.0f} seconds: {_last(ending)}")
    # Until the first line of the package runs, Python itself answers Ctrl-C.
    if "Traceback (most recent call last)" in ending.output and "routing_env" in ending.output:
        raise BreachError("tracebacks", ending.output[-3000:])
    if ending.code not in codes:
        raise BreachError("exit codes", f"exit code {ending.code}, not {' or '.join(map(str, codes))}: {_last(ending)}")


def codes_after(command: Command) -> tuple[int, ...]:
    """The exit codes that are documented for a command that a signal has hit."""
    if command.to == "worker":
        return (_REFUSED,)
    if command.signal == signal.SIGINT:
        return (_INTERRUPTED, -signal.SIGINT, 1) if command.fresh and command.after < 0.5 else (_INTERRUPTED,)
    return (-command.signal,)


def expect_refusal(ending: Ending, *words: str) -> None:
    """Hold a command that cannot go on to an error of one line, with these words in it.

    Raises:
        BreachError: It is not so.
    """
    expect(ending, _REFUSED)
    if "error:" not in ending.output or not all(word in ending.output for word in words):
        raise BreachError("exit codes", f"its error does not say {' and '.join(words)}: {_last(ending)}")


@dataclass(frozen=True)
class Standing:
    """What the runs in a folder have behind them.

    Attributes:
        rows: For each folder of a run the lines of its metrics up to its checkpoint, as they are in the file.
    """

    rows: Mapping[Path, tuple[str, ...]]

    @classmethod
    def of(cls, folder: Path) -> Standing:
        """The standing of all runs in a folder, references included."""
        rows: dict[Path, tuple[str, ...]] = {}
        for checkpoint in sorted(folder.rglob("checkpoint.safetensors")):
            directory = RunDirectory(checkpoint.parent)
            epoch, lines = directory.epoch, directory.metrics_path.read_text(encoding="utf-8").split("\n")
            known = [line for line in lines[:-1] if json.loads(line)["epoch"] <= epoch]
            rows[checkpoint.parent.relative_to(folder)] = tuple(known)
        return cls(rows)

    def refuse_loss(self, before: Standing) -> None:
        """Raise unless all that was there before is here to the letter, seconds included: it was not trained again.

        Raises:
            BreachError: It is not.
        """
        for place, rows in before.rows.items():
            if self.rows.get(place, ())[: len(rows)] != rows:
                raise BreachError("bits lost", f"epochs of {place} that a checkpoint had were trained again")


def settle(folder: Path, twin: Twin, groups: list[int]) -> None:
    """Hold what has ended well in the end to its twin.

    Args:
        folder: Of the run, or of all runs of a grid.
        twin: What it must be equal to.
        groups: The groups of all processes that have worked on it; none may be left.

    Raises:
        BreachError: Bits differ, files are missing or left over, or a process is.
    """
    found = content(folder)
    differing = sorted(name for name in found.keys() & twin.content.keys() if found[name] != twin.content[name])
    missing, more = sorted(twin.content.keys() - found.keys()), sorted(found.keys() - twin.content.keys())
    if differing or missing:
        raise BreachError("bits lost", f"different: {differing}, missing: {missing}; the twin is {twin.folder}")
    if more:
        raise BreachError("litter", f"left over: {more}")
    deadline = time.monotonic() + 60
    while left := [process for group in groups for process in alive(group)]:
        if time.monotonic() > deadline:
            raise BreachError("litter", f"processes {left} are still there")
        time.sleep(0.1)


def content(folder: Path) -> dict[str, str]:
    """A digest of each file in a folder, by its path, without what tells the time."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(b"\0".join(_parts(path))).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _parts(path: Path) -> Iterator[bytes]:
    """The content of a file."""
    if path.name == "metrics.jsonl":
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.dumps(_timeless(json.loads(line))).encode()
    elif path.suffix == ".safetensors":
        yield from _leaves(_timeless(load_tree(path)))
    elif path.name == "config.json":
        config = json.loads(path.read_text(encoding="utf-8"))
        yield json.dumps(config, sort_keys=True).encode()
    elif path.name == "leaderboard.csv":
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            yield json.dumps(_timeless(row)).encode()
    elif path.parent.parent.name != "reports" and not re.fullmatch(r"tuned-.*\.md|.*\.journal", path.name):
        yield path.read_bytes()  # the others are made of the same numbers, times among them


def _timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "seconds" not in name}


def _leaves(tree: Any) -> Iterator[bytes]:
    """Everything in a nested state, tensors to the bit."""
    if isinstance(tree, dict):
        for key, value in cast(dict[Any, Any], tree).items():
            yield repr(key).encode()
            yield from _leaves(value)
    elif isinstance(tree, list):
        for value in cast(list[Any], tree):
            yield from _leaves(value)
    elif isinstance(tree, torch.Tensor):
        yield f"{tree.dtype}{tuple(tree.shape)}".encode()
        yield tree.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        yield repr(tree).encode()


def _last(ending: Ending) -> str:
    """The end of what a command has printed."""
    return ending.output.strip()[-600:] or "(no output)"
