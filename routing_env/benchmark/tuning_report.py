"""What ``routing-env tune`` found: the file of settings, a Markdown table, and accuracy against learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from routing_env.benchmark.statistics import mean_interval
from routing_env.benchmark.studies import Study
from routing_env.benchmark.tuned import option_pairs, write_tuned
from routing_env.benchmark.tuning import Search
from routing_env.drawing.style import line_colour, plain, shown
from routing_env.names import counted, printable
from routing_env.runs.display import clock
from routing_env.runs.settings import TuneOptions
from routing_env.search_space import Between, Dimension

_RATE = "settings.learning_rate"


def save_tuning(studies: Sequence[Study], config: TuneOptions, console: Console) -> None:
    """Write the chosen settings, the table and the figure, and print the table.

    Args:
        studies: Of all entrants; one whose trials have not all ended is in the table, but not in the file.
        config: Where to write.
        console: Where to print.

    Raises:
        ValueError: No trial has ended.
    """
    first = studies[0].search
    if not any(study.completed for study in studies):
        raise ValueError(f"no trial on {first.arena.name} has ended; the same command without --report runs them")
    output = config.output or first.folder / f"tuned-{first.given['epochs']}epochs-fraction{config.fraction:g}.json"
    entries = {study.search.entrant.name: study.best() for study in studies if study.complete}
    write_tuned(output, {name: entry for name, entry in entries.items() if entry is not None})
    table = tuning_table(studies)
    output.with_suffix(".md").write_text(table, encoding="utf-8")
    console.print(f"\n{printable_lines(table)}", soft_wrap=True, highlight=False, markup=False)
    saved = [output, output.with_suffix(".md")]
    if any(_RATE in study.search.space for study in studies):
        saved.append(config.figure or output.with_suffix(".png"))
        saved[-1].parent.mkdir(parents=True, exist_ok=True)
        rates_figure(studies).savefig(saved[-1], dpi=130)
    for path in saved:
        console.print(printable(f"saved  {path}"), soft_wrap=True, highlight=False, markup=False)


def printable_lines(text: str) -> str:
    """The text, with what cannot be shown spelt out in every line."""
    return "\n".join(map(printable, text.splitlines()))


def tuning_table(studies: Sequence[Study]) -> str:
    """A Markdown table with a row for each entrant, in descending order of validation accuracy.

    An arrow marks a value at the end of what was searched: beyond it there may be a better one.
    """
    lines = [
        "| entrant | trials | pruned | settings | options | validation accuracy in % | compute |",
        "|---|---|---|---|---|---|---|",
    ]
    total = 0.0

    def by_accuracy(study: Study) -> float:
        best = study.best()
        return 1.0 if best is None else -best.validation_accuracy

    for study in sorted(studies, key=by_accuracy):
        best, trial, seconds = study.best(), study.best_trial, study.seconds
        total += seconds
        name, space = study.search.entrant.name, study.search.space
        if best is None or trial is None:
            lines.append(f"| `{name}` | 0 | 0 | - | - | - | - |")
            continue
        settings = _written("settings", best.settings, space)
        options = _written("options", best.options, space)
        pruned = len(study.ended) - len(study.completed)
        cell = interval(trial.user_attrs["accuracies"])
        unfinished = "" if study.complete else " (unfinished)"
        row = (f"`{name}`{unfinished}", best.trials, pruned, settings, options, cell, clock(seconds))
        lines.append(f"| {' | '.join(map(str, row))} |")
    lines.append("")
    first = studies[0].search
    lines.append(
        f"{first.arena.name}, {_length(first)} of the training samples, seeds {', '.join(map(str, first.seeds))}; "
        "mean and 95 % interval over seeds. Compute is that of one thread for all trials; "
        f"{clock(total)} in all. The test split was not read."
    )
    return "\n".join(lines) + "\n"


def interval(accuracies: Sequence[float]) -> str:
    """Mean and half width of the 95 % interval in per cent; the mean alone where there is one number."""
    values = 100 * np.array(accuracies)
    if len(values) < 2:
        return f"{values.mean():.2f}"
    mean, half = mean_interval(values)
    return f"{float(mean):.2f} ± {float(half):.2f}"


def rates_figure(studies: Sequence[Study]) -> Figure:
    """Draw validation accuracy against the learning rate of the blocks, a line for each entrant.

    A point is the best trial at that rate.
    """
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.subplots()
    drawn = [study for study in studies if _RATE in study.search.space and study.completed]
    for number, study in enumerate(drawn):
        best: dict[float, float] = {}
        for trial in study.completed:
            rate = float(trial.params[_RATE])
            best[rate] = max(best.get(rate, 0.0), trial.value or 0.0)
        rates = sorted(best)
        marker = "osv^D<>PX*"[number // 10 % 10]
        label = shown(study.search.entrant.name, 30)
        axes.plot(rates, [100 * best[rate] for rate in rates], color=line_colour(number), marker=marker, label=label)
    axes.set_xscale("log")
    ticks = sorted({float(trial.params[_RATE]) for study in drawn for trial in study.completed})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("learning rate of the blocks")
    axes.set_ylabel("validation accuracy in %")
    first = studies[0].search
    axes.set_title(f"{shown(first.arena.name)}, {_length(first)} of the samples", loc="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    plain(axes)
    return figure


def _length(search: Search) -> str:
    """Epochs of a trial, and its share of the training samples."""
    return f"{counted(search.given['epochs'], 'epoch')}, {100 * search.given.get('fraction', 1.0):g} %"


def _written(kind: str, values: Any, space: dict[str, Dimension]) -> str:
    parts: list[str] = []
    for name, value in values.items():
        searched = space.get(f"{kind}.{name}")
        (pair,) = option_pairs({name: value})
        parts.append(f"{pair}{_arrow(value, searched)}")
    return f"`{' '.join(parts)}`" if parts else "-"


def _arrow(value: Any, searched: Dimension | None) -> str:
    """Where a number lies at the end of what was searched; empty elsewhere."""
    if searched is None or isinstance(value, bool | str) or value is None:
        return ""
    if isinstance(searched, Between):
        low, high, inner = searched.low, searched.high, 0.05 * (searched.high - searched.low)
        if searched.log:
            return "↓" if value < low * 1.25 else "↑" if value > high / 1.25 else ""
        return "↓" if value < low + inner else "↑" if value > high - inner else ""
    numbers = [one for one in searched.values if not isinstance(one, bool | str) and one is not None]
    if len(numbers) < 2:
        return ""
    return "↓" if value == min(numbers) else "↑" if value == max(numbers) else ""
