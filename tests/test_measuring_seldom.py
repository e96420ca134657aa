"""A run that measures its network every few epochs: the same training, fewer rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file

from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.game.settings import SettingError
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run

GIVEN: dict[str, Any] = {
    "data": "planted",
    "data_options": ("samples=30",),
    "decay_every": 2,
    "dropout": 0.2,
    "threads": 1,
    "reference": False,
}


def finished(path: Path, router: str, epochs: int, **given: Any) -> list[dict[str, Any]]:
    directory, run = RunDirectory(path), Run.of({**GIVEN, "router": router, "epochs": epochs, **given})
    directory.write_config(run.settings, run.learner.data)
    run.train(directory, Display(Console(quiet=True)))
    run.draw(directory)
    return directory.read_metrics()


@pytest.mark.parametrize("router", ["q-learning", "dense"])
def test_the_network_is_trained_as_ever_and_measured_less_often(tmp_path: Path, router: str) -> None:
    always, seldom = finished(tmp_path / "1", router, 7), finished(tmp_path / "3", router, 7, measure_every=3)
    assert [row["epoch"] for row in seldom] == [3, 6, 7]
    for row in seldom:
        own = always[row["epoch"] - 1]
        measured = [key for key in row if key.startswith(("test_", "validation_"))]
        assert {"test_accuracy", "validation_loss"} <= set(measured)
        assert [row[key] for key in (*measured, "samples")] == [own[key] for key in (*measured, "samples")]
    assert seldom[0]["train_loss"] == pytest.approx(sum(row["train_loss"] for row in always[:3]) / 3, rel=1e-3)
    ends = [load_file(tmp_path / number / "checkpoint.safetensors") for number in ("1", "3")]
    trained = [name for name in ends[0] if "trainer" in name or "network" in name]
    assert trained
    assert all(ends[0][name].equal(ends[1][name]) for name in trained)


def test_a_resumed_run_goes_on_in_the_same_rhythm(tmp_path: Path) -> None:
    finished(tmp_path / "run", "wpl", 4, measure_every=3)
    resumed = finished(tmp_path / "run", "wpl", 7, measure_every=3)
    whole = finished(tmp_path / "whole", "wpl", 7, measure_every=3)
    assert [row["epoch"] for row in resumed] == [3, 4, 6, 7]
    assert {**resumed[-1], "seconds": 0} == {**whole[-1], "seconds": 0}


def test_leaderboards_take_such_runs(tmp_path: Path) -> None:
    last = [finished(tmp_path / router, router, 5, measure_every=2)[-1] for router in ("wpl", "dense")]
    (board,) = leaderboards(found_jobs([tmp_path]))
    shown = {row.name: row.values["accuracy"] for row in board.standings}
    assert sorted(shown) == ["dense", "wpl"]
    assert [row["epoch"] for row in last] == [5, 5]


def test_epochs_that_go_back_are_noticed(tmp_path: Path) -> None:
    finished(tmp_path / "run", "wpl", 4, measure_every=2)
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match="does not go from epoch to epoch"):
        RunDirectory(tmp_path / "run").read_metrics()


def test_numbers_without_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="measure_every is 0; it must be at least 1"):
        Run.of({**GIVEN, "measure_every": 0})
    with pytest.raises(SettingError, match="measure_every is 2 beside arrivals, whose every stage is measured"):
        Run.of({**GIVEN, "measure_every": 2, "arrivals": "2+1"})
