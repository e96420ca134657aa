"""Trackers receive what the run's own files hold, and their failures stop nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from zoo import small_data

from routing_env import parallel_env
from routing_env.agents import make_router
from routing_env.cli import main
from routing_env.runs import trackers
from routing_env.runs.recording import Recording
from routing_env.runs.trackers import scalars

TRAIN = ("train", "--data=planted", "--data-options", "samples=60", "--no-reference", "--name=run")


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> Path:
    """The directory of a run that the command line has trained."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["routing-env", *arguments])
    main()
    (directory,) = (folder / "runs/run").iterdir()
    return directory


def rows_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_the_scalars_of_a_row() -> None:
    row = {"epoch": 2, "a": 0.5, "none": None, "test_task_accuracy": [0.25, 1.0], "test_routes": [[[1, 0]]]}
    assert scalars(row) == {"epoch": 2, "a": 0.5, "test_task_accuracy/0": 0.25, "test_task_accuracy/1": 1.0}


def test_tensorboard_has_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    directory = train(monkeypatch, tmp_path, *TRAIN, "--epochs=2", "--log", "tensorboard")
    train(monkeypatch, tmp_path, "train", "--resume", str(directory), "--epochs=3", "--log", "tensorboard")
    read = events.EventAccumulator(str(directory / "tensorboard")).Reload()
    rows = rows_of(directory)
    assert len(rows) == 3
    for name in scalars(rows[0]):
        found = {event.step: event.value for event in read.Scalars(name)}
        assert found == pytest.approx({row["samples"]: scalars(row)[name] for row in rows}), name
        assert len(read.Scalars(name)) == 3


def test_a_recorded_loop_is_tracked(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    env = parallel_env(data=small_data(), hidden=4, seed=0)
    router = make_router("wpl", env.game.spec, seed=0)
    with Recording(env, "mine", router, run_dir=tmp_path, log=("tensorboard",)) as recording:
        router.play(env.game, 2 * env.game.dealer.pass_size)
    directory = recording.directory.path
    read = events.EventAccumulator(str(directory / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in read.Scalars("train_accuracy")]
    assert found == [(row["samples"], pytest.approx(row["train_accuracy"])) for row in rows_of(directory)]
    assert len(found) == 2


def test_mlflow_continues_the_run_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    directory = train(monkeypatch, tmp_path, *TRAIN, "--epochs=1", "--log", "mlflow")
    train(monkeypatch, tmp_path, "train", "--resume", str(directory), "--epochs=2", "--log", "mlflow")
    client = mlflow.tracking.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'routing-env'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["router"] == "wpl"
    assert run.info.status == "FINISHED"
    found = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "test_accuracy")}
    assert found == {row["samples"]: row["test_accuracy"] for row in rows_of(directory)}


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    directory = train(monkeypatch, tmp_path, *TRAIN, "--epochs=1", "--log", "wandb")
    (file,) = directory.rglob("*.wandb")
    content = file.read_bytes()
    (row,) = rows_of(directory)
    assert b"test_accuracy" in content
    assert repr(row["test_accuracy"]).encode() in content


class FullDisk:
    """A tracker that takes one row."""

    taken = 0

    def __init__(self, run: object, folder: Path) -> None:
        pass

    def log(self, metrics: Mapping[str, float], samples: int) -> None:
        """Take the first row, and no other."""
        if FullDisk.taken:
            raise OSError(28, "No space left on device")
        FullDisk.taken += 1

    def close(self) -> None:
        """Nothing is open."""


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", FullDisk)
    with pytest.warns(RuntimeWarning, match="tensorboard has failed .*No space left on device") as caught:
        directory = train(monkeypatch, tmp_path, *TRAIN, "--epochs=3", "--log", "tensorboard")
    assert len([one for one in caught if "tensorboard has failed" in str(one.message)]) == 1
    assert [row["epoch"] for row in rows_of(directory)] == [1, 2, 3]
    assert FullDisk.taken == 1


def test_a_missing_library_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["routing-env", *TRAIN, "--log", "wandb"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install 'routing-env[wandb]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
