"""A run knows its data, its code and its versions, wherever it lies and from wherever it is used."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.jobs import differences
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.benchmark.tables import markdown
from routing_env.cli import main
from routing_env.game.settings import Settings
from routing_env.runs.records import sealed
from routing_env.runs.settings import RunSettings
from routing_env.runs.sources import files_of, relocated

QUICK = ("--network", "mlp", "--hidden", "4", "--no-reference", "--epochs", "1", "--batch-size", "8")
DATA = """
import numpy as np
from routing_env import MultiTaskData

def load(*, validation=0.1, seed=0):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(60, 4))
    tasks = {"first": (x[:, :4], (x[:, 0] > LIMIT).astype(int)), "second": (x + 1, (x[:, 1] > 0).astype(int))}
    classes = dict.fromkeys(tasks, 2)
    return MultiTaskData.from_arrays(tasks, name="mine", validation=validation, seed=seed, classes=classes)
"""
ROUTER = """
import torch
from routing_env import Decision, Router

class Always(Router):
    def __init__(self, spec, *, seed=0, block=0):
        self.block = block

    def act(self, state, *, greedy=False):
        action = torch.full_like(state.task, BLOCK + self.block)
        return Decision(action, torch.nn.functional.one_hot(action, state.legal.shape[1]).float())
"""


def data_file(folder: Path, limit: float = 0.0, name: str = "data.py") -> None:
    (folder / name).write_text(DATA.replace("LIMIT", str(limit)), encoding="utf-8")


def router_file(folder: Path, block: int = 0, name: str = "always.py") -> None:
    (folder / name).write_text(ROUTER.replace("BLOCK", str(block)), encoding="utf-8")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    data_file(folder)
    router_file(folder)
    return folder


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["routing-env", *arguments])
    if code:
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == code
    else:
        main()


def only_run(base: Path) -> Path:
    (config,) = base.glob("*/*/config.json")
    return config.parent


def train(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command("train", *QUICK, "--data", "data.py:load", *arguments, monkeypatch=monkeypatch)


def test_the_source_travels_with_the_run(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--router", "always.py:Always", "--router-options", "block=1", monkeypatch=monkeypatch)
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    shutil.move(only_run(work / "runs"), moved)
    shutil.rmtree(work)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    command("evaluate", str(moved), "--trust", monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert "always.py has changed or moved since this run began; its copy" in out
    assert "1 > 1 > 1" in out
    command("train", "--resume", str(moved), "--trust", "--epochs", "2", monkeypatch=monkeypatch)
    assert len((moved / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    config = json.loads((moved / "config.json").read_text(encoding="utf-8"))
    assert (config["router"], config["game"]["data"]) == ("always.py:Always", "data.py:load")


def test_a_source_that_has_changed_is_not_taken_for_the_runs(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--router", "always.py:Always", monkeypatch=monkeypatch)
    run = only_run(work / "runs")
    router_file(work, block=1)
    command("evaluate", str(run), "--trust", monkeypatch=monkeypatch)
    assert "0 > 0 > 0" in capsys.readouterr().out
    for copy in run.glob("source/*/always.py"):
        copy.write_text(copy.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    command("evaluate", str(run), "--trust", monkeypatch=monkeypatch, code=2)
    assert "always.py has changed since the run began" in capsys.readouterr().err


def test_a_damaged_copy_of_a_source_is_made_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("--router", "always.py:Always", monkeypatch=monkeypatch)
    run = only_run(work / "runs")
    (copy,) = run.glob("source/*/always.py")
    copy.write_text("damaged", encoding="utf-8")
    command("train", "--resume", str(run), "--trust", "--epochs", "2", monkeypatch=monkeypatch)
    assert copy.read_bytes() == (work / "always.py").read_bytes()


def test_other_data_are_refused_by_their_split(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "table.txt").write_text("0.0", encoding="utf-8")
    data_file(work, limit=0.0)
    text = (work / "data.py").read_text(encoding="utf-8").replace("> 0.0", "> float(open('table.txt').read())")
    (work / "data.py").write_text(text, encoding="utf-8")
    train("--router", "random", monkeypatch=monkeypatch)
    run = only_run(work / "runs")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    (work / "table.txt").write_text("0.5", encoding="utf-8")
    for arguments in (("evaluate", str(run), "--trust"), ("train", "--resume", str(run), "--trust", "--epochs", "2")):
        command(*arguments, monkeypatch=monkeypatch, code=2)
        error = " ".join(capsys.readouterr().err.split())
        assert "was trained on other data (train was" in error
        assert "test was" in error
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_another_version_is_said_in_a_line(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--router", "random", monkeypatch=monkeypatch)
    run = only_run(work / "runs")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["versions"]["torch"] = "1.0"
    (run / "config.json").write_text(json.dumps(sealed(config)), encoding="utf-8")
    capsys.readouterr()
    command("evaluate", str(run), "--trust", monkeypatch=monkeypatch)
    assert "this run began with torch 1.0 (now " in capsys.readouterr().out


def test_a_table_says_in_what_its_runs_differ(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for router, hidden in (("random", "4"), ("fixed", "5")):
        train("--router", router, "--hidden", hidden, "--run-dir", "a", monkeypatch=monkeypatch)
        train("--router", router, "--run-dir", "b", monkeypatch=monkeypatch)
    (first, second) = (found_jobs([work / folder]) for folder in "ab")
    assert differences(first) == "These runs differ in hidden: 5, 4."
    assert differences(second) == ""
    assert differences(first) in markdown(leaderboards(first))
    data_file(work, limit=0.3)
    train("--router", "wpl", "--run-dir", "b", monkeypatch=monkeypatch)
    (board,) = leaderboards(found_jobs([work / "b"]))
    assert board.differences == "These runs differ in the samples of the splits train, test."


def test_a_benchmark_does_not_take_runs_on_other_data_for_todays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("benchmark", "planted", "--epochs", "1", "--seeds", "1", "--entrants", "random", "--fraction", "0.2")
    command(*arguments, monkeypatch=monkeypatch)
    command(*arguments, monkeypatch=monkeypatch)
    assert "1 of 1 runs had finished before" in capsys.readouterr().out
    (config,) = tmp_path.glob("runs/benchmark/*/seed0/config.json")
    content: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    content["fingerprint"]["train"] = "0" * 16
    config.write_text(json.dumps(sealed(content)), encoding="utf-8")
    command(*arguments, monkeypatch=monkeypatch, code=2)
    assert "was trained on other data (train was 0000000000000000" in capsys.readouterr().err


def test_files_are_found_wherever_a_setting_names_them() -> None:
    options = ("network=c.py:Y", 'routers=["d.py:Z", "wpl"]', "step=0.1")
    assert files_of({"router": "a/b.py:X", "router_options": options, "loss": "mse"}) == ["a/b.py", "c.py", "d.py"]
    settings = RunSettings(router="a/b.py:X", router_options=options, game=Settings(network="e.py:net"))
    moved = relocated(settings, {"d.py": Path("/new/d.py"), "e.py": Path("/new/e.py")})
    assert moved.router == "a/b.py:X"
    assert moved.router_options[1] == 'routers=["/new/d.py:Z", "wpl"]'
    assert moved.router_options[::2] == settings.router_options[::2]
    assert moved.game.network == "/new/e.py:net"
