"""A training run: the one loop, its measurements, and its files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from routing_env.agents import make_router
from routing_env.baselines import baseline_class
from routing_env.data import MultiTaskData, SplitName
from routing_env.evaluations import Evaluation
from routing_env.game.build import load_data, resolve
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Given, SettingError, Settings, check, types_of
from routing_env.names import look_up
from routing_env.runs.compute import not_finite
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import GameLearner, Learner, RouterLearner, is_baseline, make_learner
from routing_env.runs.settings import OF_ARRIVALS, SB3_PREFIX, RunSettings, check_arrivals, measured_splits, split_given
from routing_env.runs.sources import Places, consent, refuse_foreign_code, relocated
from routing_env.scenarios import SCENARIOS
from routing_env.state_dicts import ANYTHING, check_state, restore_generator
from routing_env.torch_settings import find_device, usual_torch
from routing_env.types import Router

REFERENCES = {
    "fixed": "a block per task and layer",
    "random-fixed": "a random route per task, drawn before training",
    "oracle": "the best sharing, which these data know",
}
"""Routers that a run is compared with; the oracle where the data know it and the network can represent it."""


class Run:
    """What is trained.

    Args:
        settings: of the run.
        data: the tasks, on their device.
        learner: in place of the one that the settings name.
        places: where the files lie that the settings refer to, if not where they say.

    Attributes:
        settings: of the run; they describe the network as it was built.
        places: as given.
        data: as given; a learner may number their tasks differently.
        learner: a router with its game, or a baseline.
        epoch: passes completed.
        seconds: spent on training and evaluation, over all resumptions.
        metrics: the rows that this object has measured; of a loaded run all that stand in its folder.
        observers: called with every row of metrics once it has been written.
    """

    @usual_torch()
    def __init__(
        self,
        settings: RunSettings,
        data: MultiTaskData,
        learner: Learner | None = None,
        *,
        places: Places | None = None,
    ) -> None:
        self.places: Places = places or {}
        self.data = data
        self.learner = learner or make_learner(relocated(settings, self.places), data)
        as_built = {name: getattr(self.learner.settings, name) for name in Settings.OF_NETWORK}
        self.settings = replace(settings, game=replace(settings.game, **as_built))
        self.epoch = 0
        self.seconds = 0.0
        self.metrics: list[dict[str, Any]] = []
        self.observers: list[Callable[[Mapping[str, Any]], None]] = []

    @classmethod
    def of(cls, given: Given) -> Run:
        """A new run from some settings; what is not given follows from the data set.

        Raises:
            SettingError: a setting that does not exist, has the wrong type, or does not go with another.
            ValueError: a setting out of range, or an unknown router, baseline or option.
        """
        return cls(*resolve_run(given))

    @classmethod
    @usual_torch()
    def stored(
        cls, directory: RunDirectory, settings: RunSettings, *, trust: bool = False, named: Given | None = None
    ) -> Run:
        """Build a run again, with the code and the data that it began with.

        Args:
            directory: Folder of the run.
            settings: The settings in it, or those with another device or data directory.
            trust: Run the code that the folder names, whoever made it.
            named: Settings that the caller has given, whose code may run without ``trust``.

        Raises:
            ValueError: The data are not those of the run, a file that the settings refer to is lost, or the run would
                execute code from outside this package without ``trust``.
        """
        places = directory.places()
        if not trust:
            refuse_foreign_code(settings, places, named or {})
        data = load_data(relocated(settings, places).given())
        directory.refuse_other_data(data.fingerprint)
        return cls(settings, data.to(find_device(settings.game.device)), places=places)

    @property
    def epochs(self) -> int:
        """Passes that finish it."""
        return self.settings.epochs + self.learner.later_epochs

    @usual_torch()
    def train(self, directory: RunDirectory, display: Display) -> None:
        """Train to the last epoch; continue where the directory's checkpoint stands.

        All files of the directory are checked before any of them is written.

        Raises:
            DamagedError: A file is not as it was written, or not of this run. Nothing has changed.
            ValueError: The checkpoint does not fit the settings, or was trained with others. Nothing has changed.
        """
        directory.refuse_other_settings(self.settings)
        if directory.epoch:
            directory.read_metrics()
        if not self._restore(directory):
            # For blocks that draw from torch's own generator, such as dropout.
            torch.manual_seed(self.settings.game.seed)
        directory.write_config(self.settings, self.data, places=self.places)
        directory.keep_metrics(self.epoch)
        tick = display.start(self)
        try:
            while self.epoch < self.epochs:
                started = time.perf_counter()
                every = self.settings.measure_every
                epoch = min(self.epochs, (self.epoch // every + 1) * every)
                self.learner.play(self.learner.goal(epoch) - self.learner.samples, tick)
                display.epoch(self.end_epoch(epoch, directory, started))
        finally:
            display.stop()

    def end_epoch(self, epoch: int, directory: RunDirectory, started: float) -> dict[str, Any]:
        """Measure, and write down the measures and the state of the run.

        Args:
            epoch: which has ended.
            directory: of the run.
            started: when training went on after the last measurement, by ``time.perf_counter``.
        """
        self.epoch = epoch
        row = self._measure()
        self.seconds += time.perf_counter() - started
        row["seconds"] = round(self.seconds, 3)
        directory.append_metrics(row)
        directory.save_checkpoint(self._state())
        self.metrics.append(row)
        for observe in self.observers:
            observe(row)
        return row

    @property
    def game(self) -> RoutingGame:
        """The game of a router.

        Raises:
            AttributeError: It is a baseline, which plays no game.
        """
        if not isinstance(self.learner, GameLearner):
            raise AttributeError(f"{self.settings.router} is a baseline and plays no game; run.learner is its network")
        return self.learner.game

    @property
    def router(self) -> Router:
        """The trained router.

        Raises:
            AttributeError: It is a baseline, or a loop of your own that has kept its router.
        """
        if not isinstance(self.learner, RouterLearner):
            raise AttributeError(f"{self.settings.router} has no router here; only runs of routers have one")
        return self.learner.router

    @property
    def ground(self) -> str:
        """Name of the scenario, or else of the data."""
        return self.settings.game.scenario or self.learner.data.name

    @property
    def reported(self) -> SplitName:
        """Split that tables and figures of the run show."""
        return "test" if self.settings.measure_test else "validation"

    @usual_torch()
    def evaluate(self, split: SplitName = "test") -> Evaluation:
        """The trained network on a split; a router routes greedily."""
        return self.learner.evaluate(split)

    @usual_torch()
    def draw(self, directory: RunDirectory) -> list[Path]:
        """Draw the figures of the trained run into its directory, and return their paths."""
        from matplotlib.figure import Figure
        from PIL import Image

        directory.figures.mkdir(exist_ok=True)
        references = {name: RunDirectory(directory.references / name).read_metrics() for name in REFERENCES}
        subject = f"{self.settings.router} on {self.ground}"
        paths: list[Path] = []
        for name, figure in self.learner.figures(directory.read_metrics(), references, subject).items():
            paths.append(directory.figures / f"{name}.png")
            if isinstance(figure, Figure):
                figure.savefig(paths[-1], dpi=130)
            else:
                Image.fromarray(figure).save(paths[-1])
        return paths

    @usual_torch()
    def restore(self, directory: RunDirectory) -> None:
        """Restore from the directory's checkpoint.

        Raises:
            FileNotFoundError: There is no checkpoint yet.
            DamagedError: A file is not as it was written.
            ValueError: The checkpoint does not fit the settings, or a weight in it is NaN or infinite. Nothing has
                changed.
        """
        before = deepcopy(self.learner.state_dict()), self.epoch, self.seconds, torch.get_rng_state()
        if not self._restore(directory):
            raise FileNotFoundError(
                f"{directory.path} has no checkpoint yet; continue it with routing-env train --resume {directory.path}"
                f"{consent(self.settings)}"
            )
        if broken := not_finite(vars(self.learner)):
            self._set(*before)
            raise ValueError(
                f"{directory.checkpoint_path} holds NaN or infinity in {', '.join(broken[:3])}: its training has "
                "diverged; train a new run with a lower learning rate"
            )

    def _measure(self) -> dict[str, Any]:
        row: dict[str, Any] = {"epoch": self.epoch, "samples": self.learner.samples, "seconds": 0.0}
        row |= self.learner.measures()
        row |= {"parameters": self.learner.parameters, "training_flops": self.learner.cost()}
        for split in measured_splits(self.settings):
            if len(getattr(self.learner.data, split)):
                evaluation = self.evaluate(split)
                row[f"{split}_accuracy"] = evaluation.overall_accuracy
                row[f"{split}_balanced_accuracy"] = evaluation.overall_balanced_accuracy
                row[f"{split}_loss"] = evaluation.overall_loss
                if not evaluation.accuracy.isnan().any():
                    row[f"{split}_task_accuracy"] = evaluation.accuracy.tolist()
                if split == self.reported:
                    row |= self.learner.routing(evaluation)
        return row

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "learner": self.learner.state_dict(),
            "torch_generator": torch.get_rng_state(),
        }

    def _restore(self, directory: RunDirectory) -> bool:
        state = directory.load_checkpoint()
        if state is None:
            return False
        try:
            generator = torch.get_rng_state()
            check_state(state, {"epoch": 0, "seconds": 0.0, "learner": ANYTHING, "torch_generator": generator})
            restore_generator(torch.Generator(), state["torch_generator"])  # a trial
            self._set(state["learner"], state["epoch"], state["seconds"], state["torch_generator"])
        except ValueError as error:
            raise ValueError(f"{directory.checkpoint_path} does not fit the run's settings: {error}") from error
        return True

    def _set(self, learner: Mapping[str, Any], epoch: int, seconds: float, generator: torch.Tensor) -> None:
        self.learner.load_state_dict(learner)
        self.epoch, self.seconds = epoch, seconds
        torch.set_rng_state(generator)


def resolve_run(given: Given) -> tuple[RunSettings, MultiTaskData]:
    """Load the data, and give every setting of a run and of its game its value.

    A baseline has its usual optimiser if neither the settings nor the data set name one.

    Args:
        given: fields of :class:`RunSettings` and of :class:`~routing_env.game.settings.Settings`.

    Raises:
        SettingError: a setting that does not exist, has the wrong type, or does not go with another.
        ValueError: a setting out of range, or data that cannot be loaded.
    """
    own, game = split_given(given)
    scenario = game.get("scenario")
    if scenario is not None:
        own = _of_scenario(scenario, own)
        given = {**game, **own}
    check_arrivals(given)
    if own.get("router", RunSettings.router).startswith(SB3_PREFIX):
        game.setdefault("dealer", "endless")  # the number of lanes of an environment is constant
    routed = not is_baseline(own.get("router", RunSettings.router))
    settings, data = resolve(game, also=types_of(RunSettings), routed=routed)
    usual = check({name: data.usual[name] for name in ("epochs", "threads") if name in data.usual}, RunSettings)
    values: dict[str, Any] = {"threads": torch.get_num_threads(), **usual, **own}
    run = RunSettings(game=settings, **values)
    named = {"optimizer", *Settings.OF_OPTIMIZER} & game.keys() or "optimizer" in data.usual
    if is_baseline(run.router) and not named:
        run = replace(run, game=replace(settings, **baseline_class(run.router).usual))
    if not run.measure_test and not len(data.validation):
        raise SettingError("measure_test is False, and there is no validation split to measure; set validation above 0")
    return run, data


def _of_scenario(name: str, own: Given) -> dict[str, Any]:
    """Settings of a run with those of a scenario; its budget is a default.

    Raises:
        SettingError: a setting that the scenario settles.
    """
    scenario = look_up("scenario", name, SCENARIOS)
    for setting in ("arrivals", *OF_ARRIVALS):
        if setting in own and own[setting] != scenario.run.get(setting):
            raise SettingError(
                f"{setting} is {own[setting]!r} beside scenario {name!r}, which settles it; leave it out"
            )
    return {"epochs": scenario.epochs, **scenario.run, **own}


def has_oracle(learner: Learner) -> bool:
    """Whether the router oracle can play what is trained."""
    if not isinstance(learner, RouterLearner):
        return False
    try:
        make_router("oracle", learner.game.spec)
    except ValueError:
        return False
    return True


def reference_settings(settings: RunSettings, router: str) -> RunSettings:
    """The same run by another router."""
    game = settings.game
    if settings.router.startswith(SB3_PREFIX) and game.dealer == "endless":
        game = replace(game, dealer="shuffled")
    return replace(settings, router=router, router_options=(), reference=False, game=game)
