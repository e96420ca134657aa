"""A little run in a folder, for tests of what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run

GIVEN: dict[str, Any] = {
    "data": "planted",
    "data_options": ("samples=30",),
    "router": "wpl",
    "threads": 1,
    "reference": False,
}


def small_run(path: Path, epochs: int = 2, **given: Any) -> RunDirectory:
    """Train on planted in a folder of this path; one that is there already goes on."""
    directory, run = RunDirectory(path), Run.of({**GIVEN, "epochs": epochs, **given})
    run.train(directory, Display(Console(quiet=True)))
    return directory
