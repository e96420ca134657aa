"""The settings of a run: those of its game, and who routes, for how long."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from routing_env.game.settings import Given, SettingError, Settings, check, types_of
from routing_env.names import reference

if TYPE_CHECKING:  # it imports torch, which help does without
    from routing_env.data import SplitName

SB3_PREFIX = "sb3:"
"""What the names of Stable-Baselines3 models begin with."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a training run, each with its value."""

    router: str = "wpl"
    """Router or baseline: a name of `routing-env list`, or your own as module:Class or file.py:Class."""
    router_options: tuple[str, ...] = ()
    """Options of the router or baseline as name=value, for example `step=0.02 rule=full-vector`."""
    epochs: Annotated[int, "at least 1"] = 10
    """Passes over the training samples."""
    threads: Annotated[int, "at least 1 and at most 1,024"] = 0
    """CPU threads; by default as many as PyTorch takes."""
    reference: bool = True
    """Train the routers fixed (one block per task per layer), random-fixed and, where it is known, oracle on the same
    game afterwards, for comparison."""
    measure_test: bool = True
    """Measure the test split as well; otherwise only the validation split is measured and reported."""
    measure_every: Annotated[int, "at least 1"] = 1
    """Epochs between measurements, each of which saves a checkpoint; the last epoch is always measured."""
    arrivals: str = ""
    """Number of tasks that arrive at each stage, such as 9+1 or 5+3+2; by default all are there from the start."""
    arrival_order: Annotated[tuple[int, ...], "at least 0"] = ()
    """The tasks in the order of their arrival, by their numbers from 0; by default the order of the data set."""
    arrival_samples: Annotated[int, "at least 1"] = 4000
    """Training samples dealt at each stage after the first, which lasts for the epochs."""
    arrival_block_rate: Annotated[float, "at least 0"] = 0.1
    """Factor of the learning rate of the blocks after the first stage (paper, section 6); 0 freezes them."""
    shots: Annotated[int, "at least 0"] = 0
    """Training samples per class of a task that arrives after the first stage; 0 keeps all."""
    replay: Annotated[float, "in [0, 1)"] = 0.0
    """Share of each deal after the first stage that replays tasks of earlier stages."""
    game: Settings
    """The game."""

    def given(self) -> dict[str, Any]:
        """All settings by their names, those of the game among them."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "game"}
        return own | {field.name: getattr(self.game, field.name) for field in fields(self.game)}

    def to_json(self) -> dict[str, Any]:
        """What a file holds: functions are named ``module:name``."""
        return {**asdict(replace(self, game=_named(self.game)))}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunSettings:
        """Read what :meth:`to_json` wrote.

        Raises:
            SettingError: a setting that does not exist or has the wrong type.
            TypeError: a setting is missing.
        """
        own = {name: value for name, value in content.items() if name != "game"}
        game = content.get("game")
        if not isinstance(game, dict):
            raise SettingError(f"game is {game!r}; it must be an object of settings")
        parts: list[tuple[type, dict[str, Any]]] = [(cls, own), (Settings, game)]
        missing = [name for owner, part in parts for name in types_of(owner) if name not in part]
        if missing:
            raise SettingError(f"the settings {', '.join(missing)} are missing")
        return cls(game=Settings(**_checked(game, Settings)), **_checked(own, cls))


OF_ROUTING = ("recursive", "pass_action", "depth", "rho", "collaboration", "final_reward", "block_batch", "visitors")
"""Settings that do nothing where nobody routes."""

OF_ARRIVALS = ("arrival_order", "arrival_samples", "arrival_block_rate", "shots", "replay")
"""Settings that say how tasks arrive."""


@dataclass(frozen=True, kw_only=True)
class ArenaOptions:
    """Who plays what."""

    scenario: tuple[str, ...] = ()
    """Play these named scenarios of docs/scenarios.md instead of running a suite."""
    data: str | None = None
    """Run routers and baselines on this data set, with its usual settings, instead of running a suite; a name, or your
    own as module:function or file.py:function."""
    network: str | None = None
    """With --data, the network that all entrants are made from; a name, or your own as module:function or
    file.py:function."""
    entrants: tuple[str, ...] = ()
    """Routers and baselines that take part instead of the suite's own, by name or as module:Class or file.py:Class."""
    epochs: int | None = None
    """Passes over the training samples; by default the suite's."""
    fraction: float = 1.0
    """Share of the training samples to use."""
    measure_every: int = 1
    """Epochs between measurements of the network; the last epoch is always measured."""
    data_dir: str | None = None
    """Folder that holds the data sets' files; defaults to the environment variable ROUTING_ENV_DATA, else ./data."""
    device: str | None = None
    """Device of all runs: cpu, cuda, cuda:1, ...; by default cpu."""

    @property
    def place(self) -> dict[str, str]:
        """Where runs find their data and are trained, as settings; without those that are not given."""
        given = {"data_dir": self.data_dir, "device": self.device}
        return {name: value for name, value in given.items() if value is not None}


FigureFormat = Literal["png", "svg", "pdf"]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report shows."""

    against: str | None = None
    """Entrant that the leaderboards compare all others with; by default the best baseline on validation."""
    samples_to: tuple[float, ...] = ()
    """Accuracies in %; for each, a column of the leaderboards has the training samples until the test accuracy reaches
    it."""
    figures: tuple[FigureFormat, ...] = ("png",)
    """Formats of the figures of the report."""
    html: bool = False
    """Write report.html as well, one file with interactive charts and replays; needs routing-env[html]."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(ReportOptions, ArenaOptions):
    """Which of a suite's runs, and at what scale."""

    seeds: int | None = None
    """Runs of each entrant; by default the suite's."""
    settings: Path | None = None
    """File of tuned settings, as routing-env tune writes it; entrants in it have its settings."""
    run_dir: Path = Path("runs/benchmark")
    """Folder of all benchmark runs and reports."""


@dataclass(frozen=True, kw_only=True)
class TuneOptions(ArenaOptions):
    """What to search, and at what scale."""

    search: tuple[str, ...] = ("learning_rate", "options")
    """What to search: settings of the game, among learning_rate, optimizer, momentum, weight_decay, dropout, hidden,
    layers and decay_every, and options, which stands for the space that each entrant declares itself."""
    rates: tuple[float, ...] = ()
    """Learning rates of the blocks to try; by default 0.01, 0.03, 0.1 and 0.3, and a tenth of these for Adam."""
    trials: int = 16
    """Trials of each entrant; a space with no more points than this is searched completely."""
    seeds: tuple[int, ...] = (10, 11)
    """Seeds of each trial; they should not be those of a benchmark, 0 and up."""
    output: Path | None = None
    """File for the chosen settings; by default in the folder of the arena. Other entrants in it are kept."""
    figure: Path | None = None
    """PNG file for accuracy against learning rate; by default beside the file of the settings."""
    run_dir: Path = Path("runs/tuning")
    """Folder of all trials."""


def measured_splits(settings: RunSettings) -> tuple[SplitName, ...]:
    """Splits that a run measures."""
    return ("validation", "test") if settings.measure_test else ("validation",)


def split_given(given: Given) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings by whom they belong to: those of a run, checked, and all others.

    Raises:
        SettingError: a value of the wrong type or out of range.
    """
    own = types_of(RunSettings)
    others = {name: value for name, value in given.items() if name not in own}
    return check({name: value for name, value in given.items() if name in own}, RunSettings), others


def refuse_of_routing(baseline: str, given: Given) -> None:
    """Refuse settings that would do nothing in a run of a baseline.

    Raises:
        SettingError: there is one among those given.
    """
    for name in OF_ROUTING:
        if given.get(name):
            raise SettingError(f"{name} is {given[name]!r} beside {baseline}, which does not route; leave it out")


def check_arrivals(given: Given) -> None:
    """Refuse settings of tasks that arrive where none do, and settings that do not go with them.

    Raises:
        SettingError: Such a setting is given.
    """
    arrivals = given.get("arrivals", "")
    if not arrivals:
        for name in OF_ARRIVALS:
            if name in given:
                raise SettingError(
                    f"{name} is {given[name]!r} without arrivals, and all tasks are there from the start; give the "
                    "number of tasks of each stage as arrivals, such as 9+1"
                )
        return
    if given.get("measure_every", 1) != 1:
        raise SettingError(
            f"measure_every is {given['measure_every']} beside arrivals, whose every stage is measured; leave it out"
        )
    for name in ("dealer", "block_batch"):
        if given.get(name) is not None:
            raise SettingError(f"{name} is {given[name]!r} beside arrivals, which settle what is dealt; leave it out")
    if str(given.get("router", "")).startswith(SB3_PREFIX):
        raise SettingError(f"router is {given['router']!r} beside arrivals, and such a model cannot take further tasks")


def resumed(given: Given, stored: RunSettings) -> RunSettings:
    """The stored settings with the epochs, device and data directory that are given now.

    Raises:
        SettingError: another setting is given that differs from the run's.
    """
    may = ("device", "data_dir") if stored.arrivals else ("epochs", "device", "data_dir")
    for name, value in given.items():
        then = stored.given()[name]
        if name not in may and value != then:
            raise SettingError(
                f"--{name.replace('_', '-')} {value} differs from the run's {then}: a resumed run keeps its settings; "
                "leave the option out, or start a new run"
            )
    game = {name: given[name] for name in ("device", "data_dir") if name in given}
    return replace(stored, epochs=given.get("epochs", stored.epochs), game=replace(stored.game, **game))


def _checked(stored: dict[str, Any], owner: type) -> dict[str, Any]:
    """Stored settings, in which 0 stands for what nobody has resolved, and is out of the range of given values."""
    open_ = {name: 0 for name in ("blocks", "depth", "threads") if type(stored.get(name)) is int and stored[name] == 0}
    return check({name: value for name, value in stored.items() if name not in open_}, owner) | open_


def _named(settings: Settings) -> Settings:
    """The same settings with ``module:name`` in place of functions."""
    functions = {field.name: value for field in fields(settings) if callable(value := getattr(settings, field.name))}
    return replace(settings, **{name: reference(value) for name, value in functions.items()})
