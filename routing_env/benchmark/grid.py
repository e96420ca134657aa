"""The benchmark: a grid of runs in parallel processes, each in its own folder, which a second start finds again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from routing_env.benchmark.jobs import Job
from routing_env.data import DATASETS, load
from routing_env.game.build import load_data
from routing_env.game.settings import Given
from routing_env.names import printable
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display, clock
from routing_env.scenarios import settled_by_scenario

_POLL = 0.5
"""Seconds between two looks at the grid."""


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
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    by_path = {job.path: job for job in jobs}
    _refuse_other_data(by_path)
    open_jobs = [job for job in by_path.values() if job.epochs_done() < job.epochs]
    if len(open_jobs) < len(by_path):
        console.print(f"{len(by_path) - len(open_jobs)} of {len(by_path)} runs had finished before", highlight=False)
    if not open_jobs:
        return {}
    for name in dict.fromkeys({**settled_by_scenario(job.given), **job.given}["data"] for job in open_jobs):
        if DATASETS[name].files:  # better one clear error now than one from every process later
            load(name, data_dir=open_jobs[0].given.get("data_dir"))
    nearest = next(place for place in open_jobs[0].path.parents if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise OSError(f"cannot write to {nearest}; choose another --run-dir")
    failed: dict[Job, str] = {}
    waiting = open_jobs[::-1]
    free = [_pool() for _ in range(min(workers, len(open_jobs)))]
    running: dict[Future[str], tuple[Job, ProcessPoolExecutor]] = {}
    try:
        with _Progress(open_jobs, console) as progress:
            while waiting or running:
                while waiting and free:
                    job, pool = waiting.pop(), free.pop()
                    running[pool.submit(_run, dict(job.given), job.path)] = job, pool
                done, _ = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
                for future in done:
                    job, pool = running.pop(future)
                    error = future.exception()
                    if error is None and (reason := future.result()):
                        failed[job] = reason
                    elif isinstance(error, BrokenProcessPool):
                        failed[job] = "its process was killed; is there enough memory for so many workers?"
                        pool.shutdown(wait=False)
                        pool = _pool()
                    elif error is not None:
                        failed[job] = f"{type(error).__name__}: {error}"
                    free.append(pool)
                    progress.finished(job, failed.get(job))
                progress.update()
    finally:
        for pool in (*free, *(pool for _, pool in running.values())):
            pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():  # idle by now, or interrupted: a run resumes from its files
            worker.terminate()
    return failed


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


def _pool() -> ProcessPoolExecutor:
    """One worker: a run that takes its process down takes no other with it."""
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

    def finished(self, job: Job, failure: str | None) -> None:
        self._ended += 1
        if failure is None:
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


def _run(given: Given, path: Path) -> str:
    """Train one run to its end, in a worker. Where another benchmark is training it, let that one finish it.

    Returns:
        Why it failed; empty where it did not.
    """
    from routing_env.runs.process import explained, prepare
    from routing_env.runs.run import Run

    directory = RunDirectory(path)
    try:
        with directory.held(wait=True):
            run = Run.of(given)
            prepare(run.settings.threads)
            directory.write_config(run.settings, run.learner.data)
            run.train(directory, Display(Console(quiet=True)))
    except Exception as error:
        return explained(error)  # here, since a traceback does not travel between processes
    return ""


def _start_worker() -> None:
    """Let a worker die with its parent, however that dies, and silently on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    join: Callable[[], None] = parent.join

    def watch() -> None:
        join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
