"""``python -m routing_env.maintenance.results results/*``: check published results; results/README.md has the rules."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import tyro

from routing_env.benchmark.columns import COLUMNS, samples_to
from routing_env.benchmark.statistics import CensoredMedian

ABOUT = ("command", "routing_env", "torch", "hardware")
"""What ``about.json`` says at least: how the table was made, with which versions, and on what."""

_WHO = ("arena", "place", "entrant", "kind", "against")
_NEEDED = ("arena", "place", "entrant", "kind", "seeds", "accuracy", "accuracy_low", "accuracy_high")
_SHARES = ("accuracy", "balanced_accuracy", "worst_task_accuracy", "iqm", "validation_accuracy", "p", "uncorrected_p")
_ROUNDING = 1e-4
"""Largest difference between a mean in the table and the same mean over the runs."""

Row = Mapping[str, str]


def check_submission(folder: Path) -> list[str]:
    """What is wrong with a submission, in a line each; nothing where it fits.

    The table must have columns of the leaderboard alone, places by accuracy, and numbers in their ranges. Where there
    is a ``runs.csv``, the accuracies of the table must be the means over its runs.

    Args:
        folder: With ``leaderboard.csv`` as ``routing-env benchmark`` writes it, ``about.json`` and, where the runs are
            known, ``runs.csv``.
    """
    wrong = _wrong_about(folder / "about.json")
    try:
        table = _read(folder / "leaderboard.csv")
        runs = _read(folder / "runs.csv") if (folder / "runs.csv").exists() else []
    except (OSError, ValueError) as error:
        return [*wrong, str(error)]
    header = list(table[0]) if table else []
    wrong += [f"leaderboard.csv has no column {name!r}" for name in _NEEDED if name not in header]
    wrong += [f"leaderboard.csv has a column {name!r}, which leaderboards do not have" for name in _unknown(header)]
    if wrong or not table:
        return wrong or ["leaderboard.csv has no rows"]
    for row in table:
        wrong += [f"leaderboard.csv, {row['entrant']} in {row['arena']}: {what}" for what in _wrong_row(row)]
    arenas = {row["arena"]: [one for one in table if one["arena"] == row["arena"]] for row in table}
    if not wrong:
        wrong += [f"leaderboard.csv, {arena}: {what}" for arena, rows in arenas.items() for what in _wrong_order(rows)]
    return wrong or (_wrong_runs(table, runs) if runs else [])


def _wrong_about(path: Path) -> list[str]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"about.json cannot be read: {error}"]
    if not isinstance(about, dict):
        return ["about.json is not an object"]
    said = cast(Mapping[str, Any], about)
    return [f"about.json does not say {name!r}" for name in ABOUT if not isinstance(said.get(name), str)]


def _read(path: Path) -> list[Row]:
    """The rows of a CSV file.

    Raises:
        ValueError: A row is longer or shorter than the header.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[Any, Any]] = list(csv.DictReader(file))
    for number, row in enumerate(rows, 2):
        if None in {*row, *row.values()}:  # DictReader's mark of a field too many or too few
            raise ValueError(f"{path.name}, line {number} does not have as many fields as the first line")
    return list[Row](rows)


def _unknown(header: Sequence[str]) -> list[str]:
    """The columns that no leaderboard has."""
    known = {*_WHO}
    for column in COLUMNS:
        known |= column.fields(None).keys()
    return [name for name in header if name not in known and not _is_samples_to(name)]


def _is_samples_to(name: str) -> bool:
    goal = name.removeprefix("samples_to_").removesuffix("_reached")
    try:
        return name in samples_to(float(goal)).fields(CensoredMedian(None, 0, 0, 0.0))
    except ValueError:
        return False


def _wrong_row(row: Row) -> list[str]:
    wrong: list[str] = []
    numbers: dict[str, float] = {}
    for name, text in row.items():
        if name in ("arena", "entrant", "kind", "against") or not text:
            continue
        try:
            numbers[name] = float(text)
        except ValueError:
            wrong.append(f"{name} is {text!r}, not a number")
    if row["kind"] not in ("router", "baseline"):
        wrong.append(f"kind is {row['kind']!r}; it must be router or baseline")
    wrong += [f"{name} is missing" for name in ("place", "seeds", "accuracy") if not row[name]]
    for name in _SHARES:
        if not 0 <= numbers.get(name, 0) <= 1 and not math.isnan(numbers[name]):
            wrong.append(f"{name} is {row[name]}; it must be in [0, 1]")
    low, high = (numbers.get(f"accuracy_{end}", math.nan) for end in ("low", "high"))
    if low > numbers.get("accuracy", 0) or high < numbers.get("accuracy", 0):
        wrong.append("accuracy is not inside its interval")
    if numbers.get("seeds", 1) < 1 or numbers.get("seeds", 1) % 1:
        wrong.append(f"seeds is {row['seeds']}; it must be a whole number of at least 1")
    return wrong


def _wrong_order(rows: Sequence[Row]) -> list[str]:
    names = [row["entrant"] for row in rows]
    wrong = [f"{name} has more than one row" for name in dict.fromkeys(names) if names.count(name) > 1]
    places, accuracies = ([float(row[name]) for row in rows] for name in ("place", "accuracy"))
    if places != list(range(1, len(rows) + 1)):
        wrong.append(f"places are {', '.join(row['place'] for row in rows)}; they must go from 1 to {len(rows)}")
    if accuracies != sorted(accuracies, reverse=True):
        wrong.append("the rows are not in descending order of accuracy")
    return wrong


def _wrong_runs(table: Sequence[Row], runs: Sequence[Row]) -> list[str]:
    """Where the table does not follow from the last row of each run."""
    if missing := {"arena", "entrant", "seed", "epoch", "test_accuracy"} - runs[0].keys():
        return [f"runs.csv has no column {name!r}" for name in sorted(missing)]
    last: dict[tuple[str, str], dict[str, tuple[int, float]]] = {}
    for row in runs:
        seeds = last.setdefault((row["arena"], row["entrant"]), {})
        seeds[row["seed"]] = max(seeds.get(row["seed"], (0, 0.0)), (int(row["epoch"]), float(row["test_accuracy"])))
    wrong: list[str] = []
    for row in table:
        seeds, who = last.get((row["arena"], row["entrant"]), {}), f"{row['entrant']} in {row['arena']}"
        if len(seeds) != int(row["seeds"]):
            wrong.append(f"{who} has {row['seeds']} seeds in leaderboard.csv and {len(seeds)} in runs.csv")
        elif abs(np.mean([tested for _, tested in seeds.values()]) - float(row["accuracy"])) > _ROUNDING:
            wrong.append(f"the accuracy of {who} in leaderboard.csv is not the mean over its runs in runs.csv")
    return wrong


def main(folders: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    """Print what is wrong with submissions; the exit code is 1 if something is.

    Args:
        folders: Each with leaderboard.csv, about.json and runs.csv; files beside them do not count.
    """
    wrong = [f"{folder}: {what}" for folder in folders if folder.is_dir() for what in check_submission(folder)]
    print(*(wrong or ["everything fits"]), sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m routing_env.maintenance.results")
