"""Engines: what runs the jobs of a grid. The grid plans them and shows how they go; an engine trains them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from routing_env.names import require

Task = TypeVar("Task", bound=Hashable)

Training = tuple[Mapping[str, Any], Path]
"""The settings of a run, and its folder."""

POLL = 0.5
"""Seconds between two looks at what is being trained."""

ATTEMPTS = 5
"""Attempts in a row that may be lost without a new epoch before a task counts as failed."""

KILLED = "its process was killed; is there enough memory for that many workers?"
"""Why a task failed whose process died."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What runs the jobs."""

    engine: Literal["local", "ray", "slurm"] = "local"
    """Where runs are trained: processes of this machine, a Ray cluster, or SLURM; see docs/engines.md."""
    workers: int | None = None
    """Runs at a time. By default one per core, on Ray as many as fit into the cluster, and under SLURM up to 100."""
    cpus_per_run: int = 1
    """Cores that Ray or SLURM sets aside for each run."""
    gpus_per_run: float = 0
    """GPUs that Ray or SLURM sets aside for each run; Ray takes fractions too."""
    address: str | None = None
    """Address of a running Ray cluster, such as 10.0.0.1:6379; by default one is started on this machine."""
    partition: str | None = None
    """Partition of SLURM."""
    minutes: int = 60
    """Time limit of a SLURM job; what has not finished by then is queued again and goes on."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch as name=value, for example `account=vision qos=low`."""


_OF_ENGINE: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "ray": ("cpus_per_run", "gpus_per_run", "address"),
    "slurm": ("cpus_per_run", "gpus_per_run", "partition", "minutes", "sbatch"),
}
"""The options that an engine has beside the number of workers."""


class Engine(ABC, Generic[Task]):
    """Trains tasks, which are sequences of runs, each in its own folder.

    An engine is a context: entered, it may start processes or connect to a cluster; left, it stops what it has begun.
    Every run resumes from its folder, so that a task which was lost can be started again anywhere.
    """

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @property
    @abstractmethod
    def free(self) -> int:
        """Number of further tasks that it takes now."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a task has not ended yet."""

    @abstractmethod
    def start(self, batch: Sequence[tuple[Task, Sequence[Training]]]) -> None:
        """Begin tasks.

        Args:
            batch: At most ``free`` tasks, each with the runs to train one after another.
        """

    @abstractmethod
    def ended(self) -> list[tuple[Task, str]]:
        """The tasks that have ended since the last call; waits a moment for the first.

        Returns:
            Each task with what :func:`~routing_env.benchmark.worker.train_in_worker` returned, which is empty for a
            success, or with why it was lost.

        Raises:
            OSError: The engine itself has failed; the message says how to go on.
        """


class Attempts(Generic[Task]):
    """Counts how often a task was lost in a row without a new epoch, to tell a bad machine from a bad task."""

    def __init__(self) -> None:
        self._lost: dict[Task, tuple[int, int]] = {}

    def again(self, task: Task, trainings: Sequence[Training]) -> bool:
        """Whether a task that was lost is worth another attempt.

        Args:
            task: That was lost.
            trainings: Its runs.
        """
        from routing_env.benchmark.damage import damage_in
        from routing_env.runs.directory import RunDirectory

        if any(damage_in(path) for _, path in trainings):
            return False
        epochs = sum(len(RunDirectory(path).read_metrics()) for _, path in trainings)
        before, count = self._lost.get(task, (-1, 0))
        count = 1 if epochs > before else count + 1
        self._lost[task] = epochs, count
        return count < ATTEMPTS


def make_engine(options: EngineOptions) -> Engine[Any]:
    """The engine that a command line asks for.

    Raises:
        ValueError: An option is out of range or belongs to another engine, or the engine's package is not installed.
    """
    from routing_env.benchmark.local_engine import LocalEngine

    if options.workers is not None:
        require("workers", options.workers, options.workers >= 1, "at least 1")
    require("cpus_per_run", options.cpus_per_run, options.cpus_per_run >= 1, "at least 1")
    require("gpus_per_run", options.gpus_per_run, 0 <= options.gpus_per_run < float("inf"), "at least 0")
    require("minutes", options.minutes, options.minutes >= 1, "at least 1")
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default or field.name in ("engine", "workers", *_OF_ENGINE[options.engine]):
            continue
        owners = [name for name, own in _OF_ENGINE.items() if field.name in own]
        raise ValueError(
            f"{field.name} is {value!r} beside the engine {options.engine}, which has no such option; leave it out, or "
            f"choose --engine {' or '.join(owners)}"
        )
    if options.engine == "ray":
        from routing_env.benchmark.ray_engine import RayEngine

        return RayEngine(options)
    if options.engine == "slurm":
        from routing_env.benchmark.slurm_engine import SlurmEngine

        return SlurmEngine(options)
    return LocalEngine(options.workers)
