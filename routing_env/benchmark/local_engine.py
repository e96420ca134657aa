"""The engine ``local``: processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from routing_env.benchmark.engines import KILLED, POLL, Engine, Task, Training
from routing_env.benchmark.worker import train_in_worker
from routing_env.interrupts import silent_worker, starting_process
from routing_env.names import require


class LocalEngine(Engine[Task]):
    """Processes that each do one task after another: one that takes its process down takes no other with it.

    Args:
        workers: Number of processes, of one thread each; by default one per core.

    Raises:
        ValueError: Fewer than one worker.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = os.cpu_count() or 1 if workers is None else workers
        require("workers", self._workers, self._workers >= 1, "at least 1")
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[Future[str], tuple[Task, ProcessPoolExecutor]] = {}

    def __exit__(self, *_: object) -> None:
        for worker in multiprocessing.active_children():  # idle by now, or interrupted: a run resumes from its files
            worker.terminate()
        for pool in (*self._idle, *(pool for _, pool in self._running.values())):
            pool.shutdown()  # whose thread would meet the end of the interpreter, which prints a traceback then

    @property
    def free(self) -> int:
        """Number of processes that have nothing to do."""
        return self._workers - len(self._running)

    @property
    def busy(self) -> bool:
        """Whether a process has something to do."""
        return bool(self._running)

    def start(self, batch: Sequence[tuple[Task, Sequence[Training]]]) -> None:
        """Let free processes do tasks."""
        for task, trainings in batch:
            pool = self._idle.pop() if self._idle else _pool()
            with starting_process():
                self._running[pool.submit(train_in_worker, trainings)] = task, pool

    def ended(self) -> list[tuple[Task, str]]:
        """The tasks that have ended since the last call, each with why it failed; waits a moment for the first."""
        done, _ = wait(self._running, timeout=POLL, return_when=FIRST_COMPLETED)
        found: list[tuple[Task, str]] = []
        for future in done:
            task, pool = self._running.pop(future)
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                reason = KILLED
                pool.shutdown()
            else:
                reason = future.result() if error is None else f"{type(error).__name__}: {error}"
                self._idle.append(pool)
            found.append((task, reason))
        return found


def _pool() -> ProcessPoolExecutor:
    """One worker process."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


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
