"""The settings of a run, those of its game, its router and its files; and of a benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from routing_env.game.settings import GameConfig

SB3_PREFIX = "sb3:"
"""What the names of Stable-Baselines3 models begin with."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of a training run."""

    router: str = "wpl"
    """Who routes, or a baseline: a name of `routing-env list`, sb3:PPO, one's own as module:Class or file.py:Class."""
    router_options: tuple[str, ...] = ()
    """Options of the router or baseline as name=value, for example `step=0.02 rule=full-vector`."""
    epochs: int | None = None
    """Passes over the training samples; by default the data set's recipe."""
    threads: int | None = None
    """Threads of the CPU; by default the data set's recipe, else all cores."""
    reference: bool = True
    """Train the fixed router (one block per task per layer) on the same game afterwards, for comparison."""
    game: GameConfig = field(default_factory=GameConfig)
    """The game."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Which of a suite's runs, and at what scale."""

    data: str | None = None
    """Compare routers and baselines on this data set, with its own settings, instead of running a suite."""
    entrants: tuple[str, ...] = ()
    """Who takes part instead: routers, baselines, module:Class or file.py:Class."""
    epochs: int | None = None
    """Passes over the training samples; by default the suite's."""
    seeds: int | None = None
    """Runs of each entrant; by default the suite's."""
    fraction: float = 1.0
    """Share of the training samples to use."""
    data_dir: str | None = None
    """Folder that holds the data sets' files; by default the environment variable ROUTING_ENV_DATA, else ./data."""
    run_dir: Path = Path("runs/benchmark")
    """Folder of all benchmark runs and reports."""


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Options of a router from ``name=value``; values are read as JSON where they are that, else as text.

    Raises:
        ValueError: a pair without a name or an equals sign.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"router option {pair!r} is not of the form name=value")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def resumed(given: RunConfig, stored: RunConfig) -> RunConfig:
    """The stored settings with the epochs and device given now.

    Raises:
        ValueError: another option was given that differs from the run's.
    """
    epochs = stored.epochs if given.epochs is None else given.epochs
    device = stored.game.device if given.game.device == GameConfig().device else given.game.device
    own = [field.name for field in fields(RunConfig) if field.name not in ("game", "epochs")]
    games = [field.name for field in fields(GameConfig) if field.name != "device"]
    asked = {name: (getattr(given, name), getattr(stored, name), getattr(RunConfig(), name)) for name in own}
    asked |= {
        name: (getattr(given.game, name), getattr(stored.game, name), getattr(GameConfig(), name)) for name in games
    }
    for name, (now, then, default) in asked.items():
        if now not in (default, then):
            raise ValueError(
                f"--{name.replace('_', '-')} {now} differs from the run's {then}: a resumed run keeps its settings; "
                "leave the option out, or start a new run"
            )
    return replace(stored, epochs=epochs, game=replace(stored.game, device=device))
