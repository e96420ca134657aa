"""The checkpoint alone says how far a run is; metrics that disagree with it are noticed before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file

from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.jobs import Job, plan_jobs
from routing_env.benchmark.suites import suite_on
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run

GIVEN: dict[str, Any] = {
    "data": "planted",
    "data_options": ("samples=30",),
    "router": "wpl",
    "threads": 1,
    "reference": False,
}


def train(path: Path, epochs: int, **given: Any) -> RunDirectory:
    directory, run = RunDirectory(path), Run.of({**GIVEN, "epochs": epochs, **given})
    directory.write_config(run.settings, run.learner.data)
    run.train(directory, Display(Console(quiet=True)))
    return directory


def content(directory: RunDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.path.iterdir() if path.is_file()}


def rows_of(directory: RunDirectory) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0} for row in directory.read_metrics()]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1])),
    "cut in a line": lambda path: path.write_text(path.read_text()[:-20]),
    "empty": lambda path: path.write_text(""),
    "gone": lambda path: path.unlink(),
    "a digit flipped": lambda path: path.write_text(path.read_text().replace('"samples": ', '"samples": 1', 1)),
}


@pytest.mark.parametrize("measure_every", [1, 2])
@pytest.mark.parametrize("damage", DAMAGE)
def test_metrics_that_do_not_fit_are_refused_before_training(tmp_path: Path, damage: str, measure_every: int) -> None:
    directory = train(tmp_path / "run", 3, measure_every=measure_every)
    DAMAGE[damage](directory.metrics_path)
    before = content(directory)
    run = Run.of({**GIVEN, "epochs": 5, "measure_every": measure_every})
    with pytest.raises(ValueError, match=r"metrics\.jsonl .*restore the file, or delete .*checkpoint\.safetensors"):
        run.train(directory, Display(Console(quiet=True)))
    assert content(directory) == before
    assert (run.epoch, run.learner.samples) == (0, 0)


def test_without_its_checkpoint_a_run_starts_over_to_the_same_bits(tmp_path: Path) -> None:
    whole, damaged = train(tmp_path / "whole", 4), train(tmp_path / "damaged", 2)
    damaged.metrics_path.write_text("{broken\n{}\n")
    damaged.checkpoint_path.unlink()
    train(damaged.path, 4)
    assert rows_of(damaged) == rows_of(whole)
    ours, theirs = (load_file(one.checkpoint_path) for one in (damaged, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_rows_after_the_checkpoint_are_measured_again(tmp_path: Path) -> None:
    """As a full disk or a crash between the two files leaves them."""
    directory = train(tmp_path / "run", 2)
    checkpoint = directory.checkpoint_path.read_bytes()
    longer = rows_of(train(directory.path, 3))
    directory.checkpoint_path.write_bytes(checkpoint)
    assert directory.epoch == 2
    assert rows_of(directory) == longer
    assert rows_of(train(directory.path, 3)) == longer


def test_a_job_has_finished_when_its_checkpoint_says_so(tmp_path: Path) -> None:
    directory = train(tmp_path / "run", 3)
    (job,) = found_jobs([directory.path])
    assert (job.epochs_done(), len(job.rows())) == (3, 3)
    directory.checkpoint_path.unlink()
    assert (job.epochs_done(), job.rows()) == (0, [])


def test_a_job_that_was_measured_seldom_has_finished_too(tmp_path: Path) -> None:
    directory = train(tmp_path / "run", 5, measure_every=3)
    (job,) = found_jobs([directory.path])
    assert job.epochs_done() == job.epochs == 5
    assert [row["epoch"] for row in job.rows()] == [3, 5]


def test_a_job_whose_metrics_are_not_those_of_its_checkpoint_is_named(tmp_path: Path) -> None:
    directory = train(tmp_path / "run", 3)
    (job,) = found_jobs([directory.path])
    directory.keep_metrics(2)
    with pytest.raises(ValueError, match=r"run/metrics\.jsonl ends at epoch 2, and the checkpoint is of epoch 3"):
        job.epochs_done()


def test_a_job_without_a_folder_has_not_begun(tmp_path: Path) -> None:
    job: Job = plan_jobs(suite_on("planted"), tmp_path, seeds=1, epochs=2)[0]
    assert (job.epochs_done(), job.rows()) == (0, [])
