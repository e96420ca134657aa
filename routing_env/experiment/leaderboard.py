"""From finished runs to a leaderboard: terminal, Markdown, CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from routing_env.experiment.behaviour import switch_rate
from routing_env.experiment.benchmark import Job
from routing_env.experiment.learners import is_baseline
from routing_env.experiment.statistics import (
    Comparison,
    Interval,
    area_under_curve,
    bootstrap_interquartile_mean,
    paired_comparison,
    worst_task,
)

Rows = list[dict[str, Any]]

BEHAVIOUR = (
    "policy_entropy",
    "effective_blocks",
    "collapse_worst",
    "collapse_average",
    "mutual_information",
    "route_overlap",
    "dead_blocks",
)
"""Measures of routing that a run writes down; ``switch_rate`` follows from its routes."""

LEGEND = (
    "Test split after the last epoch, in %. IQM: interquartile mean over tasks and seeds, with its 95 % interval "
    "(stratified bootstrap). worst: accuracy of the worst task. area: mean height of the learning curve. "
    "difference: mean over seeds of the accuracy minus that of the best baseline (*), which is the one with the best "
    "validation accuracy; p: paired t-test over seeds."
)


TERMINAL_LEGEND = "Routers are bold. " + LEGEND.replace("worst:", "bal.: balanced accuracy. worst:").replace(
    "area: mean height of the learning curve. difference:", "diff.:"
)


@dataclass(frozen=True)
class Standing:
    """A row of the leaderboard; shares are in [0, 1], means over seeds.

    Attributes:
        name: of the entrant.
        baseline: whether it is one.
        seeds: finished runs.
        accuracy: test accuracy.
        interquartile: of test accuracy over tasks and seeds.
        balanced: balanced test accuracy, mean over tasks.
        worst: test accuracy of the worst task.
        area: under the test accuracy's learning curve.
        validation: validation accuracy; NaN without a validation split.
        seconds: of a run.
        versus: the best baseline; None for itself, and where there is none.
        behaviour: measures of routing; empty for baselines.
    """

    name: str
    baseline: bool
    seeds: int
    accuracy: float
    interquartile: Interval
    balanced: float
    worst: float
    area: float
    validation: float
    seconds: float
    versus: Comparison | None
    behaviour: dict[str, float]


@dataclass(frozen=True)
class Leaderboard:
    """Who stands where in one arena, the best test accuracy first.

    Attributes:
        arena: its name.
        best_baseline: the one with the best validation accuracy.
        standings: rows.
    """

    arena: str
    best_baseline: str | None
    standings: tuple[Standing, ...]


def leaderboards(jobs: Sequence[Job]) -> list[Leaderboard]:
    """A leaderboard for each arena, of the runs that have finished."""
    arenas = {job.arena.name: job.arena for job in jobs}
    boards: list[Leaderboard] = []
    for name in arenas:
        runs: dict[str, dict[int, Rows]] = {}
        baselines: set[str] = set()
        for job in jobs:
            rows = job.rows()
            if job.arena.name == name and rows and rows[-1]["epoch"] >= job.epochs:
                runs.setdefault(job.entrant.name, {})[job.config.game.seed] = rows[: job.epochs]
                if is_baseline(job.entrant.router):
                    baselines.add(job.entrant.name)
        boards.append(_leaderboard(name, runs, baselines))
    return boards


def _leaderboard(arena: str, runs: dict[str, dict[int, Rows]], baselines: set[str]) -> Leaderboard:
    """Runs by entrant and seed."""

    def mean(name: str, key: str) -> float:
        values = [rows[-1].get(key) for rows in runs[name].values()]
        return float(np.mean([np.nan if value is None else value for value in values]))

    # Without a validation split (the paper's protocol) there is nothing but the training accuracy to choose by.
    chosen_by = {
        name: next(
            value for value in (mean(name, "validation_accuracy"), mean(name, "train_accuracy"), 0.0) if value == value
        )
        for name in runs
        if name in baselines
    }
    best = max(chosen_by, key=lambda name: chosen_by[name], default=None)

    def standing(name: str) -> Standing:
        own = runs[name]
        last = [rows[-1] for rows in own.values()]
        tasks = np.array([row["test_task_accuracy"] for row in last])
        areas = [
            area_under_curve([row["epoch"] for row in rows], [row["test_accuracy"] for row in rows])
            for rows in own.values()
        ]
        versus = None
        if best is not None and best != name and (shared := sorted(own.keys() & runs[best].keys())):
            ours, theirs = ([runs[who][seed][-1]["test_accuracy"] for seed in shared] for who in (name, best))
            versus = paired_comparison(ours, theirs)
        behaviour = {key: mean(name, key) for key in BEHAVIOUR if last[0].get(key) is not None}
        if behaviour and all(len(rows) > 1 for rows in own.values()):
            routes = [np.array([row["test_routes"] for row in rows]) for rows in own.values()]
            behaviour["switch_rate"] = float(np.mean([switch_rate(counts).mean() for counts in routes]))
        return Standing(
            name=name,
            baseline=name in baselines,
            seeds=len(own),
            accuracy=mean(name, "test_accuracy"),
            interquartile=bootstrap_interquartile_mean(tasks),
            balanced=mean(name, "test_balanced_accuracy"),
            worst=float(worst_task(tasks).mean()),
            area=float(np.mean(areas)),
            validation=mean(name, "validation_accuracy"),
            seconds=mean(name, "seconds"),
            versus=versus,
            behaviour=behaviour,
        )

    standings = sorted((standing(name) for name in runs), key=lambda row: -row.accuracy)
    return Leaderboard(arena, best, tuple(standings))


HEADINGS = ("", "entrant", "accuracy", "IQM [95 %]", "balanced", "worst", "area", "difference", "p", "s/run")


def cells(board: Leaderboard) -> list[list[str]]:
    """The leaderboard as text, one list per row, in the order of ``HEADINGS``."""
    table: list[list[str]] = []
    for place, row in enumerate(board.standings, 1):
        iqm = row.interquartile
        versus = row.versus
        table.append(
            [
                str(place),
                row.name + (" *" if row.name == board.best_baseline else ""),
                _percent(row.accuracy),
                f"{_percent(iqm.value)} [{_percent(iqm.low)}, {_percent(iqm.high)}]",
                _percent(row.balanced),
                _percent(row.worst),
                _percent(row.area),
                "-" if versus is None else f"{100 * versus.difference:+.2f}",
                "-" if versus is None or versus.p != versus.p else f"{versus.p:.3f}",
                f"{row.seconds:.0f}",
            ]
        )
    return table


def terminal_table(board: Leaderboard) -> Table:
    """The leaderboard's main columns, for a terminal of 80 columns; routers are bold."""
    seeds = max((row.seeds for row in board.standings), default=0)
    title = f"{board.arena}, {seeds} seed{'s' if seeds > 1 else ''}"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("entrant", no_wrap=True)
    for heading in ("test", "IQM [95 %]", "bal.", "worst", "diff.", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, texts in zip(board.standings, cells(board), strict=True):
        _, name, accuracy, _, balanced, worst, _, difference, p, _ = texts
        iqm = row.interquartile
        interval = "" if iqm.low != iqm.low else f" [{100 * iqm.low:.1f}, {100 * iqm.high:.1f}]"
        style = None if row.baseline else "bold"
        texts = (name, accuracy, f"{100 * iqm.value:.1f}{interval}", balanced, worst, difference, p)
        table.add_row(*map(escape, texts), style=style)
    return table


def markdown(boards: Sequence[Leaderboard]) -> str:
    """All leaderboards, and how the routers among the entrants behaved."""
    parts: list[str] = []
    for board in boards:
        parts.append(f"## {board.arena}\n\n{markdown_table(HEADINGS, cells(board))}\n\n{LEGEND}\n")
        routed = [row for row in board.standings if row.behaviour]
        if routed:
            keys = [key for key in (*BEHAVIOUR, "switch_rate") if all(key in row.behaviour for row in routed)]
            lines = [[row.name, *(f"{row.behaviour[key]:.3f}" for key in keys)] for row in routed]
            headings = ("router", *(key.replace("_", " ") for key in keys))
            parts.append(f"Routing on the test split, entropies in nats:\n\n{markdown_table(headings, lines)}\n")
    return "\n".join(parts)


def save_tables(boards: Sequence[Leaderboard], jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.csv`` (a row per entrant) and ``runs.csv`` (a row per run and epoch)."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "arena": board.arena,
            "place": place,
            "entrant": row.name,
            "kind": "baseline" if row.baseline else "router",
            "best_baseline": row.name == board.best_baseline,
            "seeds": row.seeds,
            "accuracy": row.accuracy,
            "iqm": row.interquartile.value,
            "iqm_low": row.interquartile.low,
            "iqm_high": row.interquartile.high,
            "balanced_accuracy": row.balanced,
            "worst_task_accuracy": row.worst,
            "area_under_curve": row.area,
            "validation_accuracy": row.validation,
            "difference": row.versus.difference if row.versus else None,
            "difference_low": row.versus.low if row.versus else None,
            "difference_high": row.versus.high if row.versus else None,
            "p": row.versus.p if row.versus else None,
            "seconds": row.seconds,
            **{key: row.behaviour.get(key) for key in (*BEHAVIOUR, "switch_rate")},
        }
        for board in boards
        for place, row in enumerate(board.standings, 1)
    ]
    kept = ("epoch", "samples", "seconds", "train_accuracy", "validation_accuracy", "test_accuracy")
    measured = [
        {
            "arena": job.arena.name,
            "entrant": job.entrant.name,
            "seed": job.config.game.seed,
            **{key: row.get(key) for key in (*kept, "test_balanced_accuracy")},
            "test_worst_task_accuracy": min(row["test_task_accuracy"]),
            **{key: row.get(key) for key in BEHAVIOUR},
        }
        for job in jobs
        for row in job.rows()
    ]
    paths = [folder / "leaderboard.md", folder / "leaderboard.csv", folder / "runs.csv"]
    paths[0].write_text(markdown(boards))
    for path, table in ((paths[1], entries), (paths[2], measured)):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]) if table else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    return paths


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rule, *lines))


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f}"
