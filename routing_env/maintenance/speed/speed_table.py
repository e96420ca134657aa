"""The speed table: measured row by row, printed, and saved as CSV, Markdown and figures."""

from __future__ import annotations

import csv
import os
import platform
import time
from collections.abc import Sequence
from itertools import groupby
from math import isnan
from pathlib import Path

import torch
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from routing_env.game.compiled_maps import library_path
from routing_env.maintenance.speed.measure import Effort, Result, Spread, compare
from routing_env.maintenance.speed.rows import ROWS
from routing_env.maintenance.speed.speed_figures import growth_figure, ratio_figure
from routing_env.maintenance.speed.workloads import Workload
from routing_env.runs.display import clock
from routing_env.runs.process import prepare

CSV_FIELDS = (
    *("row", "title", "name", "base", "unit", "value", "value_low", "value_high"),
    *("base_value", "base_value_low", "base_value_high", "ratio", "ratio_low", "ratio_high"),
    *("bar", "holds", "rounds", "note"),
)
"""Header of the CSV file; low and high are quartiles."""


def measure_rows(rows: Sequence[str], workload: Workload, effort: Effort, console: Console) -> list[Result]:
    """Measure rows of the table one after the other, with a progress bar.

    Args:
        rows: Letters, keys of ``ROWS``.
        workload: What to measure.
        effort: How long to measure.
        console: Where to show the progress.
    """
    prepare(workload.threads)
    contests = [contest for row in rows for contest in ROWS[row](workload)]
    progress = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    total = sum(contest.weight for contest in contests)
    results: list[Result] = []
    done, began = 0.0, time.perf_counter()
    with progress:
        bar = progress.add_task("", total=total, left="")
        for contest in contests:

            def advance(share: float, before: float = done, weight: float = contest.weight) -> None:
                now = before + share * weight
                left = (total / now - 1) * (time.perf_counter() - began)
                progress.update(bar, completed=now, left=f"{clock(left)} left")

            progress.update(bar, description=f"{contest.row}) {contest.title}")
            results += compare(contest, effort, advance)
            done += contest.weight
    return results


def speed_table(results: Sequence[Result]) -> Group:
    """Format the results for a terminal of 80 columns: one line per ratio, grouped under the titles of the contests."""

    def table() -> Table:
        made = Table(box=None, show_header=False, padding=0)
        made.add_column(width=26)
        for width in (9, 9, 8, 15, 13):
            made.add_column(width=width, justify="right", no_wrap=True)
        return made

    head = table()
    head.add_row("what", "itself", "base", "ratio", "quartiles", "bar", style="bold")
    parts: list[Table | Text] = [head]
    for (row, title, base), group in groupby(results, lambda result: (result.row, result.title, result.base)):
        lines = table()
        for result in group:
            name, _, *cells = _cells(result)
            style = {True: "green", False: "bold red", None: ""}[result.holds]
            lines.add_row(f"   {name}", *cells, style=style)
        parts += [Text(f"{row}  {title}, over {base}", style="bold"), lines]
    return Group(*parts)


AUTHORS = {10: (1267, 324), 64: (2147, 429), 256: (1943, 508)}
"""Samples per second by batch size, ours and those of the authors' code on the same shapes; docs/speed.md has the rest.

Measured side by side on two cores of another day, with one thread: the comparison holds, the rates alone do not.
"""


def distances(results: Sequence[Result]) -> list[str]:
    """How far the routed step is from the plain network's, a line per kind of network; none without row a."""
    lines: dict[str, list[str]] = {}
    for result in results:
        if result.row == "a" and result.rounds:
            kind, batch = result.title.removeprefix("training step, ").split(", batch ")
            lines.setdefault(kind, []).append(f"batch {batch} {result.ratio.median:.2f}")
    return [f"times the plain network's step, {kind}: {', '.join(line)}" for kind, line in lines.items()]


def outside_reference() -> str:
    """What the authors' code came to, in one line."""
    rates = ", ".join(f"batch {batch} {ours / theirs:.1f}" for batch, (ours, theirs) in AUTHORS.items())
    return f"times as fast as the authors' code, measured on another day: {rates}"


def save_speed(results: Sequence[Result], workload: Workload, folder: Path) -> list[Path]:
    """Save ``speed.csv``, ``speed.md`` and the figures into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "speed.csv", folder / "speed.md", folder / "ratios.png"]
    with paths[0].open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_FIELDS)
        writer.writerows(_record(result) for result in results)
    paths[1].write_text(speed_markdown(results, workload), encoding="utf-8")
    ratio_figure(results).savefig(paths[2], dpi=130)
    if any(result.point for result in results):
        paths.append(folder / "growth.png")
        growth_figure(results).savefig(paths[-1], dpi=130)
    return paths


def speed_markdown(results: Sequence[Result], workload: Workload) -> str:
    """Format the results as a Markdown table, followed by a line on the machine."""
    lines = [
        "| row | what | base | itself | base's | ratio | quartiles | bar |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        name, *cells = _cells(result)
        lines.append(f"| {' | '.join([result.row, f'{result.title}: {name}', *cells])} |")
    return "\n".join([*lines, "", machine(workload), ""])


def machine(workload: Workload) -> str:
    """Describe the machine and the software that the results were measured on."""
    device = torch.cuda.get_device_name(workload.device) if workload.on_cuda else f"{os.cpu_count()} cores"
    threads = f"{workload.threads} thread{'s' if workload.threads > 1 else ''}"
    blocks = ", blocks compiled" if library_path().exists() and not workload.on_cuda else ""
    python = f"Python {platform.python_version()}, {platform.system()}"
    return f"{device}, {threads}, torch {torch.__version__}, {python}{blocks}"


def _cells(result: Result) -> list[str]:
    """Format name, base, value, value of the base, ratio, quartiles and bar of a result."""
    bar = "" if result.bar is None else f"{result.bar:g}"
    if result.holds is False:
        bar += ", missed"
    value, base_value = (_amount(spread.median, result.unit) for spread in (result.value, result.base_value))
    if result.note:
        return [result.name, result.base, "", base_value, "", result.note, bar]
    ratio = result.ratio
    quartiles = f"{ratio.low:.3f} to {ratio.high:.3f}" if result.rounds > 1 else "once"
    return [result.name, result.base, value, base_value, f"{ratio.median:.3f}", quartiles, bar]


def _amount(value: float, unit: str) -> str:
    if isnan(value):
        return ""
    return f"{value / 1000:.2f} s" if unit == "ms" and value >= 1000 else f"{value:.3g} {unit}"


def _record(result: Result) -> list[object]:
    """The fields of a result in the order of ``CSV_FIELDS``; missing values are empty."""

    def numbers(spread: Spread) -> list[object]:
        return ["" if isnan(value) else value for value in (spread.median, spread.low, spread.high)]

    measured = [*numbers(result.value), *numbers(result.base_value), *numbers(result.ratio)]
    ends = [result.bar, result.holds]
    return [
        *(result.row, result.title, result.name, result.base, result.unit),
        *measured,
        *("" if value is None else value for value in ends),
        *(result.rounds, result.note),
    ]
