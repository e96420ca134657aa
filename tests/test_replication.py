"""The replication's page: numbers worked out by hand, what is missing, and that the page follows from its CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from routing_env.benchmark.jobs import Job, plan_jobs
from routing_env.benchmark.suites import SUITES
from routing_env.game.settings import Settings
from routing_env.maintenance.replication.finished_runs import FIGURES, OTHERS, collect, read, write
from routing_env.maintenance.replication.page import fill, tables, update
from routing_env.runs.directory import RunDirectory
from routing_env.runs.settings import RunSettings

DOCS = Path(__file__).resolve().parents[1] / "docs"
TESTED = {  # after epochs 1, 5 and 10, of three seeds
    "wpl": [(0.20, 0.50, 0.60), (0.22, 0.50, 0.62), (0.24, 0.50, 0.64)],
    "cross_stitch": [(0.30, 0.40, 0.58), (0.30, 0.40, 0.61), (0.30, 0.40, 0.61)],
    "task_specific_1_fc": [(0.3, 0.5, 0.7)],
}
VALIDATED = {"wpl": 0.5, "cross_stitch": 0.55, "task_specific_1_fc": 0.45}


def pretend(job: Job, tested: Sequence[float], epochs: int) -> None:
    """Write a run's files as if it had been trained."""
    directory = RunDirectory(job.path)
    directory.write_config(RunSettings(epochs=job.epochs, game=Settings()))
    known: dict[int, float] = dict(zip((1, 5, 10), tested, strict=True))
    for epoch in range(1, epochs + 1):
        accuracy = known.get(epoch, 0.1)
        row = {
            "epoch": epoch,
            "seconds": 12.0 * epoch,
            "test_accuracy": accuracy,
            "test_balanced_accuracy": accuracy - 0.01,
            "test_task_accuracy": [accuracy + 0.05, accuracy - 0.05],
            "validation_accuracy": VALIDATED[job.entrant.name],
        }
        routed = {"test_routes": [[[5, 0]], [[0, 5]]], "effective_blocks": 2.0, "policy_entropy": 0.25}
        routed["mutual_information"] = 0.69
        directory.append_metrics(row | (routed if job.entrant.name == "wpl" else {}))
    directory.save_checkpoint({"epoch": epochs})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for job in plan_jobs(SUITES["cifar"], tmp_path / "runs"):
        seed = job.seed
        if seed < len(TESTED.get(job.entrant.name, [])):
            pretend(job, TESTED[job.entrant.name][seed], 10)
    (cut,) = plan_jobs(SUITES["cifar"], tmp_path / "runs", seeds=1, fraction=0.1)[:1]
    pretend(cut, (0.9, 0.9, 0.9), 9)
    return tmp_path / "runs"


def line(table: str, *starts: str) -> list[str]:
    """The cells of the one row that begins so, after a heading that contains the first of them."""
    rest = table[table.index(starts[0]) :]
    return [cell.strip() for cell in rest[rest.index(starts[-1]) :].split("\n")[0].strip("|").split("|")]


def test_tables_by_hand(base: Path) -> None:
    runs = collect(base)
    assert len(runs) == 7, "the run of 9 epochs has not finished"
    made = tables(runs)
    whole = made["table-2-fraction-1"]
    # The 95 % interval of three seeds that are 0.02 apart: 4.3027 * 0.02 / sqrt(3) on either side.
    assert line(whole, "Figure 6", "`wpl`") == [
        *("`wpl`", "routing-all-fc (MARL-WPL)", "31", "22.0 ± 5.0", "53", "50.0 ± 0.0", "57", "62.0 ± 5.0"),
        *("61.0 ± 5.0", "57.0 ± 5.0", "3"),
    ]
    assert line(whole, "Figure 5", "`wpl`") == line(whole, "Figure 6", "`wpl`")
    single = line(whole, "Figure 6", "`task_specific_1_fc`")
    assert single[2:] == ["27", "30.0", "34", "50.0", "39", "70.0", "69.0", "65.0", "1"]
    assert line(whole, "Figure 6", "`task_specific_all_fc`")[2:8] == ["21", "not run", "29", "not run", "33", "not run"]
    assert line(whole, "Figure 7", "`wpl`")[2:8] == ["34", "not run", "54", "not run", "57", "not run"]
    assert line(made["table-2-fraction-0.1"], "Figure 6", "`wpl`")[1:4] == ["not run"] * 3
    # Differences 0.02, 0.01 and 0.03 from the baseline that validation, not test, names: t = 2 sqrt(3) with 2 degrees
    # of freedom, so p = 1 - t / sqrt(t^2 + 2).
    assert line(made["differences"], "cifar | 100 %") == [
        *("cifar", "100 %", "10", "`cross_stitch`", "60.0 ± 4.3", "62.0 ± 5.0", "+2.0 ± 2.5", "0.074", "3")
    ]
    assert line(made["differences"], "cifar | 10 %")[2:4] == ["10", "not run"]
    assert line(made["differences"], "cifar | 10 % | 40")[3] == "not run"
    assert made["rho"].count("not run") == 4 * sum(
        "rho" in entrant.game for entrant in SUITES["rho"].arenas[0].entrants
    )
    assert made["cost"].count("not run") == 10


def test_the_csv_holds_what_the_page_shows(base: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    page = docs / "replication.md"
    page.write_text("Ours:\n<!-- begin table-2-fraction-1 -->\nold\n<!-- end -->\nThat is all.\n")
    update(base, docs)
    runs = collect(base)
    assert read(docs / "replication.csv") == runs
    shown = page.read_text()
    table = tables(runs)["table-2-fraction-1"]
    assert shown == f"Ours:\n<!-- begin table-2-fraction-1 -->\n\n{table}\n\n<!-- end -->\nThat is all.\n"
    update(None, docs)
    assert page.read_text() == shown
    assert {path.name for path in (docs / "images").iterdir()} == {f"replication-figure-{n}.png" for n in (4, 5, 6)}
    versions = json.loads((base / runs[0].run / "config.json").read_text())["versions"]
    assert (runs[0].version, runs[0].torch) == (versions["routing-env"], versions["torch"])


def test_rows_of_runs_that_are_elsewhere_stay(base: Path, tmp_path: Path) -> None:
    docs, other = tmp_path / "docs", tmp_path / "other"
    docs.mkdir()
    (docs / "replication.md").write_text("")
    update(base, docs)
    before = read(docs / "replication.csv")
    with pytest.raises(ValueError, match="no run of a suite has finished in"):
        update(other, docs)
    assert read(docs / "replication.csv") == before
    (job,) = plan_jobs(SUITES["min"], other, seeds=1)[:1]
    pretend(job, (0.1, 0.2, 0.3), 10)
    update(other, docs)
    after = read(docs / "replication.csv")
    assert after[:-1] == before
    assert after[-1].arena == "min"


def test_a_repeated_run_replaces_its_row_whatever_its_folder_is_called(base: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "replication.md").write_text("")
    runs = collect(base)
    old = [replace(run, run=f"old/{run.run}", test=0.0) for run in runs]
    shorter = replace(old[0], epochs=9)
    write([*old, shorter], docs / "replication.csv")
    update(base, docs)
    assert read(docs / "replication.csv") == [*runs, shorter]


def test_marks_are_checked() -> None:
    with pytest.raises(ValueError, match="table-3"):
        fill("<!-- begin table-3 -->\n<!-- end -->", {"table-2": ""})
    with pytest.raises(ValueError, match="needs an end"):
        fill("<!-- begin table-2 -->", {"table-2": ""})


def test_the_page_follows_from_the_committed_runs() -> None:
    page = (DOCS / "replication.md").read_text()
    assert fill(page, tables(read(DOCS / "replication.csv"))) == page
    assert {*FIGURES, *OTHERS} <= set(SUITES)
