"""The runs that replicate the paper, as rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from routing_env.benchmark.jobs import Job, plan_jobs
from routing_env.benchmark.suites import SUITES
from routing_env.checkpoint import write_atomically
from routing_env.runs.directory import RunDirectory

FIGURES = {"rl-algorithms": "4", "architectures": "5", "cifar": "6", "min": "7", "mnist": "8"}
"""Suites of the paper's Table 2, with the numbers of their figures."""

OTHERS = ("rho", "first-tasks", "cost")
"""Suites of figures for which the paper gives no numbers."""

FRACTIONS = (1.0, 0.1)
"""Shares of the training samples."""

LONGER = {"cifar": ((0.1, 40),)}
"""Additional runs of a suite, as (share of the training samples, epochs)."""

MOST_SEEDS = 20
"""Number of seeds to look for."""


@dataclass(frozen=True)
class Measured:
    """A finished run, a row of the CSV file.

    Accuracies are in [0, 1], on the test split after the last epoch unless stated otherwise.

    Attributes:
        arena: Name of the arena.
        entrant: Name of the entrant.
        kind: "router" or "baseline".
        options: Options of the router, and settings of the game that differ from the arena's, as name=value.
        fraction: Share of the training samples.
        epochs: Passes over them.
        seed: Seed of the run.
        test_1: Test accuracy after epoch 1; None if the run is shorter.
        test_5: Test accuracy after epoch 5; None if the run is shorter.
        test_10: Test accuracy after epoch 10; None if the run is shorter.
        test: Test accuracy after the last epoch.
        balanced: Balanced accuracy (mean recall).
        worst: Accuracy on the worst task.
        validation: Accuracy on the validation split, which selects the best baseline.
        effective_blocks: Effective number of blocks; None for baselines.
        policy_entropy: Entropy of the policy in nats; None for baselines.
        seconds: Duration of training and evaluation.
        version: Version of routing-env.
        torch: Version of torch.
        run: Folder of the run, relative to the benchmark's folder.
    """

    arena: str
    entrant: str
    kind: str
    options: str
    fraction: float
    epochs: int
    seed: int
    test_1: float | None
    test_5: float | None
    test_10: float | None
    test: float
    balanced: float
    worst: float
    validation: float
    effective_blocks: float | None
    policy_entropy: float | None
    seconds: float
    version: str
    torch: str
    run: str

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it the same run when it is repeated, wherever its folder is."""
        return (self.arena, self.entrant, self.options, self.fraction, self.epochs, self.seed)


Runs = Sequence[Measured]


def finished(base: Path, suite: str, fraction: float, epochs: int | None = None) -> list[Job]:
    """The finished runs of a suite; ``epochs`` defaults to those of the suite."""
    jobs = plan_jobs(SUITES[suite], base, seeds=MOST_SEEDS, fraction=fraction, epochs=epochs)
    return [job for job in jobs if job.epochs_done() >= job.epochs]


def collect(base: Path) -> list[Measured]:
    """Measure the finished runs of all suites that replicate the paper, each of them once."""
    usual = [(name, part, None) for name in (*FIGURES, *OTHERS) for part in FRACTIONS]
    longer = [(name, part, epochs) for name, scales in LONGER.items() for part, epochs in scales]
    jobs = {job.path: job for scale in (*usual, *longer) for job in finished(base, *scale)}
    return [measured(job, base) for job in jobs.values()]


def measured(job: Job, base: Path) -> Measured:
    """Make the row of a finished run."""
    rows = job.rows()
    last, directory = rows[-1], RunDirectory(job.path)
    versions = directory.read_versions()
    by_epoch = {row["epoch"]: round(row["test_accuracy"], 6) for row in rows}
    game = (f"{name}={value}" for name, value in job.entrant.game.items())

    def number(key: str) -> float | None:
        value = last.get(key)
        return None if value is None else round(value, 6)

    return Measured(
        arena=job.arena.name,
        entrant=job.entrant.name,
        kind="router" if "test_routes" in last else "baseline",
        options=" ".join((*job.entrant.options, *game)),
        fraction=job.fraction,
        epochs=job.epochs,
        seed=job.seed,
        test_1=by_epoch.get(1),
        test_5=by_epoch.get(5),
        test_10=by_epoch.get(10),
        test=by_epoch[job.epochs],
        balanced=round(last["test_balanced_accuracy"], 6),
        worst=round(min(last["test_task_accuracy"]), 6),
        validation=round(last["validation_accuracy"], 6),
        effective_blocks=number("effective_blocks"),
        policy_entropy=number("policy_entropy"),
        seconds=round(last["seconds"], 1),
        version=versions["routing-env"],
        torch=versions["torch"],
        run=job.path.relative_to(base).as_posix(),
    )


def merged(known: Runs, new: Runs) -> list[Measured]:
    """The known runs and the new ones; a new run replaces a known one with the same identity."""
    return list({run.identity: run for run in (*known, *new)}.values())


def write(runs: Runs, path: Path) -> None:
    """Write the CSV file, a row per run."""

    def fill(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Measured)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(run) for run in runs)

    write_atomically(path, fill)


def read(path: Path) -> list[Measured]:
    """Read a file written by :func:`write`."""
    made: dict[str, Callable[[str], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "float | None": lambda text: float(text) if text else None,
    }
    with path.open(newline="") as file:
        return [
            Measured(**{field.name: made[str(field.type)](row[field.name]) for field in fields(Measured)})
            for row in csv.DictReader(file)
        ]
