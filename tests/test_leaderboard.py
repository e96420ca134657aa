"""The leaderboard: which runs stand where, its columns in all tables, and the verdict."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from routing_env.agents import ROUTERS, make_router
from routing_env.benchmark.columns import COLUMNS, RECORDED
from routing_env.benchmark.entries import Column, Entry, percent
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.leaderboard import REFERENCES, Leaderboard, Standing, leaderboards
from routing_env.benchmark.statistics import (
    Interval,
    detectable_difference,
    holm,
    paired_comparison,
    probability_of_improvement,
)
from routing_env.benchmark.tables import (
    cells,
    fitting,
    markdown,
    power,
    save_tables,
    terminal_legend,
    terminal_table,
    verdict,
)
from routing_env.cli import main
from routing_env.data import load
from routing_env.game.build import make_game
from routing_env.game.settings import Settings
from routing_env.runs.directory import RunDirectory
from routing_env.runs.settings import RunSettings


def pretend(folder: Path, router: str, tested: float, *, epochs: int = 2, **game: Any) -> None:
    """Write the files of a run as if it had been trained."""
    config = RunSettings(router=router, epochs=epochs, game=Settings(data="planted", **game))
    directory = RunDirectory(folder)
    directory.write_config(config)
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "samples": 9, "seconds": 1.0, "validation_accuracy": tested, "test_accuracy": tested}
        row |= {"test_balanced_accuracy": tested, "test_task_accuracy": [tested] * 4, "parameters": 9}
        routed = {"test_routes": [[[9, 0]]] * 4, **{column.key: 1.0 for column in RECORDED}}
        directory.append_metrics(row | ({} if router in ("mmoe", "dense") else routed))
    directory.save_checkpoint({"epoch": epochs})


def accuracy_of(row: Standing) -> float:
    """The mean over seeds of the test accuracy."""
    interval = row.values["accuracy"]
    assert isinstance(interval, Interval)
    return interval.value


def test_any_runs_make_a_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, router: str, tested: float, **settings: Any) -> None:
        pretend(tmp_path / "runs" / name, router, tested, **settings)

    write("mine/a-seed0", "my-ppo", 0.5)  # a loop of somebody else's: no router of ours has that name
    write("mine/a-seed1", "my-ppo", 0.7, seed=1)
    write("wpl/a-seed0", "wpl", 0.1)
    write("wpl/b-seed0", "wpl", 0.8)  # the same seed again, later
    write("wpl/b-seed0/references/fixed", "fixed", 0.9)
    write("wpl/c-seed0", "wpl", 0.6, rho=0.3)
    write("wpl/d-seed0", "wpl", 0.2, tasks=2)
    write("mmoe/a-seed0", "mmoe", 0.55)
    jobs = found_jobs([tmp_path / "runs/mine", tmp_path / "runs/wpl", tmp_path / "runs/mmoe/a-seed0"])
    whole, first = leaderboards(jobs)
    assert [(row.name, row.seeds, row.baseline, pytest.approx(accuracy_of(row))) for row in whole.standings] == [
        ("wpl rho=0.0", 1, False, 0.8),
        ("my-ppo", 2, False, 0.6),
        ("wpl rho=0.3", 1, False, 0.6),
        ("mmoe", 1, True, 0.55),
    ]
    assert whole.against == "mmoe"
    assert (first.arena, [row.name for row in first.standings]) == ("planted, first 2 tasks", ["wpl"])
    assert "wpl rho=0.0, is 25.00 points above the best baseline, mmoe: one seed cannot" in verdict(whole)
    assert verdict(first) == ""

    write("lucky/a-seed0", "exp3", 0.95)
    path = tmp_path / "runs/lucky/a-seed0/metrics.jsonl"
    path.write_text(path.read_text().replace('"validation_accuracy": 0.95', '"validation_accuracy": 0.4'))
    RunDirectory(path.parent).save_checkpoint({"epoch": 2})
    (board,) = leaderboards(found_jobs([tmp_path / "runs/lucky", tmp_path / "runs/mine", tmp_path / "runs/mmoe"]))
    assert (board.standings[0].name, board.best_router) == ("exp3", "my-ppo"), "the test split chooses nobody"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["routing-env", "report", "runs/mine", "runs/mmoe"])
    main()
    (board,) = tmp_path.glob("runs/benchmark/reports/runs-planted-2epochs-2seeds-my-ppo-mmoe/leaderboard.csv")
    assert [row["entrant"] for row in csv.DictReader(board.open())] == ["my-ppo", "mmoe"]
    with pytest.raises(FileNotFoundError, match="there is no run in"):
        found_jobs([tmp_path / "runs/benchmark"])


def printed(table: Table) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_column_is_one_entry(tmp_path: Path) -> None:
    for router, seeds in (("wpl", (0.5, 0.7)), ("mmoe", (0.25, 0.35))):
        for seed, tested in enumerate(seeds):
            pretend(tmp_path / f"runs/{router}-seed{seed}", router, tested, seed=seed)

    def spread(entry: Entry) -> Interval:
        low, high = (pick(row["test_accuracy"] for row in entry.last) for pick in (min, max))
        return Interval(high - low, low, high)

    shown = frozenset[Any]({"terminal", "markdown", "csv"})
    new = Column("spread", "spread [ends]", "best seed - worst seed", spread, lambda v: percent(v.value), shown)
    columns = (*COLUMNS[:3], replace(new, interval=True), *COLUMNS[3:])
    jobs = found_jobs([tmp_path / "runs"])
    boards = leaderboards(jobs, columns)
    fit = fitting(boards[0], 87)
    terminal = printed(terminal_table(boards[0], fit))
    legend = printed(terminal_legend(fit, bold=True))
    heading, wpl, mmoe = (" ".join(line.split()) for line in terminal.splitlines()[1:4])
    assert heading == "entrant accuracy IQM [95 %] spread [ends] balanced worst vs * p"
    assert "20.00" in wpl
    assert "10.00" in mmoe
    assert "spread [ends] best seed - worst seed" in " ".join(legend.split())
    page = markdown(boards)
    assert "| IQM [95 %] | spread [ends] | balanced |" in page
    assert [row[4] for row in cells(boards[0])] == ["20.00", "10.00"]
    assert "- **spread [ends]**: best seed - worst seed" in page
    assert "- **vs \\***: difference" in page, "Markdown would not show ** after a star of the heading as bold"
    _, path, *_ = save_tables(boards, jobs, tmp_path / "report")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [[pytest.approx(float(row[f"spread{end}"])) for end in ("", "_low", "_high")] for row in rows] == [
        [0.2, 0.5, 0.7],
        [0.1, 0.25, 0.35],
    ]
    plain = leaderboards(jobs)
    every = fitting(plain[0], 1000)
    before = markdown(plain) + printed(terminal_table(plain[0], every)) + printed(terminal_legend(every, bold=True))
    assert "spread" not in before


def test_columns_have_names_of_their_own() -> None:
    for names in ([column.key for column in COLUMNS], [column.heading for column in COLUMNS]):
        assert len(set(names)) == len(names)
    assert all(column.meaning and column.shown for column in COLUMNS)


def test_references_are_listed_but_do_not_compete(tmp_path: Path) -> None:
    def board(*routers: tuple[str, float]) -> Leaderboard:
        folder = tmp_path / "-".join(router for router, _ in routers)
        for router, tested in routers:
            pretend(folder / router, router, tested)
        (made,) = leaderboards(found_jobs([folder]))
        return made

    whole = board(("oracle", 0.9), ("wpl", 0.6), ("round-robin", 0.7), ("mmoe", 0.5))
    assert [(row.name, row.reference) for row in whole.standings] == [
        ("oracle", True),
        ("round-robin", True),
        ("wpl", False),
        ("mmoe", False),
    ]
    assert whole.best_router == "wpl"
    best = "The best router by validation accuracy, wpl, is 10.00 points above the best baseline, mmoe"
    assert verdict(whole).startswith(best)
    alone = board(("oracle", 0.9), ("mmoe", 0.5))
    assert alone.best_router is None
    assert verdict(alone) == ""


@pytest.mark.parametrize("name", ROUTERS)
def test_references_are_the_routers_that_do_not_learn(name: str) -> None:
    game = make_game(data=load("planted"))
    state, router = game.reset(), make_router(name, game.spec)
    before = router.act(state, greedy=True).action
    router.play(game, 1000)
    assert router.act(state, greedy=True).action.equal(before) == (name in REFERENCES)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.6], "10.00 points above the best baseline, mmoe: one seed cannot tell whether this is chance."),
        ([0.6, 0.61, 0.62], "11.00 points above the best baseline, mmoe: unlikely to be chance, p = 0.003."),
        ([0.6, 0.60001, 0.6], "10.00 points above the best baseline, mmoe: unlikely to be chance, p < 0.001."),
        ([0.3, 0.6, 0.3], "10.00 points below the best baseline, mmoe: may be chance, p = 0.423."),
        ([0.5, 0.5], "level with the best baseline, mmoe: may be chance, p = 1.000."),
    ],
)
def test_the_verdict_in_words(tmp_path: Path, scores: list[float], said: str) -> None:
    for seed, tested in enumerate(scores):
        pretend(tmp_path / f"wpl-{seed}", "wpl", tested, seed=seed)
        pretend(tmp_path / f"mmoe-{seed}", "mmoe", 0.5, seed=seed)
    (board,) = leaderboards(found_jobs([tmp_path]))
    assert verdict(board) == f"The best router by validation accuracy, wpl, is {said}"


def board_of(folder: Path, scores: dict[str, list[float]]) -> Leaderboard:
    """The leaderboard of routers and baselines with these test accuracies, one for each seed."""
    for router, tested in scores.items():
        for seed, score in enumerate(tested):
            pretend(folder / f"{router}-{seed}", router, score, seed=seed)
    (board,) = leaderboards(found_jobs([folder]))
    return board


SCORES = {
    "wpl": [0.68, 0.71, 0.70],
    "exp3": [0.61, 0.62, 0.66],
    "mmoe": [0.6, 0.61, 0.63],
    "dense": [0.52, 0.57, 0.58],
    "oracle": [0.9, 0.92, 0.93],
}


def test_p_values_are_corrected_for_every_comparison_with_a_baseline(tmp_path: Path) -> None:
    board = board_of(tmp_path, SCORES)
    pairs = [(a, b) for b in ("mmoe", "dense") for a in ("wpl", "exp3", "oracle")] + [("dense", "mmoe")]
    expected = dict(zip(pairs, holm([paired_comparison(SCORES[a], SCORES[b]).p for a, b in pairs]), strict=True))
    assert board.against == "mmoe"
    for row in board.standings:
        if row.name == "mmoe":
            assert row.versus is None
            continue
        alone = paired_comparison(SCORES[row.name], SCORES["mmoe"])
        assert row.versus is not None
        assert row.versus.comparisons == 7
        assert row.values["p"] == row.versus.corrected_p == pytest.approx(expected[row.name, "mmoe"])
        assert row.values["uncorrected_p"] == pytest.approx(alone.p)
        assert (row.versus.difference, row.versus.low, row.versus.high) == pytest.approx(
            (alone.difference, alone.low, alone.high)
        )
    assert verdict(board).endswith(f"p = {expected['wpl', 'mmoe']:.3f} (Holm-corrected over 7 comparisons).")


def test_everyone_is_compared_with_whoever_is_named(tmp_path: Path) -> None:
    board_of(tmp_path, SCORES)
    (board,) = leaderboards(found_jobs([tmp_path]), against="exp3")
    others = [name for name in SCORES if name != "exp3"]
    ps = [paired_comparison(SCORES[name], SCORES["exp3"]).p for name in others]
    expected = dict(zip(others, holm(ps), strict=True))
    assert {row.name: row.values["p"] for row in board.standings} == pytest.approx({**expected, "exp3": None})
    tasks = {name: np.repeat(np.array(scores)[:, None], 4, axis=1) for name, scores in SCORES.items()}
    better = {row.name: row.values["improvement"] for row in board.standings}
    assert better["dense"] == probability_of_improvement(tasks["dense"], tasks["exp3"])
    assert [row[1] for row in cells(board)] == ["oracle", "wpl", "exp3 *", "mmoe", "dense"]
    assert verdict(board).startswith("The best router by validation accuracy, wpl, is 6.67 points above exp3: ")
    assert "from exp3 with 80 % power, Holm-corrected over 4 comparisons" in power(board)
    with pytest.raises(ValueError, match=r"against is 'nobody'.*name one of .*dense"):
        leaderboards(found_jobs([tmp_path]), against="nobody")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_terminal_of_any_width_shows_whole_numbers(tmp_path: Path, width: int) -> None:
    board = board_of(tmp_path, SCORES | {"a-router-with-a-long-name-that-is-folded": [0.1, 0.2, 0.3]})
    columns = fitting(board, width)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(board, columns))
    text = console.export_text()
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for row in board.standings:
        assert all(column.cell(row.values[column.key], "terminal") in text for column in columns)
    names = [column.heading for column in columns]
    assert names[0] == "accuracy"
    assert ("vs *" in names) == (width >= 60)
    assert ("parameters" in names) == (width >= 120)


def test_the_accuracy_has_the_interval_of_its_mean(tmp_path: Path) -> None:
    board = board_of(tmp_path, {"wpl": [0.6, 0.7], "mmoe": [0.5, 0.5], "dense": [0.4]})
    half = 12.7062047 * 5  # quantile of Student's t with one degree of freedom, times the standard error
    assert [row[2] for row in cells(board)] == [f"65.00 ± {half:.2f}", "50.00 ± 0.00", "40.00"]


def test_the_power_of_the_seeds_is_told(tmp_path: Path) -> None:
    board = board_of(tmp_path / "three", SCORES)
    spread = np.median([np.std(np.subtract(SCORES[name], SCORES["mmoe"]), ddof=1) for name in SCORES if name != "mmoe"])
    three, ten = (100 * detectable_difference(float(spread), seeds, comparisons=7) for seeds in (3, 10))
    assert power(board) == (
        f"With the variation seen here (median over entrants), 3 seeds detect a difference of {three:.2f} points from "
        f"the best baseline with 80 % power, Holm-corrected over 7 comparisons, and 10 seeds one of {ten:.2f} points. "
        "At least 10 seeds are recommended."
    )
    assert power(board) in markdown([board])
    many = {name: [scores[seed % 3] + seed / 1000 for seed in range(10)] for name, scores in SCORES.items()}
    assert "recommended" not in power(board_of(tmp_path / "ten", many))
    assert power(board_of(tmp_path / "one", {"wpl": [0.5], "mmoe": [0.4]})) == "At least 10 seeds are recommended."
    apart = board_of(tmp_path / "apart", {"wpl": [0.1, 0.9], "mmoe": [0.5, 0.5]})
    assert "2 seeds detect a difference of > 100 points from" in power(apart)
    assert "> 100" in {text for row in cells(apart) for text in row}


def test_intervals_of_accuracies_stay_between_0_and_1(tmp_path: Path) -> None:
    board = board_of(tmp_path, {"wpl": [0.2, 0.99, 0.98]})
    interval = board.standings[0].values["iqm"]
    assert isinstance(interval, Interval)
    assert (interval.low, interval.value, interval.high) == (0, pytest.approx(2.17 / 3), 1)


def test_the_probability_of_improvement_stands_in_the_table(tmp_path: Path) -> None:
    values = {row.name: row.values["improvement"] for row in board_of(tmp_path, SCORES).standings}
    tasks = {name: np.repeat(np.array(scores)[:, None], 4, axis=1) for name, scores in SCORES.items()}
    assert values["exp3"] == probability_of_improvement(tasks["exp3"], tasks["mmoe"])
    assert isinstance(values["wpl"], Interval)
    assert values["wpl"].value == 1
    assert values["mmoe"] is None


def test_equal_differences_say_nothing_about_chance(tmp_path: Path) -> None:
    for seed in (0, 1):
        pretend(tmp_path / f"wpl-{seed}", "wpl", 0.6, seed=seed)
        pretend(tmp_path / f"mmoe-{seed}", "mmoe", 0.5, seed=seed)
    (board,) = leaderboards(found_jobs([tmp_path]))
    assert verdict(board).endswith("mmoe: 2 seeds with the same difference cannot tell whether this is chance.")


def test_what_makes_a_comparison_unfair_is_told(tmp_path: Path) -> None:
    for seed in (0, 1):
        pretend(tmp_path / f"mine/a-seed{seed}", "my-ppo", 0.5, seed=seed)
    pretend(tmp_path / "long/a-seed0", "wpl", 0.9, epochs=3)
    pretend(tmp_path / "long/z-seed0", "wpl", 0.2, epochs=2)
    directory = RunDirectory(tmp_path / "long/z-seed0")
    directory.keep_metrics(1)
    directory.save_checkpoint({"epoch": 1})  # as if it had been cut off: it must not hide the one that has finished
    pretend(tmp_path / "long/b-seed1", "wpl", 0.7, epochs=3, seed=1, validation=0.0)
    found = found_jobs([tmp_path])
    (board,) = leaderboards(found)
    assert {row.name for row in board.standings} == {
        "wpl epochs=3 validation=0.1",
        "wpl epochs=3 validation=0.0",
        "my-ppo epochs=2 validation=0.1",
    }
    names = {row[1].replace(" *", "") for row in cells(board)}
    assert "wpl epochs=3 validation=0.1 (1 of 2 seeds)" in names
    assert "my-ppo epochs=2 validation=0.1" in names


def test_whoever_lacks_a_validation_split_is_not_chosen_by_another_measure(tmp_path: Path) -> None:
    def write(router: str, seen: dict[str, float | None]) -> None:
        directory = RunDirectory(tmp_path / router)
        directory.write_config(RunSettings(router=router, epochs=1, game=Settings(data="planted")))
        row = {"epoch": 1, "samples": 9, "seconds": 1.0, "test_accuracy": 0.5, "test_balanced_accuracy": 0.5}
        directory.append_metrics(row | {"test_task_accuracy": [0.5]} | seen)
        directory.save_checkpoint({"epoch": 1})

    write("mmoe", {"validation_accuracy": 0.4, "train_accuracy": 0.9})
    write("dense", {"train_accuracy": 0.8})
    (board,) = leaderboards(found_jobs([tmp_path]))
    assert (board.against, board.criterion) == ("mmoe", "training")
