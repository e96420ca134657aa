"""Scores of scenarios on one scale: 0 is what random fixed routes reach, 1 what the best known routing reaches."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from routing_env.benchmark.jobs import Job
from routing_env.benchmark.statistics import Interval, interquartile_mean_interval, paired_comparison
from routing_env.benchmark.suites import BEST_KNOWN, FLOOR
from routing_env.benchmark.tables import escaped, markdown_table
from routing_env.scenarios import SCENARIOS


@dataclass(frozen=True)
class ScenarioScores:
    """What entrants reach in one scenario.

    Attributes:
        scenario: Its name.
        accuracy: For each entrant the test accuracy of each seed, in [0, 1].
        floor: Mean accuracy of random fixed routes.
        top: Mean accuracy of the best known routing; where none is known, of the best entrant.
        top_is_known: Whether the best routing is known.
        p: p-value of the paired t-test between random fixed routes and the best known routing; NaN without it.
    """

    scenario: str
    accuracy: dict[str, dict[int, float]]
    floor: float
    top: float
    top_is_known: bool
    p: float

    @property
    def has_scale(self) -> bool:
        """Whether the best routing is better than random fixed routes."""
        return self.top > self.floor

    def normalised(self, entrant: str) -> dict[int, float]:
        """The score of each seed; NaN where random fixed routes are as good as the best, so that there is no scale."""
        if not self.has_scale:
            return dict.fromkeys(self.accuracy[entrant], np.nan)
        return {seed: (each - self.floor) / (self.top - self.floor) for seed, each in self.accuracy[entrant].items()}


def scenario_scores(jobs: Sequence[Job]) -> list[ScenarioScores]:
    """The scores of each scenario in which random fixed routes have finished; the agents that have no choice left out.

    Args:
        jobs: Runs, finished or not.
    """
    found: dict[str, dict[str, dict[int, float]]] = {}
    for job in jobs:
        if job.scenario is not None and job.epochs_done() >= job.epochs:
            tasks = np.array(job.rows()[-1]["test_task_accuracy"])
            seen = np.setdiff1d(np.arange(len(tasks)), SCENARIOS[job.scenario].unseen)
            found.setdefault(job.scenario, {}).setdefault(job.entrant.name, {})[job.seed] = float(tasks[seen].mean())
    return [_scores(scenario, accuracy) for scenario, accuracy in found.items() if FLOOR in accuracy]


def _scores(scenario: str, accuracy: dict[str, dict[int, float]]) -> ScenarioScores:
    means = {entrant: float(np.mean(list(seeds.values()))) for entrant, seeds in accuracy.items()}
    known = BEST_KNOWN in accuracy
    p = np.nan
    if known:
        common = sorted(accuracy[FLOOR].keys() & accuracy[BEST_KNOWN].keys())
        if common:
            p = paired_comparison(*([accuracy[name][seed] for seed in common] for name in (BEST_KNOWN, FLOOR))).p
    top = means[BEST_KNOWN] if known else max(means.values())
    return ScenarioScores(scenario, accuracy, means[FLOOR], top, known, p)


def overall(scores: Sequence[ScenarioScores]) -> dict[str, Interval]:
    """The interquartile mean over scenarios of each entrant that has played all of them, with its interval over seeds.

    The best entrant comes first. Scenarios do not count where no best routing is known, or where it is no better
    than random fixed routes.
    """
    counted = [each for each in scores if each.top_is_known and each.has_scale]
    entrants = dict.fromkeys(name for each in counted for name in each.accuracy)
    intervals: dict[str, Interval] = {}
    for name in entrants:
        if all(name in each.accuracy for each in counted):
            rows = [each.normalised(name) for each in counted]
            seeds = sorted(set.intersection(*(set(row) for row in rows)))
            if seeds:
                intervals[name] = interquartile_mean_interval([[row[seed] for row in rows] for seed in seeds])
    return dict(sorted(intervals.items(), key=lambda item: -item[1].value))


def terminal_scores(scores: Sequence[ScenarioScores]) -> Table:
    """A row per scenario, and the interquartile mean over all of them."""
    headings, lines = _lines(scores)
    table = Table(title="scores: 0 = random-fixed, 1 = best known", title_justify="left", box=None, pad_edge=False)
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(escape(heading), justify="right")
    for line in lines:
        table.add_row(*map(escape, line))
    return table


def save_scenario_scores(scores: Sequence[ScenarioScores], folder: Path) -> list[Path]:
    """Write ``scenarios.md`` and ``scenarios.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    headings, lines = _lines(scores)
    paths = [folder / "scenarios.md", folder / "scenarios.csv"]
    first, *rest = escaped((headings, *lines))
    paths[0].write_text(markdown_table(first, rest) + "\n", encoding="utf-8")
    with paths[1].open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["scenario", "entrant", "seed", "accuracy", "score"])
        for each in scores:
            for entrant, seeds in each.accuracy.items():
                normalised = each.normalised(entrant)
                writer.writerows(
                    [each.scenario, entrant, seed, accuracy, normalised[seed]] for seed, accuracy in seeds.items()
                )
    return paths


def _lines(scores: Sequence[ScenarioScores]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: a scenario per row, an entrant per column."""
    over = overall(scores)
    entrants = [*over, *(name for each in scores for name in each.accuracy if name not in over)]
    entrants = [name for name in dict.fromkeys(entrants) if name not in (BEST_KNOWN, FLOOR)]
    lines = [
        [
            each.scenario,
            f"{100 * each.floor:.1f}",
            f"{100 * each.top:.1f}" + ("" if each.top_is_known else " (best entrant)"),
            "-" if np.isnan(each.p) else f"{each.p:.1g}",
            *(_mean(each, name) for name in entrants),
        ]
        for each in scores
    ]
    if not over:
        return ["scenario", "random-fixed, %", "best known, %", "p", *entrants], lines
    counted = [f"{over[name].value:.2f}" + _span(over[name]) if name in over else "-" for name in entrants]
    lines.append(["interquartile mean", "", "", "", *counted])
    return ["scenario", "random-fixed, %", "best known, %", "p", *entrants], lines


def _mean(scores: ScenarioScores, entrant: str) -> str:
    if entrant not in scores.accuracy:
        return "-"
    mean = float(np.mean(list(scores.normalised(entrant).values())))
    return "-" if np.isnan(mean) else f"{mean:.2f}"


def _span(interval: Interval) -> str:
    return "" if np.isnan(interval.low) else f" ({interval.low:.2f} to {interval.high:.2f})"
