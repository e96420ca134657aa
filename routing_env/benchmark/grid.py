"""The benchmark: a grid of runs in parallel processes, each in its own folder, which a second start finds again."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from routing_env.benchmark.jobs import Job
from routing_env.data import DATASETS, load
from routing_env.game.build import load_data
from routing_env.game.settings import Given
from routing_env.interrupts import silent_worker, starting_process
from routing_env.names import printable, require
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display, clock
from routing_env.scenarios import settled_by_scenario

_POLL = 0.5
"""Seconds between two looks at the grid."""

STOP = "stop"
"""Name of a file that stops the run in whose folder it lies."""

STOPPED, DIVERGED = "stopped", "diverged"
"""What a task says, or begins with, that was stopped, or whose loss became infinite."""

Task = TypeVar("Task")


def run_jobs(jobs: Sequence[Job], console: Console, *, workers: int) -> dict[Job, str]:
    """Run what has not finished yet, and continue what a crash cut off.

    Args:
        jobs: of a grid.
        console: for the progress of the grid.
        workers: processes, of one thread each.

    Returns:
        The runs that failed, with the reason.

    Raises:
        ValueError: fewer than one worker, or data that are not as they should be, or not those that the runs in these
            folders were trained on.
        FileNotFoundError: files of a data set are missing.
    """
    require("workers", workers, workers >= 1, "at least 1")
    by_path = {job.path: job for job in jobs}
    _refuse_other_data(by_path)
    open_jobs = [job for job in by_path.values() if job.epochs_done() < job.epochs]
    if len(open_jobs) < len(by_path):
        console.print(f"{len(by_path) - len(open_jobs)} of {len(by_path)} runs had finished before", highlight=False)
    if not open_jobs:
        return {}
    refuse_missing_files(open_jobs)
    failed: dict[Job, str] = {}
    waiting = open_jobs[::-1]
    with Workers[Job](min(workers, len(open_jobs))) as pool, _Progress(open_jobs, console) as progress:
        while waiting or pool.busy:
            while waiting and pool.free:
                job = waiting.pop()
                pool.submit(job, train_in_worker, [(dict(job.given), job.path)])
            for job, reason in pool.ended():
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


class Workers(Generic[Task]):
    """Processes that each do one task after another: one that takes its process down takes no other with it.

    Args:
        count: processes, of one thread each.
    """

    def __init__(self, count: int) -> None:
        self._free = [_pool() for _ in range(count)]
        self._running: dict[Future[str], tuple[Task, ProcessPoolExecutor]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (*self._free, *(pool for _, pool in self._running.values())):
            pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():  # idle by now, or interrupted: a run resumes from its files
            worker.terminate()

    @property
    def free(self) -> bool:
        """Whether a process has nothing to do."""
        return bool(self._free)

    @property
    def busy(self) -> bool:
        """Whether a process has something to do."""
        return bool(self._running)

    def submit(self, task: Task, function: Callable[..., str], *arguments: Any) -> None:
        """Let a free process do a task; the function returns why it failed, or an empty string."""
        pool = self._free.pop()
        with starting_process():
            self._running[pool.submit(function, *arguments)] = task, pool

    def ended(self) -> list[tuple[Task, str]]:
        """The tasks that have ended since the last call, each with why it failed; waits a moment for the first."""
        done, _ = wait(self._running, timeout=_POLL, return_when=FIRST_COMPLETED)
        found: list[tuple[Task, str]] = []
        for future in done:
            task, pool = self._running.pop(future)
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                reason = "its process was killed; is there enough memory for so many workers?"
                pool.shutdown(wait=False)
                pool = _pool()
            else:
                reason = future.result() if error is None else f"{type(error).__name__}: {error}"
            self._free.append(pool)
            found.append((task, reason))
        return found


def _pool() -> ProcessPoolExecutor:
    """One worker process."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


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
        return sum(job.epochs_done() for job in self._jobs)

    def _left(self) -> str:
        done = self._epochs()
        if done == self._before:
            return "-"
        return clock((time.monotonic() - self._started) / (done - self._before) * (self._total - done))


def train_in_worker(runs: Sequence[tuple[Given, Path]]) -> str:
    """Train runs to their ends, one after another. Where another process is training one, let that one finish it.

    A file named ``STOP`` in the folder of a run stops it, and those that follow, after the epoch that it is in.

    Args:
        runs: the settings and the folder of each.

    Returns:
        Why they did not finish; empty where they did.
    """
    from routing_env.runs.process import explained, prepare
    from routing_env.runs.run import Run

    try:
        for given, path in runs:
            directory = RunDirectory(path)
            with directory.held(wait=True):
                (path / STOP).unlink(missing_ok=True)
                run = Run.of(given)
                if directory.config_path.is_file():
                    directory.refuse_other_data(run.learner.data.fingerprint)
                prepare(run.settings.threads)
                directory.write_config(run.settings, run.learner.data)
                run.train(directory, _Stoppable(path / STOP))
    except _StoppedError:
        return STOPPED
    except FloatingPointError as error:
        return f"{DIVERGED}: {error}"
    except Exception as error:
        return explained(error)  # here, since a traceback does not travel between processes
    return ""


class _StoppedError(Exception):
    """A run was asked to stop."""


class _Stoppable(Display):
    """Shows nothing, and stops a run that has not finished when there is a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(Console(quiet=True))
        self._path = path

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Look for the file."""
        super().epoch(row)
        if self._path.exists() and row["epoch"] < self._run.epochs:
            raise _StoppedError


def _start_worker() -> None:
    """Let a worker die with its parent, however that dies, and silently on Ctrl-C."""
    silent_worker()
    parent = multiprocessing.parent_process()
    assert parent is not None
    join: Callable[[], None] = parent.join

    def watch() -> None:
        join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
