"""The engine ``slurm``: every task is a job of SLURM, submitted through submitit.

The folder of runs must be shared by the nodes. A job that reaches its time limit or is preempted queues itself again.
One that was killed is submitted again from here. Should its process live on somewhere, the new job waits for the lock
of the run's folder, and then finds the run finished or resumes it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from routing_env.benchmark.engines import KILLED, POLL, Attempts, Engine, EngineOptions, Task, Training
from routing_env.benchmark.worker import train_in_worker

try:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
except ImportError as error:
    raise ValueError("the engine slurm needs submitit; install it with: pip install 'routing-env[slurm]'") from error

_JOBS = 100
"""Jobs in the queue at a time, by default."""

_TIMEOUTS = 10_000
"""Number of times that a job may reach its time limit; each time it goes on from its checkpoint."""


class SlurmEngine(Engine[Task]):
    """Jobs of SLURM; those that begin together are one array.

    Args:
        options: Of the command line.
        cluster: ``local`` lets submitit start processes of this machine in place of SLURM's.

    Raises:
        ValueError: An entry of ``sbatch`` is not ``name=value``, or a GPU is to be shared.
    """

    def __init__(self, options: EngineOptions, *, cluster: Literal["slurm", "local"] = "slurm") -> None:
        self._options = options
        self._cluster = cluster
        self._more = dict(_pair(one) for one in options.sbatch)
        if options.gpus_per_run != int(options.gpus_per_run):
            raise ValueError(f"gpus_per_run is {options.gpus_per_run}; SLURM gives whole GPUs")
        self._workers = _JOBS if options.workers is None else options.workers
        self._executor: Any = None
        self._running: dict[Task, tuple[Any, Sequence[Training]]] = {}
        self._attempts = Attempts[Task]()

    def __exit__(self, *_: object) -> None:
        for job, _trainings in self._running.values():
            job.cancel(check=False)

    @property
    def free(self) -> int:
        """Number of further jobs that may be queued."""
        return self._workers - len(self._running)

    @property
    def busy(self) -> bool:
        """Whether a job has not ended yet."""
        return bool(self._running)

    def start(self, batch: Sequence[tuple[Task, Sequence[Training]]]) -> None:
        """Submit tasks, as one array.

        Raises:
            OSError: SLURM is not there or does not take the jobs.
        """
        if not batch:
            return
        try:
            executor = self._executor_beside(batch[0][1][0][1])
            with executor.batch():
                jobs = [executor.submit(_SlurmTask(trainings)) for _, trainings in batch]
        except (RuntimeError, FailedJobError, FailedSubmissionError) as error:
            raise OSError(f"SLURM does not take the jobs: {error}") from error
        self._running.update({task: (job, trainings) for (task, trainings), job in zip(batch, jobs, strict=True)})

    def ended(self) -> list[tuple[Task, str]]:
        """The tasks that have ended since the last call, each with why it failed; waits a moment for the first."""
        done = {task: one for task, one in self._running.items() if one[0].done()}
        if not done:
            time.sleep(POLL)
        found: list[tuple[Task, str]] = []
        for task, (job, trainings) in done.items():
            del self._running[task]
            try:
                reason = str(job.result())
            except FailedJobError as error:
                reason = f"{str(error).strip().splitlines()[-1]}; see {job.paths.stderr}"
            except UncompletedJobError:  # its process was killed, or its node was lost
                if self._attempts.again(task, trainings):
                    self.start([(task, trainings)])
                    continue
                reason = f"{KILLED} See {job.paths.stderr}"
            found.append((task, reason))
        return found

    def _executor_beside(self, path: Path) -> Any:
        """The executor, whose files lie in a folder ``slurm`` beside those of the runs."""
        if self._executor is None:
            options = self._options
            of_slurm = {"slurm_max_num_timeout": _TIMEOUTS} if self._cluster == "slurm" else {}
            self._executor = submitit.AutoExecutor(path.parents[1] / "slurm", cluster=self._cluster, **of_slurm)
            self._executor.update_parameters(
                name="routing-env",
                timeout_min=options.minutes,
                cpus_per_task=options.cpus_per_run,
                gpus_per_node=int(options.gpus_per_run),
                slurm_array_parallelism=self._workers,
                slurm_additional_parameters=self._more,
                **({} if options.partition is None else {"slurm_partition": options.partition}),
            )
        return self._executor


class _SlurmTask:
    """What a job does; submitit calls ``checkpoint`` when its time is up."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings

    def __call__(self) -> str:
        return train_in_worker(self.trainings)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The same task again: the runs have saved themselves after each epoch."""
        return submitit.helpers.DelayedSubmission(self)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"sbatch has {text!r}; give its options as name=value, such as account=vision")
    return name.lstrip("-"), value
