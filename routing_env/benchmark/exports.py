"""Leaderboards and runs in the formats of other tools: a LaTeX table, and the JSON file of marl-eval."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from routing_env.benchmark.jobs import Job
from routing_env.benchmark.leaderboard import Leaderboard
from routing_env.benchmark.tables import cells, shown_in
from routing_env.names import printable

ENVIRONMENT = "routing-env"
"""Name of the environment in marl-eval's file; its tasks are the arenas."""

METRICS = {
    "accuracy": lambda row: row["test_accuracy"],
    "balanced": lambda row: row["test_balanced_accuracy"],
    "worst": lambda row: min(row["test_task_accuracy"]),
}
"""Metrics in marl-eval's file; it splits names at underscores, so they have none."""

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # LaTeX takes a bracket after the end of a row for an option
    "]": "{]}",
}


def save_exports(boards: Sequence[Leaderboard], jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Write ``leaderboard.tex`` and ``marl-eval.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    latex_path, json_path = folder / "leaderboard.tex", folder / "marl-eval.json"
    latex_path.write_text(latex(boards), encoding="utf-8")
    json_path.write_text(json.dumps(marl_eval(jobs), indent=1), encoding="utf-8")
    return [latex_path, json_path]


def latex(boards: Sequence[Leaderboard]) -> str:
    """The leaderboards as LaTeX tables with the columns of the Markdown tables; they need the package booktabs."""
    tables: list[str] = []
    for board in boards:
        headings = ["", "entrant", *(column.heading for column in shown_in(board, "markdown"))]
        first, *rows = (" & ".join(map(in_latex, line)) + r" \\" for line in (headings, *cells(board)))
        lines = [
            f"% {printable(board.arena)}: {board.scale}",
            rf"\begin{{tabular}}{{rl{'r' * (len(headings) - 2)}}}",
            r"\toprule",
            first,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def in_latex(text: str) -> str:
    """A text on one line, with the characters that are special in LaTeX escaped and a proper minus sign."""
    escaped = "".join(_LATEX.get(character, character) for character in printable(text))
    return re.sub(r"^-(?=\d)", "$-$", escaped)


def marl_eval(jobs: Sequence[Job]) -> dict[str, Any]:
    """Finished runs as the raw data of marl-eval (Gorsane et al., NeurIPS 2022).

    The levels are environment, arena, entrant, seed and evaluation. An evaluation is a pass over the whole test split,
    so that each metric has one value. The absolute metrics, for which the protocol evaluates the best policy again, are
    those after the last epoch, since nothing is selected on the test split.

    marl-eval itself requires that all entrants have the same number of seeds and evaluations. Its functions turn the
    names of environments and tasks into lower case before they look them up, so arenas are written in lower case.
    """
    arenas: dict[str, Any] = {}
    for job in jobs:
        if job.epochs_done() < job.epochs:
            continue
        rows = job.rows()
        run = {f"step_{number}": {"step_count": row["samples"], **_metrics(row)} for number, row in enumerate(rows, 1)}
        entrants = arenas.setdefault(job.arena.name.lower(), {})
        entrants.setdefault(job.entrant.name, {})[f"seed_{job.seed}"] = {**run, "absolute_metrics": _metrics(rows[-1])}
    return {ENVIRONMENT: arenas}


def _metrics(row: dict[str, Any]) -> dict[str, list[float]]:
    return {name: [float(metric(row))] for name, metric in METRICS.items()}
