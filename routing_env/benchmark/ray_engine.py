"""The engine ``ray``: every task is a task of a Ray cluster.

Only the machine of this command touches the folders of runs, and only it holds their locks. An attempt at a task
receives the files of its runs, trains in a temporary folder of its node, and sends the files back after every epoch. An
attempt that was given up, such as one on a node that was cut off, may go on, but nobody listens to it any more.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import Timeout

from routing_env.benchmark.engines import KILLED, POLL, Attempts, Engine, EngineOptions, Task, Training
from routing_env.benchmark.worker import STOP, STOPPED, train_in_worker
from routing_env.checkpoint import write_atomically
from routing_env.runs.directory import RunDirectory

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise ValueError("the engine ray needs Ray; install it with: pip install 'routing-env[ray]'") from error

_SILENCE = 20.0
"""Seconds without an answer after which the head of the cluster counts as lost; Ray itself aborts after 60."""

_LATE = "checkpoint.safetensors"
"""File that is written last: a run goes on from it."""

Files = dict[str, bytes]
"""The files of a run by their paths in its folder."""


@dataclass(eq=False)
class _Attempt:
    """A task that is being trained somewhere, with the locks of its runs."""

    trainings: Sequence[Training]
    locks: ExitStack
    stream: Any


class RayEngine(Engine[Task]):
    """Tasks of a Ray cluster, which is a running one or one of this machine.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._waiting: list[tuple[Task, Sequence[Training]]] = []
        self._running: dict[Task, _Attempt] = {}
        self._attempts = Attempts[Task]()
        self._head: tuple[str, int] | None = None
        self._answered = 0.0
        self._lost = False
        self._workers = options.workers or 1

    def __enter__(self) -> Self:
        options = self._options
        if options.address is None:
            # A cluster that is started here answers to those only who know its token; Ray would put one into a file.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        elif os.environ.get("RAY_AUTH_MODE") != "token":
            print(
                f"the Ray cluster at {options.address} is used without token authentication (RAY_AUTH_MODE=token): "
                "everybody who reaches its ports can run code on it",
                file=sys.stderr,
            )
        try:
            ray.init(
                address=options.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if options.address is None else None,
            )
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            where = options.address or "this machine"
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(f"cannot use Ray on {where}: {first}; does ray status show the cluster?") from error
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head, self._answered = (host.strip("[]"), int(port)), time.monotonic()
        if options.workers is None:
            total = ray.cluster_resources()
            fits = total.get("CPU", 0) // options.cpus_per_run
            if options.gpus_per_run:
                fits = min(fits, total.get("GPU", 0) // options.gpus_per_run)
            self._workers = max(1, int(fits))
        return self

    def __exit__(self, *_: object) -> None:
        for attempt in self._running.values():
            attempt.locks.close()
        if not self._lost:
            ray.shutdown()

    @property
    def free(self) -> int:
        """Number of further tasks that it takes now."""
        return self._workers - len(self._running) - len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a task has not ended yet."""
        return bool(self._running or self._waiting)

    def start(self, batch: Sequence[tuple[Task, Sequence[Training]]]) -> None:
        """Hand tasks to the cluster; one whose folder another process holds waits for it."""
        self._waiting += batch
        waiting, self._waiting = self._waiting, []
        for task, trainings in waiting:
            locks = ExitStack()
            try:
                for _, path in trainings:
                    locks.enter_context(RunDirectory(path).held(wait=False))
            except OSError as error:
                locks.close()
                if not isinstance(error.__cause__, Timeout):
                    raise
                self._waiting.append((task, trainings))
                continue
            for _, path in trainings:
                (path / STOP).unlink(missing_ok=True)
            self._running[task] = _Attempt(trainings, locks, self._submit(trainings))

    def ended(self) -> list[tuple[Task, str]]:
        """The tasks that have ended since the last call, each with why it failed; waits a moment for the first.

        Raises:
            OSError: The head of the cluster is lost.
        """
        self._refuse_silence()
        self.start(())
        streams: dict[Any, Task] = {attempt.stream: task for task, attempt in self._running.items()}
        if not streams:
            time.sleep(POLL)
            return []
        ready: list[Any] = ray.wait(list(streams), num_returns=1, timeout=POLL)[0]
        found: list[tuple[Task, str]] = []
        for stream in ready:
            task = streams[stream]
            attempt = self._running[task]
            try:
                item: Any = ray.get(next(stream))
                news: tuple[int, Files] | str = item
            except (RayError, StopIteration) as error:
                if self._attempts.again(task, attempt.trainings):
                    attempt.stream = self._submit(attempt.trainings)
                    continue
                news = KILLED if not isinstance(error, RayTaskError) else str(error).splitlines()[-1]
            if not isinstance(news, str):
                number, files = news
                path = attempt.trainings[number][1]
                _write(path, files)
                if not (path / STOP).exists():
                    continue
                ray.cancel(stream, force=True)
                news = STOPPED
            del self._running[task]
            attempt.locks.close()
            found.append((task, news))
        return found

    def _submit(self, trainings: Sequence[Training]) -> Any:
        """An attempt at a task: what it sends, as it comes."""
        files = [_read(path) for _, path in trainings]
        remote = ray.remote(train_remotely).options(
            num_cpus=self._options.cpus_per_run,
            num_gpus=self._options.gpus_per_run,
            num_returns="streaming",
            max_retries=0,  # another attempt begins with the newest files, which are here
        )
        environment = {name: value for name, value in os.environ.items() if name.startswith("ROUTING_ENV_")}
        given = [(dict(settings), str(path)) for settings, path in trainings]
        return remote.remote(given, files, str(Path.cwd()), environment)

    def _refuse_silence(self) -> None:
        """Raise where the head has not answered for long, before Ray aborts the process without a word of help."""
        assert self._head is not None
        try:
            socket.create_connection(self._head, timeout=2).close()
            self._answered = time.monotonic()
        except OSError as error:
            if time.monotonic() - self._answered > _SILENCE:
                self._lost = True
                raise OSError(
                    f"the head of the Ray cluster at {self._head[0]}:{self._head[1]} has not answered for "
                    f"{_SILENCE:.0f} seconds; start the cluster again, and the same command goes on from here"
                ) from error


def train_remotely(
    given: Sequence[tuple[Mapping[str, Any], str]], files: Sequence[Files], cwd: str, environment: Mapping[str, str]
) -> Generator[tuple[int, Files] | str, None, None]:
    """Train runs in a temporary folder of this node.

    Args:
        given: The settings of each run, and its folder on the machine of the command.
        files: What each run goes on from.
        cwd: Folder that relative paths refer to.
        environment: Variables to set.

    Yields:
        The number of a run with its files whenever it has saved a checkpoint; at the end what
        :func:`~routing_env.benchmark.worker.train_in_worker` has returned.
    """
    os.environ.update(environment)
    if Path(cwd).is_dir():
        os.chdir(cwd)
    with tempfile.TemporaryDirectory(prefix="routing-env-") as folder:
        here = [Path(folder, str(number)) for number in range(len(given))]
        for place, known in zip(here, files, strict=True):
            _write(place, known)
        news: queue.SimpleQueue[tuple[int, Files] | str] = queue.SimpleQueue()

        def train() -> None:
            runs = [(settings, place) for (settings, _), place in zip(given, here, strict=True)]
            reason = KILLED
            try:
                reason = train_in_worker(runs, lambda place: news.put((here.index(place), _read(place))))
            finally:
                for (_, path), place in zip(given, here, strict=True):
                    reason = reason.replace(str(place), path)
                news.put(reason)

        threading.Thread(target=train, daemon=True).start()
        while not isinstance(one := news.get(), str):
            yield one
        yield one


def _read(folder: Path) -> Files:
    """What a run needs to go on elsewhere."""
    names = ("config.json", "metrics.jsonl", _LATE)
    found = [folder / name for name in names if (folder / name).is_file()]
    found += sorted((folder / "source").rglob("*.py"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _write(folder: Path, files: Files) -> None:
    """Put the files of a run in place, the checkpoint last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == _LATE):
        path, content = folder / name, files[name]
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda place, content=content: place.write_bytes(content))
