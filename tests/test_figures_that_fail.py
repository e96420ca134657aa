"""Figures come last: where they fail, tables and scores are there, and the exit says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import routing_env
from rich.console import Console
from trained import small_run
from zoo import small_data

from routing_env import parallel_env
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.report import failures_told, save_report
from routing_env.drawing.map_layout import edges_of
from routing_env.runs.recording import Recording
from routing_env.runs.run import Run

PASS_FIRST: dict[str, Any] = {"recursive": True, "pass_action": True, "depth": 2}
"""Layers of different widths, of which no block applies at the first of two depths."""


def test_a_depth_with_pass_alone_is_drawn(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", 1, **PASS_FIRST)
    drawn = Run.stored(run, run.read_config())
    drawn.restore(run)
    assert (run.figures / "routing_map.png") in drawn.draw(run)
    env = parallel_env(data="planted", data_options=("samples=30",), render_mode="rgb_array", **PASS_FIRST)
    spec = env.game.spec
    assert spec.pass_action is not None
    assert spec.legal[0].nonzero().flatten().tolist() == [spec.pass_action]
    env.reset(seed=0)
    empty = env.render()
    env.step(dict.fromkeys(env.agents, spec.pass_action))
    passed = env.render()
    assert isinstance(empty, np.ndarray)
    assert isinstance(passed, np.ndarray)
    assert not np.array_equal(empty, passed)


def test_pass_keeps_a_line_straight_where_there_is_no_block() -> None:
    shares = np.zeros((3, 1, 2))
    shares[:, 0, 1] = 1
    edges = edges_of(shares, [[]])
    assert [(source[1], target[1]) for _, source, target, _ in edges] == [(x, x) for x in (1 / 6, 3 / 6, 5 / 6)]


def test_train_prints_its_table_before_it_fails_to_draw(tmp_path: Path) -> None:
    begun = routing_env("train", "--data=planted", "--no-reference", "--epochs=1", cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    (run,) = tmp_path.glob("runs/*/*")
    for figure in (run / "figures").iterdir():
        figure.unlink()
    (run / "figures" / "learning_curve.png").mkdir()  # where a file should be
    failed = routing_env("train", "--resume", str(run), cwd=tmp_path)
    assert failed.returncode == 2
    assert "all tasks" in failed.stdout
    assert "again          routing-env evaluate" in failed.stdout
    assert "its figures could not be drawn: IsADirectoryError" in failed.stderr
    assert "--resume" in failed.stderr


def test_a_report_saves_its_tables_before_it_fails_to_draw(tmp_path: Path) -> None:
    small_run(tmp_path / "runs/wpl/seed0")
    jobs = found_jobs([tmp_path / "runs"])
    report = tmp_path / "report"
    (report / "planted.png").mkdir(parents=True)
    with pytest.raises(OSError, match=r"the report is saved in .*its figures could not be drawn: IsADirectoryError"):
        save_report(jobs, report, Console(quiet=True))
    assert {"leaderboard.csv", "leaderboard.md", "marl-eval.json"} <= {path.name for path in report.iterdir()}


@pytest.mark.parametrize(
    ("reasons", "own", "said"),
    [
        (["a: no memory"], OSError("no ink"), r"^1 of 2 runs failed; [^\n]*\na: no memory\n.*no ink$"),
        (["a: no memory"], None, r"^1 of 2 runs failed; [^\n]*\na: no memory$"),
        ([], OSError("no ink"), "^no ink$"),
    ],
)
def test_what_failed_before_is_told_whatever_the_report_does(
    reasons: list[str], own: Exception | None, said: str
) -> None:
    def report() -> None:
        with failures_told("1 of 2 runs", reasons):
            if own is not None:
                raise own

    with pytest.raises((ValueError, OSError), match=said):
        report()


def test_a_recording_that_cannot_draw_leaves_the_loops_own_error(tmp_path: Path) -> None:
    env = parallel_env(data=small_data(), network="mlp", hidden=4)

    def loop() -> None:
        with Recording(env, "mine", lambda state: state.legal.int().argmax(1), run_dir=tmp_path) as recording:
            while env.game.samples < len(env.game.data.train):
                env.reset()
                while env.agents:
                    env.step(dict.fromkeys(env.agents, 0))
            (recording.directory.figures / "learning_curve.png").mkdir(parents=True)
            raise RuntimeError("the loop's own")

    with (
        pytest.warns(RuntimeWarning, match=r"the figures of .* could not be drawn; everything else is there"),
        pytest.raises(RuntimeError, match="the loop's own"),
    ):
        loop()
