"""A training run: the one loop, its measurements, and its files."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from routing_env.agents import make_router
from routing_env.build import make_game, resolve
from routing_env.data import MultiTaskData, load, recipe
from routing_env.experiment.config import RunConfig, parse_options
from routing_env.experiment.display import Display
from routing_env.experiment.recorder import Recorder
from routing_env.experiment.results import RunDirectory
from routing_env.game import RoutingGame
from routing_env.types import Evaluation, Router, State

FINEST_SNAPSHOTS = 2000
"""The first snapshots of the policy are this share of a run apart."""


class Run:
    """A game, a router and a recorder, built from settings alone.

    Args:
        config: of the run.
        data: already loaded, to save time.

    Attributes:
        config: the settings with nothing left open.
        epoch: passes completed.
        seconds: spent on training and evaluation, over all resumptions.
    """

    def __init__(self, config: RunConfig, data: MultiTaskData | None = None) -> None:
        game = config.game
        if data is None:
            data = load(game.data, data_dir=game.data_dir, validation=game.validation, seed=game.seed)
        usual = recipe(data)
        epochs = usual.epochs if config.epochs is None else config.epochs
        threads = (usual.threads or torch.get_num_threads()) if config.threads is None else config.threads
        for name, value in (("epochs", epochs), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        torch.set_num_threads(threads)
        self.config = replace(config, epochs=epochs, threads=threads, game=resolve(game, data))
        self.game: RoutingGame = make_game(self.config.game, data=data)
        options = parse_options(config.router_options)
        self.router: Router = make_router(config.router, self.game.spec, seed=game.seed, **options)
        self.recorder = Recorder(self.game.spec, epochs * self.game.dealer.pass_size // FINEST_SNAPSHOTS)
        self.game.observers.append(self.recorder)
        self.epochs = epochs
        self.epoch = 0
        self.seconds = 0.0

    def train(self, directory: RunDirectory, display: Display) -> None:
        """Train to the last epoch; continue where the directory's checkpoint stands."""
        if not self._restore(directory):
            torch.manual_seed(self.config.game.seed)  # for blocks that draw from torch's own generator, such as dropout
        observer = display.start(self)
        self.game.observers.append(observer)
        try:
            while self.epoch < self.epochs:
                started = time.perf_counter()
                goal = (self.epoch + 1) * self.game.dealer.pass_size
                self.router.play(self.game, goal - self.game.samples)
                self.epoch += 1
                row = self._measure()
                self.seconds += time.perf_counter() - started
                row["seconds"] = round(self.seconds, 3)
                directory.append_metrics(row)
                directory.save_checkpoint(self._state())
                display.epoch(row)
        finally:
            self.game.observers.remove(observer)
            display.stop()

    def evaluate(self, split: Any = "test") -> Evaluation:
        """The greedy router on a split."""

        def greedy(state: State) -> Tensor:
            return self.router.act(state, greedy=True).action

        return self.game.evaluate(greedy, split)

    def restore(self, directory: RunDirectory) -> None:
        """Take the state of a run that has come to a checkpoint.

        Raises:
            FileNotFoundError: it has not.
        """
        if not self._restore(directory):
            raise FileNotFoundError(
                f"{directory.path} has no checkpoint yet; continue it with routing-env train --resume {directory.path}"
            )

    def _measure(self) -> dict[str, Any]:
        row: dict[str, Any] = {"epoch": self.epoch, "samples": self.game.samples, "seconds": 0.0}
        row |= self.recorder.drain()
        for split in ("validation", "test"):
            if len(self.game.data.validation) or split == "test":
                evaluation = self.evaluate(split)
                row[f"{split}_accuracy"] = evaluation.overall_accuracy
                row[f"{split}_balanced_accuracy"] = evaluation.overall_balanced_accuracy
                row[f"{split}_loss"] = evaluation.overall_loss
        row["policy_entropy"] = self.recorder.entropy()
        row["learning_rate"] = self.game.trainer.learning_rate
        return row | {f"router_{name}": value for name, value in self.game.drain_log().items()}

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "game": self.game.state_dict(),
            "router": self.router.state_dict(),
            "recorder": self.recorder.state_dict(),
            "torch_generator": torch.get_rng_state(),
        }

    def _restore(self, directory: RunDirectory) -> bool:
        state = directory.load_checkpoint()
        if state is None:
            directory.keep_metrics(0)
            return False
        try:
            self.game.load_state_dict(state["game"])
            self.router.load_state_dict(state["router"])
            self.recorder.load_state_dict(state["recorder"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{directory.checkpoint_path} does not fit the run's settings: {error}") from error
        self.epoch = int(state["epoch"])
        self.seconds = float(state["seconds"])
        torch.set_rng_state(state["torch_generator"])
        directory.keep_metrics(self.epoch)
        return True


def reference_config(config: RunConfig) -> RunConfig:
    """The same run by the fixed router."""
    return replace(config, router="fixed", router_options=(), reference=False)
