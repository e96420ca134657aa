"""A leaderboard for people and programs: terminal, Markdown, CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from routing_env.benchmark.jobs import Job
from routing_env.benchmark.leaderboard import BEHAVIOUR, Leaderboard, Standing

MEANINGS = {
    "accuracy": "right answers on the test split after the last epoch, mean of seeds",
    "IQM": "interquartile mean: middle half of the tasks' accuracies; 95 % interval",
    "balanced": "accuracy if every class counts alike; guessing 1 of 2 classes gets 50",
    "worst": "accuracy of the worst task",
    "area": "mean height of the learning curve",
    "vs best": "minus the best baseline (*), chosen by validation, else training data",
    "p": "how often chance alone would differ as much (paired t-test over seeds)",
}
"""What the columns of numbers say; accuracies are in %, p is a probability."""

LEAST_P = 0.001
"""What is smaller is said to be so, and no more."""

HEADINGS = ("", "entrant", "accuracy", "IQM [95 %]", "balanced", "worst", "area", "vs best", "p", "s/run")


def cells(board: Leaderboard) -> list[list[str]]:
    """The leaderboard as text, one list per row, in the order of ``HEADINGS``."""
    table: list[list[str]] = []
    for place, row in enumerate(board.standings, 1):
        iqm = row.interquartile
        versus = row.versus
        table.append(
            [
                str(place),
                row.name + (" *" if row.name == board.best_baseline else "") + _missing_seeds(row, board),
                _percent(row.accuracy),
                f"{_percent(iqm.value)} [{_percent(iqm.low)}, {_percent(iqm.high)}]",
                _percent(row.balanced),
                _percent(row.worst),
                _percent(row.area),
                "-" if versus is None else f"{100 * versus.difference:+.2f}",
                "-" if versus is None else p_value(versus.p),
                f"{row.seconds:.0f}",
            ]
        )
    return table


def _missing_seeds(row: Standing, board: Leaderboard) -> str:
    """How many seeds an entrant has, where others have more."""
    most = max(other.seeds for other in board.standings)
    return "" if row.seeds == most else f" ({row.seeds} of {most} seeds)"


def terminal_table(board: Leaderboard) -> Table:
    """The leaderboard's main columns, for a terminal of 80 columns; routers are bold."""
    title = f"{board.arena}: test accuracy in %, {board.scale}"
    table = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, collapse_padding=True
    )
    table.add_column("entrant", no_wrap=True)
    for heading in ("accuracy", "IQM [95 %]", "balanced", "worst", "vs best", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, texts in zip(board.standings, cells(board), strict=True):
        _, name, accuracy, _, balanced, worst, _, difference, p, _ = texts
        iqm = row.interquartile
        interval = "" if iqm.low != iqm.low else f" [{100 * iqm.low:.1f}, {100 * iqm.high:.1f}]"
        style = None if row.baseline else "bold"
        texts = (name, accuracy, f"{100 * iqm.value:.1f}{interval}", balanced, worst, difference, p)
        table.add_row(*map(escape, texts), style=style)
    return table


def terminal_legend() -> Table:
    """What the columns of :func:`terminal_table` say."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, show_header=False, style="dim")
    for name, meaning in MEANINGS.items():
        if name != "area":
            table.add_row(name, meaning)
    table.add_row("bold", "routers; the others are baselines, plain networks without routing")
    return table


def verdict(board: Leaderboard) -> str:
    """How the best router stands to the best baseline, in a sentence; nothing where one of them is missing.

    Both are the best on validation data: the test split chooses nobody.
    """
    router = next((row for row in board.standings if row.name == board.best_router), None)
    if router is None or router.versus is None:
        return ""
    gap, p = 100 * router.versus.difference, router.versus.p
    where = "level with" if round(gap, 2) == 0 else f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'}"
    if p != p:
        trust = "one seed cannot tell whether by chance"
    else:
        trust = f"{'hardly' if p < 0.05 else 'perhaps'} by chance, p {'' if p < LEAST_P else '= '}{p_value(p)}"
    return f"The best router, {router.name}, is {where} the best baseline, {board.best_baseline}: {trust}."


def markdown(boards: Sequence[Leaderboard]) -> str:
    """All leaderboards, and how the routers among the entrants behaved."""
    legend = "\n".join(f"- **{name}**: {meaning}" for name, meaning in MEANINGS.items())
    parts: list[str] = []
    for board in boards:
        parts.append(
            f"## {board.arena}: {board.scale}\n\n{markdown_table(HEADINGS, cells(board))}\n\n{verdict(board)}\n"
        )
        routed = [row for row in board.standings if row.behaviour]
        if routed:
            keys = [key for key in (*BEHAVIOUR, "switch_rate") if all(key in row.behaviour for row in routed)]
            lines = [[row.name, *(f"{row.behaviour[key]:.3f}" for key in keys)] for row in routed]
            headings = ("router", *(key.replace("_", " ") for key in keys))
            parts.append(f"Routing on the test split, entropies in nats:\n\n{markdown_table(headings, lines)}\n")
    return "\n".join([*parts, f"Columns, accuracies in %, seconds of a run on one thread:\n\n{legend}\n"])


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
            "seed": job.seed,
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


def p_value(p: float) -> str:
    """As tables print it."""
    return "-" if p != p else f"< {LEAST_P}" if p < LEAST_P else f"{p:.3f}"


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f}"
