"""The engine ray: runs outlive the nodes that they are trained on, and end as they do on one machine."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

from routing_env.benchmark.engines import EngineOptions
from routing_env.benchmark.grid import run_jobs
from routing_env.benchmark.jobs import Job, asked_for
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.benchmark.local_engine import LocalEngine
from routing_env.benchmark.ray_engine import RayEngine, train_remotely
from routing_env.benchmark.tables import save_tables
from routing_env.runs.settings import BenchmarkOptions

QUIET = Console(quiet=True)


def planned(folder: Path, seeds: int) -> list[Job]:
    options = BenchmarkOptions(
        run_dir=folder, epochs=5, seeds=seeds, fraction=0.1, entrants=("wpl", "oracle", "mmoe", "shared_trunk")
    )
    return asked_for("planted", options)[1]


def table(jobs: list[Job], folder: Path) -> list[dict[str, str]]:
    folder.mkdir()
    save_tables(leaderboards(jobs), jobs, folder)
    rows = list(csv.DictReader((folder / "leaderboard.csv").open()))
    assert len(rows) == 4
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class Killing(RayEngine[Job]):
    """Kills one node of the cluster after the other, each as soon as a run has gone on since the last time."""

    nodes: list[Any]
    jobs: list[Job]
    killed = 0
    seen = 0

    def ended(self) -> list[tuple[Job, str]]:  # noqa: D102
        found = super().ended()
        epochs = sum(job.epochs_done() for job in self.jobs)
        if self.nodes and epochs > self.seen + 1:
            node = self.nodes.pop(0)
            os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            self.killed += 1
            self.seen = sum(job.epochs_done() for job in self.jobs)
        return found


def test_runs_outlive_two_nodes_killed_in_turn(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seeds: int = request.config.getoption("--ray-seeds")  # pyright: ignore[reportAssignmentType]
    local, killed = planned(tmp_path / "local", seeds), planned(tmp_path / "ray", seeds)
    assert run_jobs(local, QUIET, LocalEngine(1)) == {}
    noticing = {
        "health_check_initial_delay_ms": 500,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 4,
    }  # a lost node, after two seconds
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": noticing}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        engine = Killing(EngineOptions(engine="ray", address=cluster.address, workers=2))
        engine.jobs = killed
        engine.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.add_node(num_cpus=1)  # the one that is left
        assert run_jobs(killed, QUIET, engine) == {}
        assert engine.killed == 2
    finally:
        cluster.shutdown()
    assert all(job.epochs_done() == job.epochs for job in killed)
    assert table(killed, tmp_path / "of-ray") == table(local, tmp_path / "of-local")


def metrics(files: dict[str, bytes]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_an_attempt_goes_on_from_the_files_that_another_has_sent(tmp_path: Path) -> None:
    job = planned(tmp_path, 1)[0]
    given = [(dict(job.given), str(job.path))]

    def attempt(begin: dict[str, bytes]) -> list[dict[str, bytes]]:
        sent = list(train_remotely(given, [begin], str(Path.cwd()), {}))
        assert sent[-1] == ""
        return [one[1] for one in sent if not isinstance(one, str)]

    whole = attempt({})
    rest = attempt(whole[2])
    assert [len(metrics(files)) for files in whole] == [*range(1, 6)]
    assert [metrics(files) for files in rest] == [metrics(files) for files in whole[3:]]
    assert not job.path.exists(), "an attempt writes to no folder of a run"
