"""``python -m routing_env.maintenance.zoo``: train the runs of the zoo and write their cards; in a clone only.

Give names to make some of them anew: ``python -m routing_env.maintenance.zoo wpl-planted``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from routing_env.benchmark.tables import markdown_table
from routing_env.game.settings import Settings
from routing_env.names import look_up
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.loading import load_run
from routing_env.runs.run import Run
from routing_env.runs.settings import RunSettings
from routing_env.runs.task_table import describe_route
from routing_env.runs.zoo import CARD, PREFIX, ZOO

_PLAIN: dict[str, Any] = {"seed": 0, "threads": 1, "reference": False}
_PLANTED: dict[str, Any] = {"scenario": "planted-3x4", **_PLAIN}

ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wpl-digits": (
        "WPL on ten one-vs-rest tasks over handwritten digits, with four fully connected blocks per layer.",
        {
            "data": "digits",
            "router": "wpl",
            "network": "mlp",
            "hidden": 32,
            "blocks": 4,
            "learning_rate": 0.5,
            **_PLAIN,
        },
    ),
    "wpl-planted": (
        "WPL with the full-vector rule on twelve synthetic tasks whose best sharing is known.",
        {"router": "wpl", "router_options": ("rule=full-vector",), **_PLANTED},
    ),
    "q-learning-planted": (
        "Tabular Q-learning on twelve synthetic tasks whose best sharing is known.",
        {"router": "q-learning", **_PLANTED},
    ),
    "route-hedge-planted": (
        "Hedge over whole routes on twelve synthetic tasks whose best sharing is known.",
        {"router": "route-hedge", **_PLANTED},
    ),
}
"""What each entry is, and the settings that it is trained with."""


def make(names: tyro.conf.Positional[tuple[str, ...]] = (), *, zoo: Path = ZOO) -> None:
    """Train entries and replace their folders.

    Args:
        names: Entries to make; by default all of them.
        zoo: Folder of the entries.
    """
    for name in names or tuple(ENTRIES):
        _, given = look_up("entry of the zoo", name, ENTRIES)
        with tempfile.TemporaryDirectory() as folder:
            directory = RunDirectory(Path(folder))
            Run.of(given).train(directory, Display(Console()))
            shutil.rmtree(zoo / name, ignore_errors=True)
            (zoo / name).mkdir(parents=True)
            for path in (directory.config_path, directory.metrics_path, directory.checkpoint_path):
                shutil.copy(path, zoo / name)
        (zoo / name / CARD).write_text(card(name, zoo / name), encoding="utf-8")


def card(name: str, folder: Path) -> str:
    """What a person should know of an entry; its scores are measured now.

    Args:
        name: Of the entry.
        folder: Its run directory.
    """
    what, given = ENTRIES[name]
    run, directory = load_run(folder), RunDirectory(folder)
    splits = [run.evaluate(split) for split in ("validation", "test")]
    scores = [
        [one.split, f"{int(one.samples.sum()):,}", *(f"{100 * share:.4f}" for share in _shares(one.to_dict()))]
        for one in splits
    ]
    tasks = [
        [task, f"{100 * float(splits[-1].accuracy[number]):.2f}", describe_route(splits[-1].routes[number])]
        for number, task in enumerate(splits[-1].task_names)
    ]
    fingerprint = [[split, f"`{mark}`"] for split, mark in directory.read_fingerprint().items()]
    versions = ", ".join(f"{package} {number}" for package, number in directory.read_versions().items())
    parts = [
        f"# {name}",
        what,
        f"    routing-env evaluate {PREFIX}{name}",
        "It was trained by this command:",
        f"    {command(given)}",
        f"There was one run, with {versions}. Nothing was chosen on the test split.",
        "## Scores\n\nAccuracies in % of the greedy routes after the last epoch.",
        markdown_table(["split", "samples", "accuracy", "balanced accuracy"], scores),
        markdown_table(["task", "test accuracy", "route"], tasks),
        "## Data\n\nThe splits have these fingerprints; other data are refused when the entry is loaded.",
        markdown_table(["split", "fingerprint"], fingerprint),
        "## Settings\n\nThese settings differ from the defaults; `config.json` has all of them.",
        markdown_table(["setting", "value"], [[key, f"`{value}`"] for key, value in _settings(run.settings)]),
    ]
    return "\n\n".join(parts) + "\n"


def command(given: Mapping[str, Any]) -> str:
    """The command line that trains with some settings."""
    words = ["routing-env train"]
    for name, value in given.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words.append(f"--{option} {' '.join(value) if isinstance(value, tuple) else value}")
    return " ".join(words)


def _shares(evaluation: Mapping[str, Any]) -> tuple[float, float]:
    return evaluation["accuracy"], evaluation["balanced_accuracy"]


def _settings(settings: RunSettings) -> list[tuple[str, Any]]:
    """The settings that differ from the defaults."""
    defaults = {field.name: field.default for owner in (RunSettings, Settings) for field in fields(owner)}
    return [(name, value) for name, value in settings.given().items() if value != defaults[name]]


if __name__ == "__main__":
    tyro.cli(make, prog="python -m routing_env.maintenance.zoo")
