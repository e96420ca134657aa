"""The benchmark: a grid of runs, each in its own folder, which a second start finds again; an engine trains them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from routing_env.benchmark.damage import damage_in
from routing_env.benchmark.engines import Engine
from routing_env.benchmark.jobs import Job
from routing_env.checkpoint import DamagedError
from routing_env.data import DATASETS, load
from routing_env.game.build import load_data
from routing_env.names import printable
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import clock
from routing_env.scenarios import settled_by_scenario


def run_jobs(jobs: Sequence[Job], console: Console, engine: Engine[Job]) -> dict[Job, str]:
    """Run what has not finished yet, and continue what a crash cut off.

    Args:
        jobs: of a grid.
        console: for the progress of the grid.
        engine: that trains them.

    Returns:
        The runs that failed, with the reason. Those whose files are damaged are left alone and not among them.

    Raises:
        ValueError: data that are not as they should be, or not those that the runs in these folders were trained on.
        FileNotFoundError: files of a data set are missing.
        OSError: the folder cannot be written, or the engine has failed.
    """
    by_path = {job.path: job for job in jobs if not damage_in(job.path)}
    if damaged := len({job.path for job in jobs}) - len(by_path):
        console.print(f"{damaged} runs are damaged and left out; the end says more", highlight=False)
    _refuse_other_data(by_path)
    open_jobs = [job for job in by_path.values() if job.epochs_done() < job.epochs]
    if len(open_jobs) < len(by_path):
        console.print(f"{len(by_path) - len(open_jobs)} of {len(by_path)} runs had finished before", highlight=False)
    if not open_jobs:
        return {}
    refuse_missing_files(open_jobs)
    failed: dict[Job, str] = {}
    waiting = open_jobs[::-1]
    with engine, _Progress(open_jobs, console) as progress:
        while waiting or engine.busy:
            batch = [waiting.pop() for _ in range(min(engine.free, len(waiting)))]
            engine.start([(job, [(dict(job.given), job.path)]) for job in batch])
            for job, why in engine.ended():
                reason = why or damage_in(job.path)
                if reason:
                    failed[job] = reason
                progress.finished(job, reason)
            progress.update()
    return failed


def refuse_missing_files(jobs: Sequence[Job]) -> None:
    """Refuse runs whose data lack a file or whose folder cannot be written: one clear error before anything is run.

    Raises:
        FileNotFoundError: files of a data set are missing.
        OSError: the folder cannot be written.
    """
    for name in dict.fromkeys({**settled_by_scenario(job.given), **job.given}["data"] for job in jobs):
        if name in DATASETS and DATASETS[name].files:
            load(name, data_dir=jobs[0].given.get("data_dir"))
    nearest = next(place for place in jobs[0].path.parents if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise OSError(f"cannot write to {nearest}; choose another --run-dir")


def _refuse_other_data(jobs: Mapping[Path, Job]) -> None:
    """Refuse data that differ from those of the runs which are there already, before anything is run."""
    of_data = ("scenario", "data", "data_options", "data_dir", "validation", "fraction", "tasks", "seed")
    fingerprints: dict[tuple[Any, ...], Mapping[str, str]] = {}
    for path, job in jobs.items():
        directory = RunDirectory(path)
        if directory.config_path.is_file():
            cut = tuple(job.given.get(name) for name in of_data)
            if cut not in fingerprints:
                fingerprints[cut] = load_data(job.given).fingerprint
            directory.refuse_other_data(fingerprints[cut])


class _Progress:
    """The whole grid: a live line in a terminal, and a line for each run that ends."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self._jobs = jobs
        self._console = console
        self._started = time.monotonic()
        self._before = self._epochs()
        self._total = sum(job.epochs for job in jobs)
        self._ended = 0
        self._live = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} epochs"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._live.add_task("benchmark", total=self._total, completed=self._before, left="-")

    def __enter__(self) -> _Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def finished(self, job: Job, failure: str) -> None:
        self._ended += 1
        if not failure:
            row = job.rows()[-1]
            what = f"test {100 * row['test_accuracy']:.2f} %  {clock(row['seconds'])}"
        else:
            what = f"failed: {failure}"
        name = f"{job.arena.name}: {job.entrant.name}, seed {job.seed}"
        counted = f"{self._ended:>3}/{len(self._jobs)}"
        line = f"{counted}  {name:<37} {what}  left {self._left()}"
        self._console.print(printable(line), highlight=False, soft_wrap=True, markup=False)

    def update(self) -> None:
        self._live.update(self._bar, completed=self._epochs(), left=self._left())

    def _epochs(self) -> int:
        return sum(map(_epochs_of, self._jobs))

    def _left(self) -> str:
        done = self._epochs()
        if done == self._before:
            return "-"
        return clock((time.monotonic() - self._started) / (done - self._before) * (self._total - done))


def _epochs_of(job: Job) -> int:
    """Passes that a run has behind it; 0 where its files are damaged, which is told when its training ends."""
    try:
        return job.epochs_done()
    except DamagedError:
        return 0
