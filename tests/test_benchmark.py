"""The benchmark: suites, the grid, and resumption after SIGKILL."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import at_once, routing_env
from PIL import Image

from routing_env.benchmark.jobs import asked_for, choose_entrants, plan_jobs, report_name, scale
from routing_env.benchmark.paper import EPOCHS, TABLE_2
from routing_env.benchmark.suites import SUITES, Entrant
from routing_env.cli import main
from routing_env.data import DATASETS, first_tasks, load, training_share
from routing_env.game.build import load_data
from routing_env.game.settings import Settings
from routing_env.runs.learners import is_baseline
from routing_env.runs.settings import BenchmarkOptions
from routing_env.scenarios import settled_by_scenario

TINY = ("benchmark", "planted", "--epochs", "2", "--seeds", "2", "--fraction", "0.3")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "routing_env", *arguments]


def table(folder: Path, name: str = "leaderboard") -> list[dict[str, str]]:
    (path,) = folder.glob(f"runs/benchmark/reports/planted-*/{name}.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds")
    return rows


@pytest.mark.parametrize("name", SUITES)
def test_suites_name_what_exists(name: str) -> None:
    settings = {field.name for field in fields(Settings)}
    jobs = plan_jobs(SUITES[name], Path("base"))
    for arena in SUITES[name].arenas:
        assert {**settled_by_scenario(arena.game), **arena.game}["data"] in DATASETS
        entrants = {entrant.name for entrant in arena.entrants}
        assert "random-fixed" in entrants or name == "cost"
        yardsticks = {"dense", "linear_heads"} if arena.game.get("data") == "cifar" else set[str]()
        assert yardsticks <= entrants or name in ("rho", "cost")
        assert arena.figure is None or set(TABLE_2[arena.figure]) == entrants - {"random-fixed"} - yardsticks
        for entrant in arena.entrants:
            assert {*arena.game, *entrant.game} <= settings
            is_baseline(entrant.router)
    assert len(jobs) == SUITES[name].seeds * sum(len(arena.entrants) for arena in SUITES[name].arenas)
    assert len({job.path for job in jobs}) == len(jobs)
    assert all(len(row) == len(EPOCHS) for figure in TABLE_2.values() for row in figure.values())


def test_paths_follow_from_settings() -> None:
    base, suite = Path("base"), SUITES["digits"]
    paths = {job.path for job in plan_jobs(suite, base)}
    assert paths == {job.path for job in plan_jobs(suite, base, place={"data_dir": "/elsewhere", "device": "cuda"})}
    assert paths < {job.path for job in plan_jobs(suite, base, seeds=4)}
    assert not paths & {job.path for job in plan_jobs(suite, base, epochs=9)}
    assert not paths & {job.path for job in plan_jobs(suite, base, fraction=0.5)}
    shared = {job.path for job in plan_jobs(SUITES["cifar"], base)}
    assert shared < {job.path for job in plan_jobs(SUITES["domains"], base)}


def test_reports_at_other_scales_have_other_folders() -> None:
    suite = SUITES["digits"]
    options: list[dict[str, Any]] = [{}, {"epochs": 9}, {"seeds": 5}, {"fraction": 0.1}]
    names = [report_name("digits", plan_jobs(suite, Path("base"), **one)) for one in options]
    assert names == [
        "digits-8epochs-3seeds",
        "digits-9epochs-3seeds",
        "digits-8epochs-5seeds",
        "digits-8epochs-3seeds-fraction0.1",
    ]
    assert scale(plan_jobs(SUITES["cost"], Path("base"))) == "1 epoch, 1 seed"
    assert scale(plan_jobs(suite, Path("base"), fraction=0.1)) == "8 epochs, 3 seeds, 10 % of the training samples"
    assert scale(plan_jobs(suite, Path("base"))[:10]) == "8 epochs, 1 to 2 seeds", "seed by seed, of nine entrants"
    jobs = plan_jobs(suite, Path("base"))
    assert report_name("digits", jobs, ["mine.py:First", "wpl"]) == "digits-8epochs-3seeds-mine.py-First-wpl"
    long = [report_name("digits", jobs, ["wpl", "x" * length]) for length in (150, 151)]
    assert long[0] != long[1]
    assert max(map(len, long)) < 60


def test_entrants_are_checked() -> None:
    (arena,) = SUITES["architectures"].arenas
    chosen = choose_entrants(arena, ["wpl single", "exp3 ", "wpl  single"]).entrants
    assert [(entrant.name, entrant.router, entrant.options) for entrant in chosen] == [
        ("wpl single", "wpl", ("topology=single",)),
        ("exp3", "exp3", ()),
    ]
    own = choose_entrants(arena, ["wpl single", "wpl rule=full-vector step=0.1"]).entrants
    assert own[1] == Entrant("wpl rule=full-vector step=0.1", "wpl", ("rule=full-vector", "step=0.1"))
    for wrong, message in (
        ("wpl rule", "'rule' is not an option with a value"),
        ("wpl =1", "'=1' is not"),
        ("wpl 'rule=x", '"wpl \'rule=x" as an entrant: .*close the quotation mark'),
        ("wlp rule=x", "did you mean 'wpl'"),
        ("", "unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_entrants(arena, [wrong])
    with pytest.raises(ValueError, match="did you mean 'cross_stitch'"):
        choose_entrants(arena, ["cross-stich"])


def test_a_share_of_the_training_samples() -> None:
    data = load("digits", validation=0.2, seed=1)
    part = training_share(data, 0.1, seed=1)
    whole, kept = (torch.bincount(one.train.task) for one in (data, part))
    assert kept.tolist() == [round(0.1 * count) for count in whole.tolist()]
    pairs = {(index, task) for index, task in zip(data.train.index.tolist(), data.train.task.tolist(), strict=True)}
    ours = set(zip(part.train.index.tolist(), part.train.task.tolist(), strict=True))
    assert len(ours) == len(part.train)
    assert ours < pairs
    assert part.test is data.test
    assert part.validation is data.validation
    rows = data.inputs[part.train.index.unique()].float()
    torch.testing.assert_close(part.mean.squeeze(), rows.mean())
    assert torch.equal(part.train.index, training_share(data, 0.1, seed=1).train.index)
    assert not torch.equal(part.train.index, training_share(data, 0.1, seed=2).train.index)
    with pytest.raises(ValueError, match="fraction is 0"):
        load_data({"fraction": 0})


def test_the_first_tasks() -> None:
    data = first_tasks(load("planted"), 5)
    assert data.tasks == 5
    assert data.classes == (4,) * 5
    assert data.groups == (0, 0, 0, 0, 1)
    for split in (data.train, data.validation, data.test):
        assert split.task.unique().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="tasks is 13"):
        load_data({"data": "planted", "tasks": 13})


def test_a_killed_benchmark_goes_on_and_ends_with_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrants = ("--entrants", "wpl", "oracle", "mmoe", "--workers", "1")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    finished = routing_env(*TINY, *entrants, cwd=whole, columns=80)
    assert finished.returncode == 0, finished.stderr

    def done() -> dict[Path, int]:
        found = killed.glob("runs/benchmark/*/seed*/metrics.jsonl")
        return {path: path.stat().st_mtime_ns for path in found if len(path.read_text().splitlines()) == 2}

    with subprocess.Popen(command(*TINY, *entrants), cwd=killed, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 200
        while len(done()) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.5)  # the worker dies with its parent
    before = done()
    assert 2 <= len(before) < 6, "killed too late to show anything"
    time.sleep(0.5)
    assert done() == before, "an orphan goes on"

    # Two benchmarks in one folder leave each other's runs alone.
    resumed, other = at_once(2, *TINY, *entrants, cwd=killed, columns=80)
    assert resumed.returncode == other.returncode == 0, resumed.stderr + other.stderr
    assert f"{len(before)} of 6 runs had finished before" in resumed.stdout
    assert {path: done()[path] for path in before} == before, "a finished run was touched"
    for name in ("leaderboard", "runs"):
        assert table(killed, name) == table(whole, name)

    assert table(whole)[0]["entrant"] == "oracle"
    assert {row["entrant"]: row["kind"] for row in table(whole)}["mmoe"] == "baseline"
    lines = [line for line in resumed.stdout.splitlines() if not line.startswith("saved")]
    assert max(map(len, lines)) <= 100
    assert "mmoe *" in resumed.stdout
    report = whole / "runs/benchmark/reports/planted-2epochs-2seeds-fraction0.3-wpl-oracle-mmoe"
    with Image.open(report / "planted.png") as image:
        assert min(image.size) > 300
    before_report = table(whole)
    (report / "leaderboard.csv").unlink()
    monkeypatch.chdir(whole)
    monkeypatch.setattr(sys, "argv", ["routing-env", "report", *TINY[1:], *entrants[:-2]])
    main()
    assert table(whole) == before_report
    assert list(whole.glob("runs/benchmark/planted-wpl-*/seed0/figures/policy_over_time.png"))
    assert (report / "planted-routing.png").is_file()


def test_a_data_set_without_a_suite() -> None:
    name, jobs = asked_for("digits", BenchmarkOptions(data="fashion_mnist", seeds=1, entrants=("wpl", "mmoe")))
    assert name == "data-fashion_mnist-10epochs-1seeds-wpl-mmoe"
    assert [(job.given["router"], job.given["data"], job.epochs) for job in jobs] == [
        ("wpl", "fashion_mnist", 10),
        ("mmoe", "fashion_mnist", 10),
    ]
    spaced = ("wpl  step=0.1", "wpl step=0.1 "), ("wpl step=0.1",)
    names = {asked_for("planted", BenchmarkOptions(entrants=entrants))[0] for entrants in spaced}
    assert len(names) == 1, "spaces make no other report"
    assert len(asked_for("digits", BenchmarkOptions(data="planted"))[1]) >= 3 * 8
    with pytest.raises(ValueError, match="did you mean 'planted'"):
        asked_for("digits", BenchmarkOptions(data="plant"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digit",), "did you mean 'digits'"),
        (("--data", "digit"), "did you mean 'digits'"),
        (("--epochs", "0"), "epochs is 0"),
        (("--seeds", "0"), "seeds is 0"),
        (("--workers", "0"), "workers is 0"),
        (("--against", "wlp"), "unknown entrant of digits 'wlp'; did you mean 'wpl'?"),
    ],
)
def test_wrong_values_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["routing-env", "benchmark", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


ENTRANTS = """
import os, signal, torch
from routing_env import Decision, Router

class First(Router):
    def __init__(self, spec, *, seed=0): pass
    def act(self, state, *, greedy=False): return Decision(torch.zeros_like(state.task))

class Raise(First):
    def learn(self, trace): raise RuntimeError("no [batch, features] in [/tmp/x]")

class Kill(First):
    def act(self, state, *, greedy=False): os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_router_of_ones_own_plays_and_those_that_fail_leave_the_others_alone(tmp_path: Path) -> None:
    """One raises an error, and one takes its process down."""
    (tmp_path / "mine.py").write_text(ENTRANTS)
    entrants = ("--entrants", "mine.py:Kill", "mmoe", "mine.py:Raise", "mine.py:First", "--workers", "2")
    ended = routing_env("benchmark", "planted", "--epochs", "1", "--seeds", "1", *entrants, cwd=tmp_path, columns=80)
    assert ended.returncode == 2
    assert "2 of 4 runs failed" in ended.stderr
    assert "its process was killed" in ended.stderr
    assert "RuntimeError: no [batch, features] in [/tmp/x]" in ended.stderr
    assert {row["entrant"] for row in table(tmp_path)} == {"mmoe", "mine.py:First"}


def test_another_text_of_a_router_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = BenchmarkOptions(entrants=("mine.py:Kill", "wpl"), seeds=1)
    Path("mine.py").write_text(ENTRANTS)
    before = [job.path for job in asked_for("planted", config)[1]]
    assert [job.path for job in asked_for("planted", config)[1]] == before
    Path("mine.py").write_text(ENTRANTS + "# changed")
    after = [job.path for job in asked_for("planted", config)[1]]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


def test_a_benchmark_that_cannot_be_is_refused_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for arguments, message in (
        (("--fraction", "0"), "fraction is 0"),
        (("--run-dir", "file"), "choose another --run-dir"),
    ):
        ended = routing_env("benchmark", "planted", *arguments, cwd=tmp_path, columns=80)
        assert ended.returncode == 2
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr
