"""A benchmark on a Ray cluster of one machine whose nodes are killed while they train."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from rich.console import Console

from routing_env.benchmark.engines import EngineOptions
from routing_env.benchmark.grid import run_jobs
from routing_env.benchmark.jobs import Job, asked_for
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.benchmark.local_engine import LocalEngine
from routing_env.benchmark.ray_engine import RayEngine
from routing_env.benchmark.tables import save_tables
from routing_env.runs.settings import BenchmarkOptions

QUIET = Console(quiet=True)

Table = list[dict[str, str]]
"""The rows of a leaderboard, without the times."""


def planned(folder: Path, seeds: int) -> list[Job]:
    """The runs of four entrants on planted."""
    options = BenchmarkOptions(
        run_dir=folder, epochs=5, seeds=seeds, fraction=0.1, entrants=("wpl", "oracle", "mmoe", "shared_trunk")
    )
    return asked_for("planted", options)[1]


def table(jobs: list[Job], folder: Path) -> Table:
    """What the finished runs come to."""
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


def outlive_two_nodes(folder: Path, seeds: int) -> tuple[Table, Table]:
    """Run a benchmark on three nodes, two of which are killed in turn.

    Args:
        folder: Where to write.
        seeds: Runs of each entrant.

    Returns:
        The leaderboard of these runs, and that of the same runs in processes of this machine, which nobody kills.
    """
    local, killed = planned(folder / "local", seeds), planned(folder / "ray", seeds)
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
    return table(killed, folder / "of-ray"), table(local, folder / "of-local")
