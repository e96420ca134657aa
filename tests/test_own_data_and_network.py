"""Data and a network from files of your own: trained, evaluated and benchmarked, by routers and by baselines."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from routing_env import RoutedNetwork, load_run
from routing_env.baselines import Baseline
from routing_env.benchmark.jobs import asked_for
from routing_env.benchmark.report import save_report
from routing_env.benchmark.worker import train_in_worker
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run
from routing_env.runs.settings import BenchmarkOptions
from routing_env.runs.task_table import task_table

DATA = """
import numpy as np
from routing_env import MultiTaskData


def load(*, validation, seed, targets=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    tasks = {name: (x, (x[:, i] > 0).astype(int) if targets else x[:, i]) for i, name in enumerate("ab")}
    return MultiTaskData.from_arrays(tasks, name="halves", validation=validation, seed=seed)


def regression(*, validation, seed):
    return load(validation=validation, seed=seed, targets=0)
"""

NETWORK = """
from torch import nn
from routing_env import RoutedNetwork
from routing_env.game.network import linear_layers


def build(data):
    stem = nn.Sequential(nn.Linear(data.input_shape[0], 7), nn.ReLU())
    return RoutedNetwork(stem, linear_layers([7, data.outputs], blocks=2), data.input_shape)
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data.py").write_text(DATA)
    (tmp_path / "my_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)


def test_a_benchmark_on_your_own_data_and_network(tmp_path: Path) -> None:
    data, network = "my_data.py:load", "my_net.py:build"
    options = BenchmarkOptions(data=data, network=network, entrants=("wpl", "mmoe"), epochs=1, seeds=1)
    name, jobs = asked_for("digits", options)
    assert name.startswith("data-halves-my_net.py-build-1epochs-1seeds-wpl")
    assert train_in_worker([(job.given, job.path) for job in jobs]) == ""
    save_report(jobs, tmp_path / "report", Console(file=io.StringIO(), width=200))
    with (tmp_path / "report/leaderboard.csv").open() as file:
        reported = {row["entrant"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    with pytest.raises(ValueError, match=r"my_data\.py:load .*, my_net\.py:build .*--trust"):
        load_run(jobs[0].path)
    router, static = (load_run(job.path, trust=True) for job in jobs)
    assert reported == {
        "wpl": pytest.approx(router.evaluate("test").overall_accuracy),
        "mmoe": pytest.approx(static.evaluate("test").overall_accuracy),
    }
    routed = router.game.network
    assert isinstance(routed, RoutedNetwork)
    assert (router.game.data.name, routed.bank(0).in_shape, len(routed.bank(0))) == ("halves", (7,), 2)
    assert isinstance(static.learner, BaselineLearner)
    stem = static.learner.network.stem
    assert isinstance(static.learner.network, Baseline)
    assert [tuple(part.shape) for part in stem.parameters()] == [(7, 5), (7,)], "a baseline has the same stem"

    folders = {job.path for job in jobs}
    (tmp_path / "my_net.py").write_text(NETWORK.replace("blocks=2", "blocks=3"))
    assert not folders & {job.path for job in asked_for("digits", options)[1]}, "another network, another folder"


def test_what_cannot_be_compared_is_refused_before_anything_is_trained() -> None:
    for data, network, why in (
        ("my_data.py:regression", None, "is regression, and leaderboards show accuracies"),
        (None, "my_net.py:build", "without data; say on which data set"),
        ("digits", "my_net.py:built", "did you mean 'build'"),
        ("my_data.py:loud", None, "did you mean 'load'"),
    ):
        with pytest.raises(ValueError, match=why):
            asked_for("digits", BenchmarkOptions(data=data, network=network))


@pytest.mark.parametrize("router", ["wpl", "mmoe"])
def test_what_was_not_measured_is_no_number(router: str, tmp_path: Path) -> None:
    few = {"arrivals": "1+1", "arrival_samples": 5}  # five rows in a stage of one deal
    run = Run.of({"data": "my_data.py:regression", "network": "mlp", "router": router, "epochs": 1, **few})
    directory = RunDirectory.create(tmp_path, router, run.settings, run.data)
    run.train(directory, Display(Console(quiet=True)))
    rows = directory.read_metrics()
    dealt = np.diff([0, *(row["samples"] for row in rows)]) > 0
    assert [row["train_loss"] is not None for row in rows] == dealt.tolist() == [True, True, *[False] * 4]
    assert {row["train_accuracy"] for row in rows} == {None}
    out = io.StringIO()
    Console(file=out, width=160).print(task_table(run.evaluate("test"), run.data, ""))
    assert "%" not in out.getvalue().partition("route:")[0]
