"""What ``routing-env tune`` searches: a space for each entrant of an arena, in which all have as many trials.

Plain data; :mod:`routing_env.benchmark.studies` runs the trials.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from routing_env.agents import router_class
from routing_env.baselines import baseline_class, size_options
from routing_env.benchmark.jobs import Job, chosen_suite, digest_of, given_of
from routing_env.benchmark.suites import Arena, Entrant
from routing_env.benchmark.tuned import Tuned, option_pairs
from routing_env.data import DATASETS
from routing_env.game.settings import Settings
from routing_env.names import check_options, counted, file_name, is_number, look_up, parse_options, require
from routing_env.runs.learners import is_baseline
from routing_env.runs.settings import SB3_PREFIX, TuneOptions
from routing_env.search_space import Choices, Dimension, SearchSpace, grid

OPTIONS = "options"
"""What stands among the settings to search for the space that an entrant declares itself."""

RATES = (0.01, 0.03, 0.1, 0.3)
"""Learning rates of the blocks under SGD; those under Adam are a tenth."""

COMMON: Mapping[str, Dimension] = {
    "learning_rate": Choices(RATES),
    "optimizer": Choices(("sgd", "adam")),
    "momentum": Choices((0.0, 0.9)),
    "weight_decay": Choices((0.0, 1e-4, 1e-3)),
    "dropout": Choices((0.0, 0.2, 0.5)),
    "hidden": Choices((32, 64, 128, 256)),
    "layers": Choices((1, 2, 3, 4)),
    "decay_every": Choices((20, 30)),
}
"""Settings of the game that can be searched, the same for every entrant."""


DEPTHS = Choices((1, 2, 3))
"""Numbers of fully connected layers of a baseline, which each of them searches beside the options that it declares."""


@dataclass(frozen=True, eq=False)
class Search:
    """What is searched for one entrant, and at what cost.

    Attributes:
        arena: That it plays in.
        entrant: As it plays usually.
        given: Settings of its runs, without the seed and what is searched.
        settings: What the settings of the game may be.
        options: What the options of the entrant may be.
        trials: Number of trials, or less where the space has fewer points.
        seeds: Seeds of each trial.
        place: Folder of the data sets' files and device, as settings.
        folder: Of the arena.
    """

    arena: Arena
    entrant: Entrant
    given: Mapping[str, Any]
    settings: SearchSpace
    options: SearchSpace
    trials: int
    seeds: tuple[int, ...]
    place: Mapping[str, str]
    folder: Path

    @property
    def space(self) -> dict[str, Dimension]:
        """Settings and options together; their names begin with ``settings.`` and ``options.``."""
        parts = (("settings", self.settings), (OPTIONS, self.options))
        return {f"{kind}.{name}": dimension for kind, part in parts for name, dimension in part.items()}

    @property
    def points(self) -> list[dict[str, Any]] | None:
        """All points of the space, where there are no more than trials."""
        points = grid(self.space)
        return points if points is not None and len(points) <= self.trials else None

    @property
    def journal(self) -> Path:
        """File of the study: another one for another space, other settings or other seeds."""
        space = {name: [type(one).__name__, asdict(one)] for name, one in self.space.items()}
        text = json.dumps([digest_of(self.given), space, self.seeds], sort_keys=True)
        name = f"{file_name(self.entrant.name)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.journal"
        return self.folder / "studies" / name

    def chosen(self, point: Mapping[str, Any], accuracy: float, trials: int) -> Tuned:
        """A point as an entry of the file of settings.

        Args:
            point: Of the space.
            accuracy: On the validation split, in [0, 1].
            trials: Number of trials that it was chosen from.
        """
        of = {
            kind: {name.partition(".")[2]: value for name, value in point.items() if name.startswith(f"{kind}.")}
            for kind in ("settings", OPTIONS)
        }
        kept = {name: self.given[name] for name in {*self.entrant.game, *self._usual()} if name in self.given}
        return Tuned(
            settings={**dict(sorted(kept.items())), **of["settings"]},
            options={**parse_options(self.entrant.options), **of[OPTIONS]},
            validation_accuracy=accuracy,
            trials=trials,
            arena=self.arena.name,
            fraction=self.given.get("fraction", 1.0),
            epochs=self.given["epochs"],
            seeds=self.seeds,
        )

    def jobs(self, point: Mapping[str, Any]) -> list[Job]:
        """The runs of a trial, one for each seed; the same point is always played in the same folders."""
        tuned = self.chosen(point, 0.0, 0)
        given = {**self.given, **tuned.settings, "router_options": option_pairs(tuned.options)}
        folder = self.folder / "runs" / f"{file_name(self.entrant.name)}-{digest_of(given)}"
        entrant = tuned.play(self.entrant)
        return [
            Job(self.arena, entrant, {**given, **self.place, "seed": seed}, folder / f"seed{seed}")
            for seed in self.seeds
        ]

    def _usual(self) -> Mapping[str, Any]:
        return _usual_optimizer(self.entrant, self.arena)


def searches_for(suite: str, config: TuneOptions) -> list[Search]:
    """What a command line asks for, a search for each entrant.

    Args:
        suite: Name of a suite with one arena; does not count where the options name a data set or a scenario.
        config: What to search, and at what scale.

    Raises:
        ValueError: An unknown name, with the closest match, or an option out of range.
    """
    name, chosen = chosen_suite(suite, config)
    if len(chosen.arenas) != 1:
        arenas = ", ".join(arena.name for arena in chosen.arenas)
        raise ValueError(f"{name} has the arenas {arenas}, and settings are tuned for one; choose another suite")
    require("trials", config.trials, config.trials >= 1, "at least 1")
    seeds_fit = all(is_number(seed, "an integer from 0 to 2**63 - 1") for seed in config.seeds)
    require("seeds", config.seeds, bool(config.seeds) and seeds_fit, "one or more numbers from 0 to 2**63 - 1")
    require("rates", config.rates, all(0 < rate < math.inf for rate in config.rates), "above 0 and finite")
    for one in config.search:
        look_up("setting to search", one, {**COMMON, OPTIONS: None})
    if {"optimizer", "momentum"} <= {*config.search}:
        raise ValueError("momentum, which only sgd has, cannot be searched beside optimizer; leave one of them out")
    (arena,) = chosen.arenas
    return [search_for(arena, entrant, config, epochs=config.epochs or chosen.epochs) for entrant in arena.entrants]


def search_for(arena: Arena, entrant: Entrant, config: TuneOptions, *, epochs: int | None = None) -> Search:
    """What is searched for an entrant: what is asked for, but for what the entrant or a scenario settles.

    Args:
        arena: That it plays in.
        entrant: That plays.
        config: What to search, and at what scale.
        epochs: Passes over the training samples; by default those of the scenario or the data set.

    Raises:
        ValueError: The entrant declares a space for an option that it does not have.
    """
    given = given_of(arena, entrant, epochs=epochs, fraction=config.fraction, measure_every=config.measure_every)
    given |= {**_usual_optimizer(entrant, arena), "measure_test": False}
    settings = {} if "scenario" in arena.game else {name: COMMON[name] for name in config.search if name != OPTIONS}
    if "learning_rate" in settings:
        settings["learning_rate"] = _rates(given.get("optimizer", "sgd"), "optimizer" in config.search, config.rates)
    fixed = parse_options(entrant.options)
    declared = dict(space_of(entrant.router)) if OPTIONS in config.search else {}
    if "layers" in settings and declared.get("depth") is DEPTHS:
        del declared["depth"]  # it would overrule the layers
    return Search(
        arena=arena,
        entrant=entrant,
        given={name: value for name, value in given.items() if name not in settings or name in entrant.game},
        settings={name: one for name, one in settings.items() if name not in entrant.game},
        options={name: one for name, one in declared.items() if name not in fixed},
        trials=config.trials,
        seeds=tuple(dict.fromkeys(config.seeds)),
        place=config.place,
        folder=config.run_dir / file_name(arena.name),
    )


def space_of(entrant: str) -> SearchSpace:
    """The space that a router or baseline declares for its options; in that of a baseline there is its depth as well.

    Args:
        entrant: A name of ``routing-env list``, or your own as ``module:Class`` or ``file.py:Class``.

    Raises:
        ValueError: It names an option that does not exist, or something that is not ``Choices`` or ``Between``.
    """
    if entrant.startswith(SB3_PREFIX):
        return {}
    baseline = is_baseline(entrant)
    found: Any = (baseline_class if baseline else router_class)(entrant)
    sizes = size_options(found) if baseline else {}
    space: Mapping[str, Any] = getattr(found, "space", {})
    check_options(f"the space of {entrant!r}: {entrant!r}", found, space, besides=("spec", "plan", "seed"), also=sizes)
    for name, one in space.items():
        require(f"space of {entrant!r}, {name}", one, isinstance(one, Dimension), "Choices(...) or Between(...)")
    return {"depth": DEPTHS, **space} if "depth" in sizes else space


def budget(searches: Sequence[Search]) -> list[str]:
    """In words, what is searched and what it costs; a line for everybody, and one for each entrant."""
    first = searches[0]
    epochs, share = first.given["epochs"], first.given.get("fraction", 1.0)
    told = (
        f"{first.arena.name}: {counted(first.trials, 'trial')} for each entrant, or every point once where there "
        f"are no more; a trial is {counted(epochs, 'epoch')} on {100 * share:g} % of the training samples with seeds "
        f"{', '.join(map(str, first.seeds))}; its score is the mean validation accuracy after the last epoch; the test "
        "split is not read"
    )
    lines = [told]
    for search in searches:
        space = ", ".join(f"{name.partition('.')[2]} {described(one)}" for name, one in search.space.items())
        points = search.points
        number = search.trials if points is None else len(points)
        lines.append(
            f"  {search.entrant.name}: {number} trial{'' if number == 1 else 's'}; {space or 'nothing to search'}"
        )
    return lines


def described(one: Dimension) -> str:
    """What is searched, in writing: {a, b, c} or [low, high]."""
    if isinstance(one, Choices):
        return f"{{{', '.join(map(str, one.values))}}}"
    return f"[{one.low:g}, {one.high:g}]{' log' if one.log else ''}"


def _rates(optimizer: object, any_optimizer: bool, rates: tuple[float, ...]) -> Choices:
    """The learning rates to try."""
    under_adam = tuple(float(f"{rate / 10:.6g}") for rate in RATES)
    if rates:
        return Choices(tuple(dict.fromkeys(rates)))
    if any_optimizer:
        return Choices(tuple(sorted({*RATES, *under_adam})))
    return Choices(under_adam if optimizer == "adam" else RATES)


def _usual_optimizer(entrant: Entrant, arena: Arena) -> Mapping[str, Any]:
    """The usual optimiser of a baseline, where neither the arena nor the data set names one, as a run has it."""
    game = {**arena.game, **entrant.game}
    data = DATASETS.get(str(game.get("data", "")))
    named = "optimizer" in game or (data is not None and "optimizer" in data.usual)
    if named or "scenario" in game or not is_baseline(entrant.router):
        return {}
    own = {name for name in Settings.OF_OPTIMIZER if name in entrant.game}
    return {name: value for name, value in baseline_class(entrant.router).usual.items() if name not in own}
