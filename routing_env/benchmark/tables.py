"""A leaderboard as tables: in the terminal, in Markdown and as CSV. The columns come from ``columns.COLUMNS``."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from routing_env.benchmark.columns import RECORDED
from routing_env.benchmark.entries import LEAST_P, Column, Place, detectable_text, p_value
from routing_env.benchmark.jobs import Job
from routing_env.benchmark.leaderboard import REFERENCES, Leaderboard, Standing
from routing_env.benchmark.statistics import LEVEL, POWER, RECOMMENDED_SEEDS, detectable_difference
from routing_env.names import printable

_LONGEST_NAME = 24
"""Characters of an entrant's name in the terminal; longer ones are folded where columns need the room."""


def shown_in(board: Leaderboard, *places: Place) -> list[Column]:
    """The columns that one of these tables shows: those in which somebody has a value."""
    return [
        column
        for column in board.columns
        if column.shown.intersection(places) and any(row.values[column.key] is not None for row in board.standings)
    ]


def cells(board: Leaderboard) -> list[list[str]]:
    """The rows of the Markdown table: place, entrant, and the columns shown there."""
    columns = shown_in(board, "markdown")
    return [
        [str(place), _entrant(row, board), *(column.cell(row.values[column.key], "markdown") for column in columns)]
        for place, row in enumerate(board.standings, 1)
    ]


def _entrant(row: Standing, board: Leaderboard) -> str:
    """The entrant's name, with a mark if others are compared with it, and the number of seeds if others have more."""
    most = max(other.seeds for other in board.standings)
    missing = "" if row.seeds == most else f" ({row.seeds} of {most} seeds)"
    return printable(row.name) + (" *" if row.name == board.against else "") + missing


def fitting(board: Leaderboard, width: int) -> list[Column]:
    """The columns that a terminal has room for: the most important ones, in the order of the table.

    Args:
        board: Whose standings are shown.
        width: Characters in a line.
    """
    candidates = sorted(shown_in(board, "terminal"), key=lambda column: column.rank)
    left = width - min(_LONGEST_NAME, max(cell_len(_entrant(row, board)) for row in board.standings))
    kept: set[str] = set()
    for column in candidates:
        texts = (column.heading, *(column.cell(row.values[column.key], "terminal") for row in board.standings))
        left -= 1 + max(map(cell_len, texts))
        if left < 0 and kept:
            break
        kept.add(column.key)
    return [column for column in board.columns if column.key in kept]


def terminal_table(board: Leaderboard, columns: Sequence[Column]) -> Table:
    """Some columns for a terminal; routers that learn are bold."""
    title = printable(f"{board.arena}: test accuracy in %, {board.scale}")
    table = Table(
        title=Text(title), title_justify="left", header_style="bold", box=None, pad_edge=False, collapse_padding=True
    )
    table.add_column("entrant", overflow="fold")
    for column in columns:
        table.add_column(escape(column.heading), justify="right", no_wrap=True)
    for row in board.standings:
        texts = (_entrant(row, board), *(column.cell(row.values[column.key], "terminal") for column in columns))
        table.add_row(*map(escape, texts), style=None if row.baseline or row.reference else "bold")
    return table


def terminal_legend(columns: Sequence[Column], *, bold: bool) -> Table:
    """The meaning of the columns of a :func:`terminal_table`, and of bold names where there are any."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, show_header=False, style="dim")
    for column in columns:
        table.add_row(escape(column.heading), escape(column.meaning))
    if bold:
        table.add_row("bold", "routers that learn")
        table.add_row("not bold", "baselines (no routing) and references (routers that do not learn)")
    return table


def verdict(board: Leaderboard) -> str:
    """A sentence that compares the best router with the best baseline, or with the entrant that was named; or nothing.

    Best means best on validation data, never on the test split. References do not compete.
    """
    versus = next((row.versus for row in board.standings if row.name == board.best_router), None)
    if versus is None:
        return ""
    gap, p = 100 * versus.difference, versus.corrected_p
    where = "level with" if round(gap, 2) == 0 else f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'}"
    if p != p:
        seeds = "one seed" if versus.seeds == 1 else f"{versus.seeds} seeds with the same difference"
        trust = f"{seeds} cannot tell whether this is chance"
    else:
        chance = "unlikely to be chance" if p < LEVEL else "may be chance"
        family = f" (Holm-corrected over {versus.comparisons} comparisons)" if versus.comparisons > 1 else ""
        trust = f"{chance}, p {'' if p < LEAST_P else '= '}{p_value(p)}{family}"
    opponent = board.against if board.named else f"the best baseline, {board.against}"
    return f"The best router by {board.criterion} accuracy, {board.best_router}, is {where} {opponent}: {trust}."


def power(board: Leaderboard) -> str:
    """Sentences on the difference that these seeds would detect and on how many seeds to run; empty if all is well.

    The spread is the median over entrants of the standard deviation of the difference from ``board.against``.
    """
    compared = [row.versus for row in board.standings if row.versus is not None and row.versus.spread > 0]
    seeds = min((one.seeds for one in compared), default=min(row.seeds for row in board.standings))
    advice = "" if seeds >= RECOMMENDED_SEEDS else f"At least {RECOMMENDED_SEEDS} seeds are recommended."
    if not compared:
        return advice
    spread, family = float(np.median([one.spread for one in compared])), compared[0].comparisons

    def points(count: int) -> str:
        return f"{detectable_text(detectable_difference(spread, count, comparisons=family))} points"

    opponent = board.against if board.named else "the best baseline"
    correction = f", Holm-corrected over {family} comparisons" if family > 1 else ""
    more = f", and {RECOMMENDED_SEEDS} seeds one of {points(RECOMMENDED_SEEDS)}" if advice else ""
    return (
        f"With the variation seen here (median over entrants), {seeds} seeds detect a difference of {points(seeds)} "
        f"from {opponent} with {100 * POWER:.0f} % power{correction}{more}. {advice}"
    ).rstrip()


UNEQUAL = {"parameters": 1.1, "training_flops": 1.2}
"""Ratios of the most and the least expensive entrant above which a leaderboard says so."""


def costs(board: Leaderboard) -> str:
    """A sentence on how much entrants differ in parameters and in training compute; empty if hardly or not known."""
    parts: list[str] = []
    for column in board.columns:
        values = {row.name: value for row in board.standings if isinstance(value := row.values.get(column.key), float)}
        if column.key not in UNEQUAL or not values:
            continue
        least, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        if values[most] > UNEQUAL[column.key] * values[least]:
            low, high = (column.cell(values[name], "markdown") for name in (least, most))
            times = f" ({values[most] / values[least]:.1f} times as much)" if values[least] else ""
            what = "trained parameters" if column.key == "parameters" else "MFLOP per training sample"
            parts.append(f"from {low} ({least}) to {high} {what} ({most}){times}")
    return f"The entrants do not cost the same: they take {' and '.join(parts)}." if parts else ""


def markdown(boards: Sequence[Leaderboard]) -> str:
    """All leaderboards, each with a second table about the routing of its routers, and a legend."""
    parts: list[str] = []
    for board in boards:
        headings = ["", "entrant", *(column.heading for column in shown_in(board, "markdown"))]
        parts.append(
            f"## {in_markdown(board.arena)}: {board.scale}\n\n{markdown_table(headings, escaped(cells(board)))}\n\n"
            f"{in_markdown(verdict(board))}\n"
        )
        parts += [f"{in_markdown(text)}\n" for text in (power(board), costs(board), board.differences) if text]
        parts += _routing_table(board)
    meanings = {column.heading: column.meaning for board in boards for column in shown_in(board, "markdown", "routing")}
    meanings["references"] = f"routers that do not learn ({', '.join(sorted(REFERENCES))}); never the best router"
    starred = {heading.replace("*", "\\*"): meaning for heading, meaning in meanings.items()}
    legend = "\n".join(f"- **{heading}**: {meaning}" for heading, meaning in starred.items())
    return "\n".join([*parts, f"Columns (accuracies in %):\n\n{legend}\n"])


def _routing_table(board: Leaderboard) -> list[str]:
    """The table about routing; nothing without routers."""
    columns = shown_in(board, "routing")
    routers = [row for row in board.standings if any(row.values[column.key] is not None for column in columns)]
    if not routers:
        return []
    lines = [[row.name, *(column.cell(row.values[column.key], "routing") for column in columns)] for row in routers]
    headings = ["router", *(column.heading for column in columns)]
    return [f"Routing on the test split, entropies in nats:\n\n{markdown_table(headings, escaped(lines))}\n"]


def save_tables(boards: Sequence[Leaderboard], jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Write ``leaderboard.md``, and as CSV a row per entrant, per run and epoch, and per run, epoch and task."""
    folder.mkdir(parents=True, exist_ok=True)
    entrants = [
        {
            "arena": board.arena,
            "place": place,
            "entrant": row.name,
            "kind": "baseline" if row.baseline else "router",
            "against": row.name == board.against,
            **{
                field: value
                for column in board.columns
                if "csv" in column.shown
                for field, value in column.fields(row.values[column.key]).items()
            },
        }
        for board in boards
        for place, row in enumerate(board.standings, 1)
    ]
    kept = ("epoch", "samples", "seconds", "train_accuracy", "validation_accuracy", "test_accuracy")
    epochs = [
        {
            "arena": job.arena.name,
            "entrant": job.entrant.name,
            "seed": job.seed,
            **{key: row.get(key) for key in (*kept, "test_balanced_accuracy")},
            "test_worst_task_accuracy": min(row["test_task_accuracy"]),
            **{column.key: row.get(column.key) for column in RECORDED},
        }
        for job in jobs
        for row in job.rows()
    ]
    tasks = [
        {
            "arena": job.arena.name,
            "entrant": job.entrant.name,
            "seed": job.seed,
            "epoch": row["epoch"],
            "task": task,
            "test_accuracy": accuracy,
        }
        for job in jobs
        for row in job.rows()
        for task, accuracy in enumerate(row["test_task_accuracy"])
    ]
    paths = [folder / "leaderboard.md", *(folder / f"{name}.csv" for name in ("leaderboard", "runs", "tasks"))]
    paths[0].write_text(markdown(boards), encoding="utf-8")
    for path, table in zip(paths[1:], (entrants, epochs, tasks), strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]) if table else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    return paths


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format a table whose headings and cells are Markdown."""
    rule = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rule, *lines))


def escaped(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The same texts in Markdown, which shows them as they are."""
    return [[in_markdown(text) for text in line] for line in lines]


def in_markdown(text: str) -> str:
    """A text on one line, with what Markdown would take for a table, a link, emphasis, code or HTML escaped."""
    return re.sub(r"([\\|`<]|\](?=\()|\*(?! |$))", r"\\\1", printable(text))
