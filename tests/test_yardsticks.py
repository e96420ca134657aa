"""Columns that measure entrants by a yardstick: an accuracy to reach, the best known routing, the best sharing."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from commands import routing_env
from trained import small_run

from routing_env.benchmark.columns import COLUMNS, samples_to
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.jobs import Job, takes_best_known_routing
from routing_env.benchmark.leaderboard import Leaderboard, leaderboards
from routing_env.benchmark.statistics import CensoredMedian, censored_median
from routing_env.benchmark.suites import Arena, Entrant
from routing_env.benchmark.tables import cells, save_tables
from routing_env.data.planted import partition_score
from routing_env.game.settings import Settings
from routing_env.runs.directory import RunDirectory
from routing_env.runs.settings import RunSettings
from routing_env.scenarios import SCENARIOS, best_sharing


def write(folder: Path, router: str, seed: int, curve: Sequence[float]) -> None:
    """Write the files of a run with this learning curve, as if it had been trained: 100 samples per epoch."""
    directory = RunDirectory(folder / f"{router}-{seed}")
    directory.write_config(RunSettings(router=router, epochs=len(curve), game=Settings(data="planted", seed=seed)))
    for epoch, tested in enumerate(curve, 1):
        row = {"epoch": epoch, "samples": 100 * epoch, "seconds": 1.0, "test_accuracy": tested}
        row |= {"validation_accuracy": tested, "test_balanced_accuracy": tested, "test_task_accuracy": [tested]}
        directory.append_metrics(row | ({} if router == "mmoe" else {"test_routes": [[[1, 0]]]}))
    directory.save_checkpoint({"epoch": len(curve)})


def column(board: Leaderboard, key: str) -> dict[str, object]:
    return {row.name: row.values[key] for row in board.standings}


def test_the_median_of_censored_values() -> None:
    assert censored_median([3, 1, 2], []) == CensoredMedian(2, 3, 3, 3)
    assert censored_median([1, 2], [9]) == CensoredMedian(2, 2, 3, 9), "the one that never gets there counts"
    assert censored_median([1], [9, 9]) == CensoredMedian(None, 1, 3, 9)
    assert censored_median([], [9]) == CensoredMedian(None, 0, 1, 9)
    # A bound of 2 says nothing about later: of the two that lasted longer, one fell at 4 (Kaplan & Meier 1958).
    assert censored_median([4, 1], [2, 9]) == CensoredMedian(4, 2, 4, 9)


def test_samples_to_an_accuracy(tmp_path: Path) -> None:
    curves = {
        "wpl": [[0.5, 0.9, 0.8], [0.9, 0.7, 0.9], [0.5, 0.6, 0.7]],
        "mmoe": [[0.5, 0.6, 0.95], [0.1] * 3, [0.8] * 3],
    }
    for router, seeds in curves.items():
        for seed, curve in enumerate(seeds):
            write(tmp_path / "runs", router, seed, curve)
    jobs = found_jobs([tmp_path / "runs"])
    (board,) = leaderboards(jobs, (samples_to(90), *COLUMNS))
    assert column(board, "samples_to_90") == {
        "wpl": CensoredMedian(200, 2, 3, 300),  # first reached, although it falls again
        "mmoe": CensoredMedian(None, 1, 3, 300),
    }
    assert [row[1:3] for row in cells(board)] == [["wpl", "200 (2 of 3)"], ["mmoe *", "> 300 (1 of 3)"]]
    _, path, *_ = save_tables([board], jobs, tmp_path / "report")
    with path.open() as file:
        rows = [(row["entrant"], row["samples_to_90"], row["samples_to_90_reached"]) for row in csv.DictReader(file)]
    assert rows == [("wpl", "200.0", "2"), ("mmoe", "", "1")]


def test_regret_is_the_area_between_two_learning_curves(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, "oracle", seed, [0.6, 0.8, 0.8])
        write(tmp_path, "wpl", seed, [0.4, 0.6, 0.8 + 0.2 * seed])
    write(tmp_path, "wpl", 2, [0.0, 0.0, 0.0])  # the oracle has no such seed
    (board,) = leaderboards(found_jobs([tmp_path]))
    assert column(board, "regret") == {"oracle": 0, "wpl": pytest.approx((0.15 + 0.1) / 2)}
    (alone,) = leaderboards(found_jobs([tmp_path / "wpl-0", tmp_path / "wpl-1"]))
    assert column(alone, "regret") == {"wpl": None}
    assert len(cells(alone)[0]) < len(cells(board)[0]), "a column without any value is left out"


def test_regret_is_to_the_best_routing_measured_after_the_same_epochs(tmp_path: Path) -> None:
    for length, best, learned in ((3, 0.9, 0.5), (2, 0.8, 0.6)):
        write(tmp_path / str(length), "oracle", 0, [best] * length)
        write(tmp_path / str(length), "wpl", 0, [learned] * length)
    write(tmp_path / "4", "wpl", 0, [0.5] * 4)  # the oracle has no such run
    (board,) = leaderboards(found_jobs([tmp_path]))
    regrets = {name: value for name, value in column(board, "regret").items() if name.startswith("wpl")}
    assert regrets == {"wpl epochs=3": pytest.approx(0.4), "wpl epochs=2": pytest.approx(0.2), "wpl epochs=4": None}


@pytest.mark.parametrize(("scenario", "known"), [(None, True), ("planted-3x4", True), ("overlap", False)])
def test_the_oracle_is_the_best_known_routing_unless_a_scenario_has_another(scenario: str | None, known: bool) -> None:
    given = {} if scenario is None else {"scenario": scenario}
    job = Job(Arena("any", given, ()), Entrant("oracle", "oracle"), given, Path("run"))
    assert takes_best_known_routing(job) is known


def test_runs_know_how_well_they_share(tmp_path: Path) -> None:
    """The groups of planted data, and where a scenario's best routing was enumerated, that routing."""

    def last(name: str, router: str, **given: object) -> float:
        return small_run(tmp_path / name, epochs=1, router=router, **given).read_metrics()[-1]["adjusted_rand"]

    assert last("oracle", "oracle") == 1
    assert last("together", "all-shared") == 0
    assert "adjusted_rand" not in small_run(tmp_path / "static", epochs=1, router="mmoe").read_metrics()[-1]
    assert best_sharing("planted-3x4", (0, 0, 1)) == (0, 0, 1)
    assert best_sharing("scarce", (0, 1, 2, 3)) == [0] * 3 + [3] * 3 + [0] * 6
    assert best_sharing("digits-10", None) is None
    for name, tasks in (("overlap", 5), ("visitors", 12), ("sparse-5", 12)):
        best = SCENARIOS[name].best
        assert best is not None
        sharing = best_sharing(name, None)
        assert sharing is not None
        blocks = sorted(set(sharing))
        routes = torch.zeros(tasks, 1, len(blocks), dtype=torch.int64)
        for task, block in enumerate(sharing):
            routes[task, 0, blocks.index(block)] = 1
        assert partition_score(routes, sharing) == 1


def test_an_accuracy_that_cannot_be_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    ended = routing_env("benchmark", "planted", "--samples-to", "0.9", "900", cwd=tmp_path)
    assert ended.returncode == 2
    assert "samples-to is 900; it is an accuracy in %, above 0 and at most 100" in ended.stderr
    assert not list(tmp_path.iterdir())
