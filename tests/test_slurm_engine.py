"""The engine slurm, with submitit's local executor in place of a cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("submitit")

from routing_env.benchmark.engines import EngineOptions
from routing_env.benchmark.grid import run_jobs
from routing_env.benchmark.jobs import Job, asked_for
from routing_env.benchmark.local_engine import LocalEngine
from routing_env.benchmark.slurm_engine import SlurmEngine
from routing_env.runs.settings import BenchmarkOptions

QUIET = Console(quiet=True)


def planned(folder: Path) -> list[Job]:
    return asked_for("planted", BenchmarkOptions(run_dir=folder, epochs=6, seeds=1, fraction=0.2, entrants=("wpl",)))[1]


def measured(jobs: list[Job]) -> list[list[dict[str, object]]]:
    return [[{key: value for key, value in row.items() if key != "seconds"} for row in job.rows()] for job in jobs]


class Killing(SlurmEngine[Job]):
    """Kills the process of each job once, as soon as the first run has an epoch behind it."""

    killed = 0

    def ended(self) -> list[tuple[Job, str]]:  # noqa: D102
        if not self.killed and any(task.epochs_done() for task in self._running):
            for job, _ in self._running.values():
                os.kill(int(job.job_id), signal.SIGKILL)
                self.killed += 1
        return super().ended()


def test_jobs_whose_process_was_killed_are_started_again_and_end_the_same(tmp_path: Path) -> None:
    plain, killed = planned(tmp_path / "plain"), planned(tmp_path / "killed")
    assert run_jobs(plain, QUIET, LocalEngine(1)) == {}
    engine = Killing(EngineOptions(engine="slurm", workers=2), cluster="local")
    assert run_jobs(killed, QUIET, engine) == {}
    assert engine.killed
    assert measured(killed) == measured(plain)


def test_options_of_sbatch_are_checked() -> None:
    with pytest.raises(ValueError, match="'account'; give its options as name=value"):
        SlurmEngine(EngineOptions(engine="slurm", sbatch=("account",)))
    with pytest.raises(ValueError, match="whole GPUs"):
        SlurmEngine(EngineOptions(engine="slurm", gpus_per_run=0.5))
