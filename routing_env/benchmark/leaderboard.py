"""From finished runs to a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from routing_env.benchmark.columns import COLUMNS
from routing_env.benchmark.entries import Column, Entry, Rows, Value, measured_alike
from routing_env.benchmark.jobs import Job, differences, scale, takes_best_known_routing
from routing_env.benchmark.statistics import Comparison, holm_corrected, paired_comparison

REFERENCES = frozenset({"all-shared", "fixed", "oracle", "random", "random-fixed", "round-robin"})
"""Routers that do not learn: they are listed for comparison and never count as the best router."""


@dataclass(frozen=True)
class Standing:
    """A row of the leaderboard.

    Attributes:
        name: Name of the entrant.
        baseline: Whether it is a baseline, a network without routing.
        reference: Whether it is one of ``REFERENCES``.
        seeds: Number of finished runs.
        versus: Comparison with ``Leaderboard.against``; None for that entrant itself, and without a common seed.
        values: The value of each column, by the column's key.
    """

    name: str
    baseline: bool
    reference: bool
    seeds: int
    versus: Comparison | None
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Leaderboard:
    """The entrants of one arena, in descending order of test accuracy.

    Attributes:
        arena: Name of the arena.
        scale: Epochs, seeds and share of the training samples, in words.
        differences: In which settings, data and versions the runs differ, in a sentence; empty where they agree.
        against: Entrant that all others are compared with. If nobody is named, it is the baseline with the best
            validation accuracy (or, if a run has no validation split, with the best training accuracy); None without a
            baseline.
        named: Whether ``against`` was named.
        best_router: Router chosen in the same way among those that learn; None without such a router.
        criterion: What they were chosen by, "validation" or "training" accuracy.
        columns: The columns of which the standings have values.
        standings: The rows.
    """

    arena: str
    scale: str
    differences: str
    against: str | None
    named: bool
    best_router: str | None
    criterion: str
    columns: tuple[Column, ...]
    standings: tuple[Standing, ...]


def leaderboards(
    jobs: Sequence[Job], columns: Sequence[Column] = COLUMNS, *, against: str | None = None
) -> list[Leaderboard]:
    """Make a leaderboard for each arena in which a run has finished.

    Args:
        jobs: Runs, finished or not.
        columns: Columns of the leaderboards.
        against: Entrant that all others are compared with; by default the best baseline of each arena.

    Raises:
        ValueError: A run has no accuracies, or ``against`` has no finished run in an arena.
    """
    arenas: dict[str, list[Job]] = {}
    for job in jobs:
        if job.epochs_done() >= job.epochs:
            arenas.setdefault(job.arena.name, []).append(job)
    return [_leaderboard(name, finished, tuple(columns), against) for name, finished in arenas.items()]


def unfit(rows: Rows) -> str:
    """Why no leaderboard can show a run with these evaluations, in words that follow "a run"; empty if one can."""
    if rows and "test_accuracy" not in rows[-1]:
        return "trained without measuring the test split (measure_test is False), as routing-env tune does"
    if rows and "test_task_accuracy" not in rows[-1]:
        return "of regression, which has no accuracies"
    return ""


def _leaderboard(arena: str, jobs: Sequence[Job], columns: tuple[Column, ...], named: str | None) -> Leaderboard:
    runs: dict[str, dict[int, Rows]] = {}
    for job in jobs:
        rows = job.rows()
        if why := unfit(rows):
            raise ValueError(f"{job.path} is a run {why}; leaderboards show test accuracies, so leave it out")
        runs.setdefault(job.entrant.name, {})[job.seed] = rows
    entries = {name: Entry(seeds) for name, seeds in runs.items()}
    baselines = [name for name, entry in entries.items() if not any("test_routes" in row for row in entry.last)]
    references = {job.entrant.name for job in jobs if job.entrant.router in REFERENCES}

    # Without a validation split (the paper's protocol) only the training accuracy is left to choose by.
    validated = all(entry.mean("validation_accuracy") >= 0 for entry in entries.values())
    criterion = "validation_accuracy" if validated else "train_accuracy"

    def best(names: Sequence[str]) -> str | None:
        return max(names, key=lambda name: np.nan_to_num(entries[name].mean(criterion)), default=None)

    if named is not None and named not in runs:
        raise ValueError(
            f"against is {named!r}, and no run of that entrant has finished in {arena}; name one of {', '.join(runs)}"
        )
    against = best(baselines) if named is None else named
    best_router = best([name for name in runs if name not in baselines and name not in references])
    routers = [name for name in runs if name not in baselines]
    if (
        named is None
    ):  # which baseline is shown depends on the runs, so all that might have been shown are corrected for
        pairs = [*((router, baseline) for router in routers for baseline in baselines), *combinations(baselines, 2)]
    else:
        pairs = [(name, named) for name in runs if name != named]
    comparisons = _comparisons(runs, pairs)

    best_known = [(job.seed, runs[job.entrant.name][job.seed]) for job in jobs if takes_best_known_routing(job)]

    def standing(name: str) -> Standing:
        versus = comparisons.get((name, against or ""))
        theirs = runs[against] if against is not None and versus else {}
        entry = Entry(runs[name], versus, theirs, measured_alike(runs[name], best_known))
        return Standing(
            name=name,
            baseline=name in baselines,
            reference=name in references,
            seeds=len(entry.runs),
            versus=entry.versus,
            values={column.key: column.value(entry) for column in columns},
        )

    by_accuracy = sorted(runs, key=lambda name: -entries[name].mean("test_accuracy"))
    standings = tuple(map(standing, by_accuracy))
    return Leaderboard(
        arena=arena,
        scale=scale(jobs),
        differences=differences(jobs),
        against=against,
        named=named is not None,
        best_router=best_router,
        criterion="validation" if validated else "training",
        columns=columns,
        standings=standings,
    )


def _comparisons(
    runs: Mapping[str, Mapping[int, Rows]], pairs: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], Comparison]:
    """Compare the test accuracies of pairs of entrants over their common seeds, Holm-corrected.

    Returns:
        A comparison for each pair with a common seed, in both orders.
    """
    compared: dict[tuple[str, str], Comparison] = {}
    for pair in pairs:
        seeds = sorted(runs[pair[0]].keys() & runs[pair[1]].keys())
        if seeds:
            ours, theirs = ([runs[name][seed][-1]["test_accuracy"] for seed in seeds] for name in pair)
            compared[pair] = paired_comparison(ours, theirs)
    corrected = dict(zip(compared, holm_corrected(list(compared.values())), strict=True))
    return corrected | {(b, a): one.reversed() for (a, b), one in corrected.items()}
