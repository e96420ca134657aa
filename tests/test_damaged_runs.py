"""A damaged run stops neither a benchmark nor a report: the others are trained and shown; the exit code tells of it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from trained import small_run

from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.jobs import asked_for
from routing_env.checkpoint import DamagedError
from routing_env.cli import main
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run
from routing_env.runs.settings import BenchmarkOptions

SUITE = ("planted", "--epochs", "1", "--seeds", "1", "--fraction", "0.1", "--entrants", "random", "fixed", "dense")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "config.json": (flip, "benchmark"),
    "metrics.jsonl": (flip, "report"),
    "checkpoint.safetensors": (lambda path: path.write_bytes(path.read_bytes()[:100]), "benchmark"),
}


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(sys, "argv", ["routing-env", *arguments])
    if not code:
        main()
        return
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == code


def shown(folder: Path) -> set[str]:
    (board,) = folder.glob("runs/benchmark/reports/*/leaderboard.csv")
    return {row["entrant"] for row in csv.DictReader(board.open())}


def test_a_benchmark_and_its_report_leave_damaged_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = BenchmarkOptions(epochs=1, seeds=1, fraction=0.1, entrants=("random", "fixed", "dense"))
    _, jobs = asked_for("planted", config)
    damaged, finished, waiting = jobs
    for job in (damaged, finished):
        run = Run.of(job.given)
        run.train(RunDirectory(job.path), Display(Console(quiet=True)))
    for name, (damage, what) in DAMAGE.items():
        path = damaged.path / name
        whole = path.read_bytes()
        damage(path)
        before = path.read_bytes()
        command(what, *SUITE, monkeypatch=monkeypatch, code=2)
        error = capsys.readouterr().err
        assert "1 of 3 runs are damaged and left out" in error
        assert str(path) in error
        assert f"delete the folder {damaged.path}, and train this run again" in error
        assert shown(tmp_path) == {finished.entrant.name, waiting.entrant.name}
        assert path.read_bytes() == before
        path.write_bytes(whole)
    command("report", *SUITE, monkeypatch=monkeypatch, code=0)
    assert len(shown(tmp_path)) == 3


def test_weights_that_are_damaged_cost_a_report_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, jobs = asked_for("planted", BenchmarkOptions(epochs=1, seeds=1, fraction=0.1, entrants=("wpl", "fixed")))
    for job in jobs:
        Run.of(job.given).train(RunDirectory(job.path), Display(Console(quiet=True)))
    path = jobs[0].path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    command("report", *SUITE[:-3], "wpl", "fixed", monkeypatch=monkeypatch, code=2)
    error = capsys.readouterr().err
    assert "policies that could not be drawn" in error
    assert f"{path} is damaged" in error
    assert shown(tmp_path) == {"wpl", "fixed"}
    assert list(jobs[1].path.glob("figures/*.png"))


def test_a_report_of_folders_leaves_damaged_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for router in ("wpl", "dense"):
        small_run(tmp_path / "runs" / router, 1, router=router)
    flip(tmp_path / "runs/wpl/config.json")
    command("report", "runs/wpl", "runs/dense", monkeypatch=monkeypatch, code=2)
    error = capsys.readouterr().err
    assert "1 of 2 runs are damaged and left out" in error
    assert "runs/wpl/config.json" in error
    assert shown(tmp_path) == {"dense"}
    with pytest.raises(DamagedError, match=r"config\.json"):
        found_jobs([tmp_path / "runs/wpl"])
    command("report", "runs/wpl", "--run-dir", "elsewhere", monkeypatch=monkeypatch, code=2)
    assert "1 of 1 runs are damaged and left out" in capsys.readouterr().err
