"""Damage to the files of a run, and what the commands make of it: for tests, and for campaigns that other programs run.

:func:`corruptions` yields as many as are asked for, the same ones for the same seed::

    twin = Twin(folder)
    for corruption in corruptions(folder, 500, seed=0):
        damaged = shutil.copytree(folder, scratch / "damaged")
        corruption.apply(damaged)
        bad = twin.failures(damaged, corruption)  # nothing where all is well
        shutil.rmtree(damaged)
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from routing_env.benchmark.jobs import found_jobs
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.checkpoint import load_tree
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.records import sealed
from routing_env.runs.run import Run
from routing_env.runs.settings import resumed
from routing_env.state_dicts import same_state

REFUSED, SAME, OTHER = "refused", "same", "came to something else"
"""Outcomes; any but the first two is what went wrong, in words."""

TOLD = (ValueError, OSError)
"""Errors whose messages the command line shows as they are."""

WRONG: tuple[Any, ...] = (None, True, "1", -1, 10**400, 1e300, float("nan"), [], {}, [[[]]], "x" * 3000)
"""Values that replace others in JSON."""

_DEEP, _DEPTH = "a very deep list", 100_000


@dataclass(frozen=True)
class Corruption:
    """Damage to one file of a run.

    Attributes:
        file: Its path in the folder of the run.
        description: What is done to it.
        sealed: Whether the digests fit the damage, as if somebody had written the wrong content on purpose.
        apply: Damages the file in a folder, which should be a copy.
    """

    file: str
    description: str
    sealed: bool
    apply: Callable[[Path], object]


def corruptions(folder: Path, count: int, seed: int = 0) -> Iterator[Corruption]:
    """Damage of all kinds to every file that a run is resumed, evaluated or reported from.

    Args:
        folder: Of a run with a checkpoint; it is only read.
        count: Number of corruptions.
        seed: Of what is chosen.
    """
    draw = random.Random(seed)
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".jsonl", ".safetensors", ".py")]
    files = [path for path in files if not {"figures", "references"} & set(path.relative_to(folder).parts)]
    for number in range(count):
        path = files[number % len(files)]
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        kinds = [_flip, _flip, _cut] + [_value, _value, _sealed_value] * (path.suffix in (".json", ".jsonl"))
        kind = kinds[number // len(files) % len(kinds)]
        yield kind(name, content, draw)
        if number < len(files):  # the first round
            yield Corruption(name, "emptied", False, lambda place, name=name: (place / name).write_bytes(b""))
            yield Corruption(name, "removed", False, lambda place, name=name: (place / name).unlink())


class Twin:
    """What the commands make of an undamaged run, to compare with.

    Args:
        folder: Of the run; it is only read.
    """

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            copy = shutil.copytree(folder, Path(scratch, folder.name))
            self._expected = {name: command(copy) for name, command in _COMMANDS.items()}

    def outcomes(self, folder: Path, file: str = "") -> dict[str, str]:
        """What ``evaluate``, ``report`` and ``train --resume`` make of a folder, which the last one may train.

        Args:
            folder: Of a damaged run.
            file: The damaged file, which errors must name; any error will do without.

        Returns:
            For each command :data:`REFUSED`, :data:`SAME`, or what went wrong.
        """
        return {name: self._outcome(name, folder, file) for name in _COMMANDS}

    def failures(self, folder: Path, corruption: Corruption) -> list[str]:
        """The outcomes of a corruption that are not as they should be, in words."""
        file = "" if corruption.sealed else corruption.file
        well = {REFUSED, SAME, OTHER} if corruption.sealed else {REFUSED, SAME}  # other values may be right, too
        return [
            f"{corruption.file}, {corruption.description}: {name} {outcome}"
            for name, outcome in self.outcomes(folder, file).items()
            if outcome not in well
        ]

    def _outcome(self, name: str, folder: Path, file: str) -> str:
        before = _bytes_of(folder)
        try:
            found = _COMMANDS[name](folder)
        except TOLD as error:
            gone = bool(file) and not (folder / file).exists()
            if file not in str(error) and not (gone and str(folder) in str(error)):
                return f"was refused, without naming the file: {error}"
            changed = [path for path, content in _bytes_of(folder).items() if before.get(path) != content]
            return f"was refused, and yet changed {', '.join(changed)}" if changed else REFUSED
        except Exception as error:
            return f"raised {type(error).__name__}: {error}"
        return SAME if same_state(found, self._expected[name]) else OTHER


def _evaluate(folder: Path) -> Any:
    directory = RunDirectory.open(folder)
    settings = directory.read_config()
    directory.refuse_recorded()
    run = Run.stored(directory, settings)
    directory.remarks()
    run.restore(directory)
    found = run.evaluate("test")
    return [run.epoch, found.accuracy, found.balanced_accuracy, found.loss, found.routes]


def _report(folder: Path) -> Any:
    jobs = found_jobs([folder])
    boards = leaderboards(jobs)
    if not boards:
        raise ValueError(f"nothing has finished in {folder}")
    return [repr(boards), [repr(job.rows()) for job in jobs]]


def _resume(folder: Path) -> Any:
    directory = RunDirectory.open(folder)
    settings = directory.read_config()
    run = Run.stored(directory, resumed({"epochs": settings.epochs + 1}, settings))
    directory.remarks()
    run.train(directory, Display(Console(quiet=True)))
    tree = {**load_tree(directory.checkpoint_path), "seconds": 0.0}
    return [tree, [repr({**row, "seconds": 0}) for row in directory.read_metrics()]]


_COMMANDS: dict[str, Callable[[Path], Any]] = {"evaluate": _evaluate, "report": _report, "resume": _resume}
"""The commands without their tables; the last one changes the folder."""


def _bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _flip(name: str, content: bytes, draw: random.Random) -> Corruption:
    """One bit, more often near the beginning, where headers are."""
    place, bit = min(int(len(content) ** draw.random()), len(content) - 1), draw.randrange(8)
    flipped = bytearray(content)
    flipped[place] ^= 1 << bit
    return Corruption(name, f"bit {bit} of byte {place} flipped", False, partial(_write, name, bytes(flipped)))


def _cut(name: str, content: bytes, draw: random.Random) -> Corruption:
    length = draw.randrange(len(content))
    return Corruption(name, f"cut to {length} bytes", False, partial(_write, name, content[:length]))


def _value(name: str, content: bytes, draw: random.Random) -> Corruption:
    """A value of the JSON replaced, whatever the digests say."""
    text, what = _with_wrong_value(content.decode(), draw, (*WRONG, _DEEP))
    text = text.replace(f'"{_DEEP}"', "[" * _DEPTH + "]" * _DEPTH)
    return Corruption(name, what, False, partial(_write, name, text.encode()))


def _sealed_value(name: str, content: bytes, draw: random.Random) -> Corruption:
    """A value of the JSON replaced, with digests that fit: only its type and its range can tell."""
    text, what = _with_wrong_value(content.decode(), draw, WRONG)

    def apply(folder: Path) -> None:
        directory = RunDirectory(folder)
        tree = load_tree(directory.checkpoint_path)
        if name == directory.config_path.name:
            _write(name, json.dumps(sealed(json.loads(text))).encode(), folder)
        else:
            _write(name, text.encode(), folder)
        with suppress(ValueError):  # what is refused here is refused by the commands
            directory.save_checkpoint(tree)

    return Corruption(name, f"{what}, sealed", True, apply)


def _write(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)


def _with_wrong_value(text: str, draw: random.Random, wrong: tuple[Any, ...]) -> tuple[str, str]:
    """The text of a file of JSON with another value somewhere, and what was done to it."""
    lines = [text] if text.startswith("{\n") else text.splitlines()
    number = draw.randrange(len(lines))
    content = json.loads(lines[number])
    node, place = content, list[Any]()
    while True:
        keys = list(cast(dict[str, Any], node)) if isinstance(node, dict) else range(len(node))
        place.append(draw.choice(list(keys)))
        inner = node[place[-1]]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.2:
            break
        node = inner
    before, node[place[-1]] = node[place[-1]], draw.choice(wrong)
    what = f"{'/'.join(map(str, place))} is {str(node[place[-1]])[:20]} in place of {str(before)[:20]}"
    lines[number] = json.dumps(content)
    return "\n".join(lines) + "\n", f"line {number + 1}: {what}" if len(lines) > 1 else what
