"""The runs of a benchmark: planned from a suite, or found in folders."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from routing_env.benchmark.columns import samples_to
from routing_env.benchmark.suites import SUITES, Arena, Entrant, Suite, suite_of, suite_on
from routing_env.benchmark.tuned import read_tuned, with_tuned
from routing_env.data import DATASETS, load
from routing_env.game.build import NETWORKS
from routing_env.game.settings import Given, Settings
from routing_env.names import counted, file_name, find, look_up, source_file
from routing_env.runs.arrivals import later_epochs
from routing_env.runs.directory import RunDirectory
from routing_env.runs.learners import is_baseline
from routing_env.runs.settings import SB3_PREFIX, ArenaOptions, BenchmarkOptions, RunSettings
from routing_env.runs.sources import files_of
from routing_env.scenarios import SCENARIOS

FAIRNESS = ("epochs", "validation")
"""Settings without which a comparison misleads where entrants differ in them."""

_OPTIMISER = (
    *("optimizer", *Settings.OF_OPTIMIZER, "decay_every", "decay_factor", "batch_size"),
    *("dropout", "weight_average"),
)
"""Settings of how blocks and baselines learn; a leaderboard says which entrants have which."""


@dataclass(frozen=True, eq=False)
class Job:
    """One run of the grid.

    Attributes:
        arena: it belongs to.
        entrant: that is run.
        given: the settings that the run is built from, epochs and seed among them.
        path: of its directory.
        tuned: file that the settings of its entrant were taken from; empty where it plays as usual.
    """

    arena: Arena
    entrant: Entrant
    given: Given
    path: Path
    tuned: str = ""

    @property
    def epochs(self) -> int:
        """Passes that finish it."""
        return self.given["epochs"] + later_epochs(self.given.get("arrivals", ""))

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.given["seed"]

    @property
    def fraction(self) -> float:
        """Share of the training samples that it uses."""
        return self.given.get("fraction", 1.0)

    @property
    def scenario(self) -> str | None:
        """Name of the scenario that it plays."""
        return self.given.get("scenario")

    def rows(self) -> list[dict[str, Any]]:
        """What it has measured up to its checkpoint; what a longer run has measured after these epochs is left out.

        Raises:
            ValueError: A file is damaged; the message names it and the remedy.
        """
        directory = RunDirectory(self.path)
        until = min(directory.epoch, self.epochs)
        return [row for row in directory.read_metrics() if row["epoch"] <= until] if until else []

    def epochs_done(self) -> int:
        """Passes that it has behind it, which its checkpoint decides."""
        rows = self.rows()
        return int(rows[-1]["epoch"]) if rows else 0


def takes_best_known_routing(job: Job) -> bool:
    """Whether a run's routing is the best that is known: that of its scenario, or outside scenarios the oracle's."""
    if job.scenario is None:
        return job.entrant.router == "oracle"
    return (job.entrant.router, job.entrant.options) == SCENARIOS[job.scenario].best


def asked_for(suite: str, config: BenchmarkOptions) -> tuple[str, list[Job]]:
    """The runs that a command line asks for, and the name of their report.

    Args:
        suite: its name; does not count where the settings name a data set.
        config: which of its runs.

    Raises:
        ValueError: an unknown name, with the nearest known one, or a setting out of range.
    """
    for goal in config.samples_to:
        samples_to(goal)  # refused now rather than after hours of training
    name, chosen = chosen_suite(suite, config)
    tuned = {} if config.settings is None else read_tuned(config.settings)
    scale = {key: getattr(config, key) for key in ("epochs", "seeds", "fraction", "measure_every", "place")}
    jobs = plan_jobs(with_tuned(chosen, tuned), config.run_dir, **scale)
    if config.settings is not None:
        name, file = f"{name}-{config.settings.stem}", str(config.settings)
        jobs = [replace(job, tuned=file) if job.entrant.name in tuned else job for job in jobs]
    if config.against is not None:
        for arena in {job.arena.name: job.arena for job in jobs}.values():
            look_up(f"entrant of {arena.name}", config.against, {one.name: one for one in arena.entrants})
        name = f"{name}-against-{config.against}"
    named = dict.fromkeys(job.entrant.name for job in jobs) if config.entrants else ()
    return report_name(name, jobs, tuple(named)), jobs


def chosen_suite(suite: str, config: ArenaOptions) -> tuple[str, Suite]:
    """The suite that a command line asks for, with the entrants that it asks for, and its name.

    Args:
        suite: its name; does not count where the settings name a data set or scenarios.
        config: which arenas, and who takes part.

    Raises:
        ValueError: an unknown name, with the nearest known one, or a setting out of range.
    """
    if config.scenario:
        if config.data is not None or config.fraction != 1:
            raise ValueError("scenarios settle their data; leave --data and --fraction out")
        name, chosen = "-".join(("scenarios", *config.scenario)), suite_of(config.scenario)
    elif config.data is None:
        name, chosen = suite, look_up("suite", suite, SUITES)
    elif config.data in DATASETS:
        name, chosen = f"data-{config.data}", suite_on(config.data)
    else:
        own = load(config.data, data_dir=config.data_dir)
        if own.classes is None:
            raise ValueError(f"{config.data} is regression, and leaderboards show accuracies; use routing-env train")
        epochs = own.usual.get("epochs", RunSettings.epochs)
        name, chosen = f"data-{own.name}", suite_on(config.data, name=own.name, epochs=epochs)
    if config.network is not None:
        find("network", config.network, NETWORKS)
        if config.data is None:
            raise ValueError(f"network is {config.network!r} without data; say on which data set, as --data digits")
        arenas = tuple(replace(one, game={**one.game, "network": config.network}) for one in chosen.arenas)
        name, chosen = f"{name}-{config.network}", replace(chosen, arenas=arenas)
    if not 0 < config.fraction <= 1:
        raise ValueError(f"fraction is {config.fraction}; it must be in (0, 1]")
    if config.entrants:
        chosen = replace(chosen, arenas=tuple(choose_entrants(arena, config.entrants) for arena in chosen.arenas))
    return name, chosen


def who_was_tuned(suite: str, config: BenchmarkOptions) -> list[str]:
    """In words, who plays with tuned settings, who does not, and for which arena they were tuned."""
    if config.settings is None:
        return []
    tuned, lines = read_tuned(config.settings), list[str]()
    for arena in chosen_suite(suite, config)[1].arenas:
        names = [entrant.name for entrant in arena.entrants]
        own, usual = [name for name in names if name in tuned], [name for name in names if name not in tuned]
        line = f"{arena.name}: {', '.join(own) or 'nobody'} with the tuned settings of {config.settings}"
        lines.append(line + (f"; as usual: {', '.join(usual)}" if usual else ""))
        for other in dict.fromkeys(tuned[name].arena for name in own if tuned[name].arena != arena.name):
            those = [name for name in own if tuned[name].arena == other]
            lines.append(f"{arena.name}: the settings of {', '.join(those)} were tuned on {other}")
    return lines


def choose_entrants(arena: Arena, names: Sequence[str]) -> Arena:
    """The arena with other entrants: some of its usual ones by their names, or any router, baseline or class.

    Args:
        arena: Where they play.
        names: Of entrants, or routers, baselines and classes with options, such as ``"wpl rule=full-vector"``.

    Raises:
        ValueError: an unknown name, with the nearest known one, or an option without a value.
    """
    own = {entrant.name: entrant for entrant in arena.entrants}
    quoted = {"'", '"'}
    spaced_once = [name if quoted & set(name) else " ".join(name.split()) for name in names]
    return replace(arena, entrants=tuple(own.get(name) or _entrant(name) for name in dict.fromkeys(spaced_once)))


def _entrant(name: str) -> Entrant:
    """A router, baseline or class, with the options that follow it."""
    try:
        router, *options = shlex.split(name) or [""]
    except ValueError as error:
        raise ValueError(f"{name!r} as an entrant: {error}; close the quotation mark, or leave it out") from None
    is_baseline(router)
    for option in options:
        if not all(option.partition("=")):
            raise ValueError(f"{name!r} as an entrant: {option!r} is not an option with a value, such as rate=0.1")
    return Entrant(name, router, tuple(options))


def plan_jobs(
    suite: Suite,
    base: Path,
    *,
    epochs: int | None = None,
    seeds: int | None = None,
    fraction: float = 1.0,
    measure_every: int = 1,
    place: Mapping[str, str] | None = None,
) -> list[Job]:
    """All runs of a suite, seed by seed.

    A run's path follows from its settings: the same command finds its runs again, suites share those they have in
    common, and other settings never meet the same folder.

    Args:
        suite: to run.
        base: folder of all benchmark runs.
        epochs: in place of the suite's.
        seeds: in place of the suite's.
        fraction: of the training samples.
        measure_every: epochs between two measurements.
        place: folder of the data sets' files and device, as settings.

    Raises:
        ValueError: epochs or seeds below 1.
    """
    for name, value in (("epochs", epochs), ("seeds", seeds)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    jobs: list[Job] = []
    for seed in range(suite.seeds if seeds is None else seeds):
        for arena in suite.arenas:
            for entrant in arena.entrants:
                given = given_of(
                    arena, entrant, epochs=epochs or suite.epochs, fraction=fraction, measure_every=measure_every
                )
                folder = f"{file_name(arena.name)}-{file_name(entrant.name)}-{digest_of(given)}"
                given = {**given, **(place or {}), "seed": seed}
                jobs.append(Job(arena, entrant, given, base / folder / f"seed{seed}"))
    return jobs


def given_of(
    arena: Arena, entrant: Entrant, *, epochs: int | None, fraction: float, measure_every: int
) -> dict[str, Any]:
    """The settings of an entrant's runs in an arena, without the seed.

    Args:
        arena: it plays in.
        entrant: that plays.
        epochs: passes over the training samples; by default those of the scenario or the data set.
        fraction: of the training samples; a scenario settles its own.
        measure_every: epochs between two measurements.
    """
    scenario = SCENARIOS.get(arena.game.get("scenario", ""))
    if scenario is None:
        of_run: Given = {"fraction": fraction}
    else:
        epochs, of_run = epochs or scenario.epochs, scenario.run
    if epochs is None:
        epochs = look_up("data set", arena.game["data"], DATASETS).usual.get("epochs", RunSettings.epochs)
    own = {
        "router": entrant.router,
        "router_options": entrant.options,
        "epochs": epochs,
        "threads": 1,
        "reference": False,
    }
    cadence = {} if measure_every == 1 else {"measure_every": measure_every}
    return {**own, **cadence, **of_run, **arena.game, **entrant.game}


def telling_settings(run: RunSettings) -> dict[str, Any]:
    """What can tell two runs in an arena apart, seeds aside."""
    who, where = ("router", "router_options", "seed"), ("threads", "reference", "data_dir", "device")
    aside = {*who, *where, "data", "tasks", "fraction"}
    return {name: value for name, value in run.given().items() if name not in aside}


def differences(jobs: Sequence[Job]) -> str:
    """In what the runs of one table differ beside who routes and the seed, and who was tuned; nothing where nobody.

    Settings of the game and of the run are compared over all runs, and so are the versions that they began with; for
    those of how networks learn the sentence names the entrants. The data are compared between runs of one seed, since a
    seed cuts the data.
    """
    values: dict[str, dict[str, dict[str, None]]] = {}
    marks: dict[tuple[str, int], set[str]] = {}
    for job in jobs:
        directory = RunDirectory(job.path)
        if not directory.config_path.is_file():
            continue
        versions = directory.read_versions()
        told = {name: versions[name] for name in ("routing-env", "torch") if name in versions}
        for name, value in {**telling_settings(directory.read_config()), **told}.items():
            values.setdefault(name, {}).setdefault(str(value), {})[job.entrant.name] = None
        for split, mark in directory.read_fingerprint().items():
            marks.setdefault((split, job.seed), set()).add(mark)

    def told_of(name: str, different: Mapping[str, Mapping[str, None]]) -> str:
        whose = {value: f" ({', '.join(names)})" if name in _OPTIMISER else "" for value, names in different.items()}
        return f"{name}: {', '.join(value + names for value, names in whose.items())}"

    parts = [told_of(*pair) for pair in values.items() if len(pair[1]) > 1]
    if splits := dict.fromkeys(split for (split, _), different in marks.items() if len(different) > 1):
        parts.append(f"the samples of the split{'s' if len(splits) > 1 else ''} {', '.join(splits)}")
    said = [f"These runs differ in {'; '.join(parts)}."] if parts else []
    for file in dict.fromkeys(job.tuned for job in jobs if job.tuned):
        names = ", ".join(dict.fromkeys(job.entrant.name for job in jobs if job.tuned == file))
        said.append(f"With the tuned settings of {file}: {names}.")
    return " ".join(said)


def scale(jobs: Sequence[Job]) -> str:
    """How long entrants were trained, how often, and on how much, in words."""
    counts = Counter((job.arena.name, job.entrant.name) for job in jobs)
    parts = [
        _count(sorted({job.epochs for job in jobs}), "epoch"),
        _count(sorted(set(counts.values())), "seed"),
        *sorted({f"{100 * part:g} % of the training samples" for job in jobs if (part := job.fraction) != 1}),
    ]
    return ", ".join(parts)


def report_name(suite: str, jobs: Sequence[Job], entrants: Sequence[str] = ()) -> str:
    """Folder of a suite's tables and figures: its name and scale, and the entrants if they are not the usual ones.

    Args:
        suite: its name.
        jobs: all of its runs.
        entrants: that were asked for; none stands for the suite's own.
    """
    epochs = "-".join(str(number) for number in sorted({job.epochs for job in jobs}))
    parts = [suite, f"{epochs}epochs", f"{len({job.seed for job in jobs})}seeds"]
    fraction = jobs[0].fraction
    if fraction != 1:
        parts.append(f"fraction{fraction:g}")
    parts.extend(entrants)
    return file_name("-".join(parts))


def digest_of(given: Given) -> str:
    """Eight hexadecimal digits that change with any setting but seed and place of the data.

    They change with the files that the settings refer to as well, and with the module of your own router or baseline.
    """
    router: str = given["router"]
    own = source_file(router) if ":" in router and not router.startswith(SB3_PREFIX) else None
    paths = {str(own): own} if own else {}
    paths |= {file: Path(file) for file in files_of(given) if Path(file).is_file()}
    sources = "".join(path.read_text(encoding="utf-8") for path in paths.values())
    return hashlib.sha256((json.dumps(given, sort_keys=True) + sources).encode()).hexdigest()[:8]


def _count(numbers: Sequence[int], what: str) -> str:
    """As in "1 seed" or "1 to 3 seeds"."""
    largest = counted(numbers[-1], what)
    return largest if len(numbers) == 1 else f"{numbers[0]} to {largest}"
