"""A run loaded for Python is the run that was trained, and its folder stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trained import small_run

from routing_env import load_run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_loaded_run_is_what_was_trained(tmp_path: Path) -> None:
    directory = small_run(tmp_path / "run")
    before, threads = contents(directory.path), torch.get_num_threads()
    run = load_run(directory.path)
    evaluation = run.evaluate("test")
    assert [row["epoch"] for row in run.metrics] == [1, 2]
    assert evaluation.accuracy.tolist() == run.metrics[-1]["test_task_accuracy"]
    assert evaluation.routes.tolist() == run.metrics[-1]["test_routes"]
    assert run.game.evaluate(run.router, "test").accuracy.equal(evaluation.accuracy)
    assert evaluation.task_names == run.game.data.task_names
    assert torch.get_num_threads() == threads
    assert contents(directory.path) == before


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    static = load_run(small_run(tmp_path / "static", router="mmoe").path)
    assert 0 < static.evaluate().overall_accuracy <= 1
    with pytest.raises(AttributeError, match="mmoe is a baseline and plays no game"):
        _ = static.game
    with pytest.raises(AttributeError, match="mmoe has no router here"):
        _ = static.router
    with pytest.raises(FileNotFoundError, match="there is no run directory"):
        load_run(tmp_path / "nowhere")
