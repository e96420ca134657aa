"""Files of a run that are damaged: flipped and cut bytes, wherever they may be."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from .kills import Bench, Outcome, halfway
from .runs import RUNS, BreachError, again, expect, expect_refusal, settle

UNREAD = (".lock",)
"""Files whose content nobody reads."""


def file_damaged(bench: Bench, *, finished: bool) -> Outcome:
    """A byte of a file is flipped, or its end is cut off: the run is refused by name, or comes to the same bits.

    Args:
        bench: What the fault works with.
        finished: Whether the run has been trained to its end; else it was killed on the way.
    """
    training = bench.training()
    twin = bench.twins[training]
    if finished:
        run = bench.folder / RUNS / "finished" / "run"
        shutil.copytree(twin.folder, run)
    else:
        run = halfway(bench, training)
    damaged, told = damage(run, bench.random)
    before = _bytes(run)
    (ending,) = bench.server.run(again(training, run, bench.folder))
    if ending.code:
        expect_refusal(ending, damaged.name)
        if _bytes(run) != before:
            raise BreachError("bits lost", f"{told}; it was refused, and yet files have changed")
        return Outcome(1, 1)
    expect(ending, 0)
    try:
        settle(run, twin, [])
    except BreachError as error:
        raise BreachError(error.breach, f"{told}; it was accepted, and then: {error}") from error
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
