"""The settings of a run: those of its game, its router and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from routing_env.config import GameConfig

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
