"""The file of tuned settings: what ``routing-env tune`` chose for each entrant, and how others play with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from routing_env.benchmark.suites import Entrant, Suite
from routing_env.checkpoint import write_atomically
from routing_env.game.settings import Given, SettingError, Settings, check
from routing_env.names import parse_options, suggestion
from routing_env.runs.settings import RunSettings


@dataclass(frozen=True)
class Tuned:
    """What was chosen for an entrant, and on what evidence.

    Attributes:
        settings: Settings of the game in which the entrant differs from the arena.
        options: Options of the router or baseline.
        validation_accuracy: After the last epoch, in [0, 1]; mean over the seeds.
        trials: Number of trials that it was chosen from.
        arena: Name of the arena.
        fraction: Share of the training samples.
        epochs: Passes over them.
        seeds: Seeds of each trial.
    """

    settings: Mapping[str, Any]
    options: Mapping[str, Any]
    validation_accuracy: float
    trials: int
    arena: str
    fraction: float
    epochs: int
    seeds: tuple[int, ...]

    def play(self, entrant: Entrant) -> Entrant:
        """The entrant with these settings and options in place of its usual ones."""
        options = option_pairs({**parse_options(entrant.options), **self.options})
        return replace(entrant, options=options, game={**entrant.game, **self.settings})


def option_pairs(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as ``name=value``; the reverse of :func:`~routing_env.names.parse_options`."""
    return tuple(f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items())


def read_tuned(path: Path) -> dict[str, Tuned]:
    """The entries of a file by the names of the entrants.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has a setting that does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of settings {path}; routing-env tune writes one")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(**entry) for name, entry in content.items()}
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of tuned settings: {error}; docs/tuning.md has its format") from error


def _entry(*, settings: Given, seeds: Sequence[int], **others: Any) -> Tuned:
    return Tuned(settings=check(settings, Settings), seeds=tuple(seeds), **others)


def write_tuned(path: Path, entries: Mapping[str, Tuned]) -> None:
    """Put entries into a file, in place of those of the same entrants; all others stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        kept = read_tuned(path) if path.exists() else {}
        content = {name: asdict(entry) for name, entry in {**kept, **entries}.items()}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(path, lambda where: where.write_text(text, encoding="utf-8"))


def with_tuned(suite: Suite, tuned: Mapping[str, Tuned]) -> Suite:
    """The suite, in which the entrants that were tuned play with what was chosen.

    Raises:
        SettingError: An arena is a scenario, which settles a tuned setting.
    """
    for arena in suite.arenas:
        for entrant in arena.entrants:
            if "scenario" in arena.game and entrant.name in tuned and tuned[entrant.name].settings:
                raise SettingError(
                    f"{entrant.name} was tuned with {' '.join(tuned[entrant.name].settings)}, which scenario "
                    f"{arena.name!r} settles; tune it with --scenario, where options alone are searched"
                )

    def play(entrant: Entrant) -> Entrant:
        return tuned[entrant.name].play(entrant) if entrant.name in tuned else entrant

    arenas = (replace(arena, entrants=tuple(map(play, arena.entrants))) for arena in suite.arenas)
    return replace(suite, arenas=tuple(arenas))


def with_tuned_router(given: Given, path: Path) -> dict[str, Any]:
    """Settings of a run, with those that were tuned for its router or baseline.

    Args:
        given: Settings of a run and of its game.
        path: Of a file of tuned settings.

    Raises:
        SettingError: The file has no settings for the router, or other ones than are given.
    """
    tuned, router = read_tuned(path), given.get("router", RunSettings.router)
    if router not in tuned:
        raise SettingError(f"{path} has no settings for {router!r}; {suggestion(router, tuned)}")
    entry, own = tuned[router], parse_options(given.get("router_options", ()))
    if given.get("scenario") is not None and entry.settings:
        raise SettingError(f"{path} has settings for {router!r} that scenario {given['scenario']!r} settles")
    beside = (("setting", given, entry.settings), ("option", own, entry.options))
    for kind, theirs, ours in beside:
        for name, value in ours.items():
            if name in theirs and theirs[name] != value:
                raise SettingError(
                    f"{kind} {name} is {theirs[name]!r}, and {value!r} in {path} for {router!r}; leave one of them out"
                )
    return {**given, **entry.settings, "router_options": option_pairs({**own, **entry.options})}
