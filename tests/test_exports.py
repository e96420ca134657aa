"""Leaderboards and runs in the formats of other tools."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from routing_env.benchmark.columns import RECORDED
from routing_env.benchmark.exports import in_latex, latex, marl_eval
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.benchmark.report import save_report
from routing_env.benchmark.tables import cells
from routing_env.game.settings import Settings
from routing_env.runs.directory import RunDirectory
from routing_env.runs.settings import ReportOptions, RunSettings


def pretend(folder: Path, router: str, seed: int, epochs: int = 2) -> None:
    """Write the files of a run of two epochs, of which the first ``epochs`` are finished."""
    directory = RunDirectory(folder / f"{router}-{seed}")
    directory.write_config(RunSettings(router=router, epochs=2, game=Settings(data="planted", seed=seed)))
    for epoch in range(1, epochs + 1):
        score = 0.5 + 0.1 * epoch + 0.01 * seed
        row = {"epoch": epoch, "samples": 9 * epoch, "seconds": 1.0, "validation_accuracy": score}
        row |= {"test_accuracy": score, "test_balanced_accuracy": score / 2, "test_task_accuracy": [score + 0.1, score]}
        routed = {"test_routes": [[[9, 0]]] * 2, **{column.key: 1.0 for column in RECORDED}}
        directory.append_metrics(row | ({} if router == "mmoe" else routed))
    directory.save_checkpoint({"epoch": epochs})


def test_the_raw_data_of_marl_eval(tmp_path: Path) -> None:
    for router in ("wpl", "mmoe"):
        for seed in (0, 1):
            pretend(tmp_path, router, seed)
    pretend(tmp_path, "exp3", 0, epochs=1)  # has not finished
    raw = json.loads(json.dumps(marl_eval(found_jobs([tmp_path])), allow_nan=False))
    assert list(raw) == ["routing-env"]
    assert list(raw["routing-env"]) == ["planted"]
    entrants = raw["routing-env"]["planted"]
    assert set(entrants) == {"wpl", "mmoe"}
    assert all(set(runs) == {"seed_0", "seed_1"} for runs in entrants.values())
    run = entrants["wpl"]["seed_1"]
    assert list(run) == ["step_1", "step_2", "absolute_metrics"], "marl-eval takes the last entry for the absolute one"
    last = {"accuracy": [pytest.approx(0.71)], "balanced": [pytest.approx(0.355)], "worst": [pytest.approx(0.71)]}
    assert run["step_2"] == {"step_count": 18, **last}
    assert run["absolute_metrics"] == last
    assert not any("_" in metric for metric in last), "marl-eval splits names of metrics at underscores"


def test_latex_tables_hold_the_cells_of_the_markdown_tables(tmp_path: Path) -> None:
    for router in ("wpl", "mmoe", "soft_mixture"):
        for seed in (0, 1):
            pretend(tmp_path, router, seed)
    boards = leaderboards(found_jobs([tmp_path]))
    page = latex(boards)
    rows = [line for line in page.splitlines() if line.endswith(r" \\")]
    assert rows[1:] == [" & ".join(map(in_latex, row)) + r" \\" for row in cells(boards[0])]
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", page)
    assert {line.count(" & ") + 1 for line in rows} == {len(columns)}
    assert r"soft\_mixture" in page


def test_what_is_special_in_latex_is_escaped() -> None:
    assert in_latex("a_b & 5 % #1 {x} $y$") == r"a\_b \& 5 \% \#1 \{x\} \$y\$"
    assert in_latex("\\~^") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}"
    assert in_latex("[p] < 0.001 | >") == r"{[}p{]} \textless{} 0.001 \textbar{} \textgreater{}"
    assert [in_latex(text) for text in ("-0.43", "+0.43", "-")] == ["$-$0.43", "+0.43", "-"]
    assert in_latex("two\nlines") == r"two\textbackslash{}nlines"


def test_a_report_names_every_file_that_it_writes(tmp_path: Path) -> None:
    for router in ("wpl", "mmoe"):
        for seed in (0, 1):
            pretend(tmp_path / "runs", router, seed)
    out = io.StringIO()
    jobs = found_jobs([tmp_path / "runs"])
    save_report(jobs, tmp_path / "report", Console(file=out, width=400), ReportOptions(figures=("svg", "pdf")))
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"leaderboard.tex", "marl-eval.json", "leaderboard.csv", "planted-profile.svg"} <= written
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".tex", ".json", ".csv", ".md", ".svg", ".pdf"}
    with (tmp_path / "report/tasks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["entrant"], row["seed"], row["epoch"], row["task"]): float(row["test_accuracy"]) for row in rows} == {
        (job.entrant.name, str(job.seed), str(row["epoch"]), str(task)): accuracy
        for job in jobs
        for row in job.rows()
        for task, accuracy in enumerate(row["test_task_accuracy"])
    }
    assert {Path(line.split()[-1]).name for line in out.getvalue().splitlines() if line.startswith("saved")} == written
