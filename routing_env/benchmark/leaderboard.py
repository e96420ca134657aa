"""From finished runs to a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routing_env.benchmark.jobs import Job, scale
from routing_env.benchmark.statistics import (
    Comparison,
    Interval,
    area_under_curve,
    bootstrap_interquartile_mean,
    paired_comparison,
    worst_task,
)
from routing_env.runs.behaviour import switch_rate

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
        scale: epochs, seeds and share of the training samples, in words.
        best_baseline: the one with the best validation accuracy; where a run has no validation split, the one with the
            best training accuracy.
        best_router: likewise.
        standings: rows.
    """

    arena: str
    scale: str
    best_baseline: str | None
    best_router: str | None
    standings: tuple[Standing, ...]


def leaderboards(jobs: Sequence[Job]) -> list[Leaderboard]:
    """A leaderboard for each arena in which a run has finished.

    Raises:
        ValueError: a run has no accuracies.
    """
    arenas: dict[str, list[Job]] = {}
    for job in jobs:
        if job.epochs_done() >= job.epochs:
            arenas.setdefault(job.arena.name, []).append(job)
    return [_leaderboard(name, own) for name, own in arenas.items()]


def _leaderboard(arena: str, jobs: Sequence[Job]) -> Leaderboard:
    """Of finished runs."""
    runs: dict[str, dict[int, Rows]] = {}
    for job in jobs:
        rows = job.rows()[: job.epochs]
        if "test_task_accuracy" not in rows[-1]:
            raise ValueError(f"{job.path} measures no accuracy: leaderboards are of classification alone")
        runs.setdefault(job.entrant.name, {})[job.seed] = rows
    routers = [name for name, own in runs.items() if any("test_routes" in rows[-1] for rows in own.values())]
    baselines = [name for name in runs if name not in routers]

    def mean(name: str, key: str) -> float:
        values = [rows[-1].get(key) for rows in runs[name].values()]
        return float(np.mean([np.nan if value is None else value for value in values]))

    # Without a validation split (the paper's protocol) there is nothing but the training accuracy to choose by.
    validated = all(mean(name, "validation_accuracy") >= 0 for name in runs)
    chosen_by = {name: mean(name, "validation_accuracy" if validated else "train_accuracy") for name in runs}
    best = max(baselines, key=lambda name: np.nan_to_num(chosen_by[name]), default=None)
    best_router = max(routers, key=lambda name: np.nan_to_num(chosen_by[name]), default=None)

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
    return Leaderboard(arena, scale(jobs), best, best_router, tuple(standings))
