"""Files of a run that are damaged."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from random import Random

from corruption import corruptions

from .kills import Bench, Outcome, halfway
from .runs import RUNS, BreachError, again, expect, expect_refusal, settle

UNREAD = (".lock",)
"""Files whose content nobody reads."""

_WAYS = 100
"""Corruptions to choose from."""


def any_file_damaged(bench: Bench, *, finished: bool) -> Outcome:
    """A byte of any file is flipped, or its end is cut off; see :func:`damage`.

    Args:
        bench: What the fault works with.
        finished: Whether the run has been trained to its end; else it was killed on the way.
    """
    training = bench.training()
    if finished:
        run = bench.folder / RUNS / "finished" / "run"
        shutil.copytree(bench.twins[training].folder, run)
    else:
        run = halfway(bench, training)
    damaged, told = damage(run, bench.random)
    return _resumed(bench, training, run, damaged.name, told)


def content_damaged(bench: Bench) -> Outcome:
    """What a run is resumed from is damaged in one of the ways of :mod:`corruption`, which know what files mean."""
    training = bench.training()
    run = halfway(bench, training)
    drawn = corruptions(run, _WAYS, bench.random.randrange(1 << 30))
    corruption = next(islice(drawn, bench.random.randrange(_WAYS), None))
    corruption.apply(run)
    told = f"{corruption.file}: {corruption.description}"
    if corruption.sealed:
        return _resumed(bench, training, run, "", f"{told}, sealed", may_differ=True)
    return _resumed(bench, training, run, Path(corruption.file).name, told)


def _resumed(bench: Bench, training: str, run: Path, name: str, told: str, *, may_differ: bool = False) -> Outcome:
    """Resume a damaged run: it is refused, or comes to the same bits.

    Args:
        bench: What the fault works with.
        training: Which is resumed.
        run: Its folder.
        name: What the error must name.
        told: What has been damaged.
        may_differ: Whether the damage carries digests that fit, and so may have put one right value for another.

    Raises:
        BreachError: Neither.
    """
    before = _bytes(run)
    (ending,) = bench.server.run(again(training, run, bench.folder))
    try:
        if ending.code:
            expect_refusal(ending, name)
            if _bytes(run) != before:
                raise BreachError("bits lost", "files have changed, although it was refused")
            return Outcome(1, 1)
        expect(ending, 0)
        if not may_differ:
            settle(run, bench.twins[training], [])
    except BreachError as error:
        raise BreachError(error.breach, f"{told}; {error}") from error
    return Outcome(1)


def damage(run: Path, random: Random) -> tuple[Path, str]:
    """Damage one file of a run.

    Returns:
        The file, and in words what has happened to it.
    """
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    path = random.choice(files)
    data = bytearray(path.read_bytes())
    place, kind = random.randrange(len(data)), random.choice(("bit", "byte", "cut"))
    if kind == "cut":
        del data[place:]
    else:
        data[place] ^= 1 << random.randrange(8) if kind == "bit" else random.randint(1, 255)
    path.write_bytes(data)
    name = path.relative_to(run).as_posix()
    return path, f"{name}: cut to {place} bytes" if kind == "cut" else f"{name}: byte {place} is {data[place]}"


def _bytes(run: Path) -> dict[str, bytes]:
    """The files of a run as they are."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in UNREAD
    }
