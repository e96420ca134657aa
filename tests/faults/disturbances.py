"""Faults of what is around a run: disks, folders, clocks, and others who start the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from .kills import Bench, Outcome, ended, halfway
from .runs import (
    GRIDS,
    RUNS,
    BreachError,
    SkippedError,
    Standing,
    again,
    expect,
    expect_refusal,
    first,
    run_in,
    settle,
)
from .server import Command

DAY = 86_400


def file_too_large(bench: Bench) -> Outcome:
    """Files must not exceed some size: the write fails; with room again, the run goes on."""
    training = bench.training()
    sizes = [path.stat().st_size for path in bench.twins[training].folder.rglob("*") if path.is_file()]
    limit = bench.random.randrange(1, max(sizes))
    (ending,) = bench.server.run(replace(first(training, bench.folder), file_size=limit))
    if ending.code == 0:
        return Outcome(0)
    expect_refusal(ending, "File too large")
    _end(bench, training)
    return Outcome(1, 1)


def disk_full(bench: Bench) -> Outcome:
    """A disk that fills up while a run is trained on it: the write fails; with room again, the run goes on."""
    training = bench.training()
    with _disk(bench) as disk:
        _room(disk, bench.random.randint(1, 60) * 4096)
        (ending,) = bench.server.run(first(training, bench.folder))
        if ending.code == 0:
            return Outcome(0)
        expect_refusal(ending, "No space left")
        _room(disk, 1 << 28)
        _end(bench, training)
    return Outcome(1, 1)


def folder_read_only(bench: Bench) -> Outcome:
    """A run on a disk that cannot be written: it can be evaluated, not resumed; later it goes on."""
    training = bench.training()
    consent = ("--trust",) if training == "own" else ()
    with _disk(bench) as disk:
        run = halfway(bench, training)
        _mount("-o", "remount,ro", str(disk))
        try:
            arguments = ("evaluate", str(run.relative_to(bench.folder)), *consent)
            (evaluated,) = bench.server.run(Command(arguments=arguments, folder=str(bench.folder)))
            expect(evaluated, 0)
            (resumed,) = bench.server.run(again(training, run, bench.folder))
            expect_refusal(resumed, "Read-only file system")
        finally:
            _mount("-o", "remount,rw", str(disk))
        ended(bench, training, run)
    return Outcome(1, 1)


def two_resume_one_run(bench: Bench) -> Outcome:
    """Two processes resume one run at the same time: one trains, the other says so, or comes when all is done."""
    training = bench.training()
    run = halfway(bench, training)
    before, command = Standing.of(run), again(training, run, bench.folder)
    endings = bench.server.run(command, command)
    for ending in endings:
        if ending.code:
            expect_refusal(ending, "another process is training in")
    if all(ending.code for ending in endings):
        raise BreachError("exit codes", "both were refused")
    Standing.of(run).refuse_loss(before)
    settle(run, bench.twins[training], [ending.group for ending in endings])
    return Outcome(1, sum(ending.code != 0 for ending in endings))


def two_train(bench: Bench) -> Outcome:
    """Two trainings begin at the same time in one folder of runs: each gets its own folder."""
    training = bench.training()
    command = first(training, bench.folder)
    for ending in bench.server.run(command, command):
        expect(ending, 0)
    runs = [path.parent for path in (bench.folder / RUNS).glob("*/*/config.json")]
    if len(runs) != 2:
        raise BreachError("bits lost", f"two trainings have left {len(runs)} runs")
    for run in runs:
        settle(run, bench.twins[training], [])
    return Outcome(1)


def two_benchmarks(bench: Bench) -> Outcome:
    """The same benchmark twice at the same time: each run is trained by one of them."""
    command = Command(arguments=GRIDS["benchmark"], folder=str(bench.folder))
    later = replace(command, signal=9, after=bench.random.uniform(1, 8)) if bench.random.random() < 0.5 else command
    endings = bench.server.run(command, later)
    expect(endings[0], 0)
    expect(endings[1], 0, -9)
    settle(bench.folder / RUNS, bench.twins["benchmark"], [ending.group for ending in endings])
    return Outcome(1)


def clock_moved(bench: Bench) -> Outcome:
    """The clock goes back or ahead by days between and during the parts of a run, and files are of the future."""
    training = bench.training()
    wrong = replace(first(training, bench.folder), clock=_days(bench), change=bench.random.randint(10, 30))
    (ending,) = bench.server.run(wrong)
    expect(ending, 0, -9)
    run = run_in(bench.folder)
    if run is None:
        return Outcome(0)
    for path in run.rglob("*"):
        moment = path.stat().st_mtime + _days(bench)
        os.utime(path, (moment, moment))
    before = Standing.of(run)
    (ending,) = bench.server.run(replace(again(training, run, bench.folder), clock=_days(bench)))
    expect(ending, 0)
    Standing.of(run).refuse_loss(before)
    settle(run, bench.twins[training], [ending.group])
    return Outcome(1)


def folder_moved(bench: Bench) -> Outcome:
    """A run is moved between its parts, under another name and into another folder."""
    training = bench.training()
    run = halfway(bench, training)
    elsewhere = bench.folder / "moved" / f"run {bench.random.randrange(1000)}"
    elsewhere.parent.mkdir()
    run.rename(elsewhere)
    ended(bench, training, elsewhere)
    return Outcome(1)


def benchmark_moved(bench: Bench) -> Outcome:
    """A benchmark is stopped, its folder is moved, and the command continues with the new folder."""
    twin = bench.twins["benchmark"]
    after = bench.random.uniform(0.5, 2) * twin.seconds
    command = Command(arguments=GRIDS["benchmark"], folder=str(bench.folder), signal=9, after=after)
    (stopped,) = bench.server.run(command)
    expect(stopped, 0, -9)
    runs, elsewhere = bench.folder / RUNS, bench.folder / "moved" / "all of them"
    if not runs.is_dir():
        return Outcome(0)
    elsewhere.parent.mkdir()
    runs.rename(elsewhere)
    before = Standing.of(elsewhere)
    arguments = (*GRIDS["benchmark"][:-1], str(elsewhere.relative_to(bench.folder)))
    (ending,) = bench.server.run(Command(arguments=arguments, folder=str(bench.folder)))
    expect(ending, 0)
    Standing.of(elsewhere).refuse_loss(before)
    settle(elsewhere, twin, [stopped.group, ending.group])
    return Outcome(1)


def _days(bench: Bench) -> float:
    """Up to ten years, back or ahead, in seconds."""
    return bench.random.uniform(-3650, 3650) * DAY


def _end(bench: Bench, training: str) -> None:
    """Let a training that was refused go on, or begin again where it had not come to a run."""
    run = run_in(bench.folder)
    if run is not None:
        ended(bench, training, run)
        return
    (ending,) = bench.server.run(first(training, bench.folder))
    expect(ending, 0)
    run = run_in(bench.folder)
    assert run is not None
    settle(run, bench.twins[training], [ending.group])


@contextmanager
def _disk(bench: Bench) -> Generator[Path, None, None]:
    """A separate disk for the runs of a fault.

    Raises:
        SkippedError: This user may not mount one.
    """
    place = bench.folder / RUNS
    place.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        raise SkippedError("only root may mount a disk, on Linux") from error
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _room(disk: Path, size: int) -> None:
    """Give a disk a size in bytes."""
    _mount("-o", f"remount,size={size}", str(disk))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
