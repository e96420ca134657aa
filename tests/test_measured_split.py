"""A run that leaves the test split alone: it trains, resumes and is drawn by its validation split."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from secret_data import SECRET

from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.cli import main
from routing_env.game.settings import SettingError
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run
from routing_env.runs.session import train_and_show

pytestmark = pytest.mark.filterwarnings("ignore:class 2 of task")


@pytest.fixture
def secret() -> dict[str, Any]:
    """Settings of a run in which nobody may evaluate the test split."""
    return {**SECRET, "epochs": 2, "threads": 1, "reference": False}


def finished(path: Path, given: dict[str, Any], epochs: int = 2) -> list[dict[str, Any]]:
    directory, run = RunDirectory(path), Run.of({**given, "epochs": epochs})
    directory.write_config(run.settings, run.learner.data)
    run.train(directory, Display(Console(quiet=True)))
    run.draw(directory)
    return directory.read_metrics()


@pytest.mark.parametrize(
    "who",
    [{"router": "wpl"}, {"router": "dense"}, {"router": "wpl", "arrivals": "2+1"}],
    ids=["router", "base", "late"],
)
def test_the_test_split_is_not_evaluated(tmp_path: Path, secret: dict[str, Any], who: dict[str, Any]) -> None:
    rows = finished(tmp_path / "run", {**secret, **who, "measure_test": False})
    assert not [key for row in rows for key in row if "test" in key]
    assert all(0 <= row["validation_accuracy"] <= 1 for row in rows)
    assert list((tmp_path / "run" / "figures").glob("*.png"))
    with pytest.raises(ValueError, match="somebody has read the test split"):
        finished(tmp_path / "measured", {**secret, **who})


def test_training_shows_the_validation_split(tmp_path: Path, secret: dict[str, Any]) -> None:
    run = Run.of({**secret, "router": "wpl", "measure_test": False, "reference": True})
    directory = RunDirectory.create(tmp_path, "shown", run.settings, run.data)
    console = Console(record=True, width=160)
    train_and_show(run, directory, console)
    shown = console.export_text()
    assert "validation split after 2 epochs" in shown
    assert "valid. %" in shown
    assert "test %" not in shown


def test_a_resumed_run_has_the_same_bits(tmp_path: Path, secret: dict[str, Any]) -> None:
    given = {**secret, "router": "q-learning", "measure_test": False}
    once, _ = finished(tmp_path / "once", given, 4)[-1], finished(tmp_path / "twice", given)
    twice = finished(tmp_path / "twice", given, 4)[-1]
    assert {**once, "seconds": 0} == {**twice, "seconds": 0}


def test_measuring_the_test_split_changes_nothing_else(tmp_path: Path) -> None:
    given = {"data": "planted", "data_options": ("samples=30",), "epochs": 1, "threads": 1, "router": "wpl"}
    kept = finished(tmp_path / "kept", {**given, "measure_test": False}, 1)[-1]
    measured = finished(tmp_path / "measured", given, 1)[-1]
    own = [key for key in kept if key.startswith(("train_", "validation_")) and key in measured]
    assert {"train_loss", "validation_loss"} <= set(own)
    assert [kept[key] for key in own] == [measured[key] for key in own]


def test_such_runs_have_no_place_on_a_leaderboard(tmp_path: Path, secret: dict[str, Any]) -> None:
    finished(tmp_path / "run", {**secret, "router": "wpl", "measure_test": False})
    with pytest.raises(ValueError, match="trained without measuring the test split"):
        leaderboards(found_jobs([tmp_path / "run"]))


def test_a_report_on_folders_shows_the_others(
    tmp_path: Path, secret: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted: dict[str, Any] = {"data": "planted", "data_options": ("samples=30",), "threads": 1}
    finished(tmp_path / "runs/kept", {**secret, "router": "random", "measure_test": False})
    finished(tmp_path / "runs/shown", planted, 1)
    finished(tmp_path / "runs/begun", {**planted, "seed": 1}, 1)
    for name in ("kept", "begun"):
        directory = RunDirectory(tmp_path / "runs" / name)
        directory.write_config(replace(directory.read_config(), epochs=9))  # it has not finished
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["routing-env", "report", "runs", "--run-dir", "reports"])
    main()
    said = capsys.readouterr().out
    assert "left out: 1 run trained without measuring the test split" in said
    assert "left out: 1 run that has not finished: runs/begun" in said
    assert "planted: test accuracy in %, 1 epoch, 1 seed" in said
    monkeypatch.setattr(sys, "argv", ["routing-env", "report", "runs/kept", "--run-dir", "reports"])
    with pytest.raises(SystemExit):
        main()
    assert "none of these runs has any" in capsys.readouterr().err


def test_something_must_be_measured(secret: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="no validation split to measure; set validation above 0"):
        Run.of({**secret, "router": "wpl", "measure_test": False, "validation": 0.0})
