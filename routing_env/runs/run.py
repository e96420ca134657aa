"""A training run: the one loop, its measurements, and its files."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from routing_env.game.build import load_data, resolve
from routing_env.data import MultiTaskData, SplitName, recipe
from routing_env.runs.behaviour import routing_measures
from routing_env.runs.settings import RunConfig
from routing_env.runs.display import Display
from routing_env.runs.learners import RoutedLearner, make_learner
from routing_env.runs.directory import RunDirectory
from routing_env.memory import keep_freed_memory
from routing_env.types import Evaluation


class Run:
    """What is trained, built from settings alone.

    Args:
        config: of the run.
        data: already loaded, to save time.
        learner: in place of the one that the settings name.

    Attributes:
        config: the settings with nothing left open.
        learner: a router with its game, or a baseline.
        epoch: passes completed.
        seconds: spent on training and evaluation, over all resumptions.
    """

    def __init__(
        self, config: RunConfig, data: MultiTaskData | None = None, learner: RoutedLearner | None = None
    ) -> None:
        game = config.game
        if data is None:
            data = load_data(game)
        usual = recipe(data)
        epochs = usual.epochs if config.epochs is None else config.epochs
        threads = (usual.threads or torch.get_num_threads()) if config.threads is None else config.threads
        for name, value in (("epochs", epochs), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        torch.set_num_threads(threads)
        keep_freed_memory()
        self.config = replace(config, epochs=epochs, threads=threads, game=resolve(game, data))
        self.learner = learner or make_learner(self.config, data)
        self.epochs = epochs
        self.epoch = 0
        self.seconds = 0.0

    def train(self, directory: RunDirectory, display: Display) -> None:
        """Train to the last epoch; continue where the directory's checkpoint stands."""
        if not self._restore(directory):
            torch.manual_seed(self.config.game.seed)  # for blocks that draw from torch's own generator, such as dropout
        directory.keep_metrics(self.epoch)
        tick = display.start(self)
        try:
            while self.epoch < self.epochs:
                started = time.perf_counter()
                goal = (self.epoch + 1) * self.learner.pass_size
                self.learner.play(goal - self.learner.samples, tick)
                display.epoch(self.end_epoch(directory, started))
        finally:
            display.stop()

    def end_epoch(self, directory: RunDirectory, started: float) -> dict[str, Any]:
        """Measure, and write down what was measured and where the run stands.

        Args:
            directory: of the run.
            started: when the epoch did, by ``time.perf_counter``.
        """
        self.epoch += 1
        row = self._measure()
        self.seconds += time.perf_counter() - started
        row["seconds"] = round(self.seconds, 3)
        directory.append_metrics(row)
        directory.save_checkpoint(self._state())
        return row

    def evaluate(self, split: SplitName = "test") -> Evaluation:
        """The trained network on a split; a router routes greedily."""
        return self.learner.evaluate(split)

    @property
    def pass_action(self) -> int | None:
        """Index of PASS, where something is routed and there is one."""
        return self.learner.game.network.pass_action if isinstance(self.learner, RoutedLearner) else None

    @property
    def description(self) -> str:
        """What is trained, in a few words."""
        if isinstance(self.learner, RoutedLearner):
            spec = self.learner.game.spec
            return f"{spec.depth} decisions among {spec.actions} actions"
        parameters = sum(parameter.numel() for parameter in self.learner.network.parameters())
        return f"a network of {parameters:,} parameters"

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
        row: dict[str, Any] = {"epoch": self.epoch, "samples": self.learner.samples, "seconds": 0.0}
        row |= self.learner.measures()
        for split in ("validation", "test"):
            if len(getattr(self.learner.data, split)):
                evaluation = self.evaluate(split)
                row[f"{split}_accuracy"] = evaluation.overall_accuracy
                row[f"{split}_balanced_accuracy"] = evaluation.overall_balanced_accuracy
                row[f"{split}_loss"] = evaluation.overall_loss
                if not evaluation.accuracy.isnan().any():
                    row[f"{split}_task_accuracy"] = evaluation.accuracy.tolist()
                if split == "test" and isinstance(self.learner, RoutedLearner):
                    row["test_routes"] = evaluation.routes.tolist()
                    row |= routing_measures(evaluation.routes.numpy(), self.learner.game.spec.legal.cpu().numpy())
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
            self.learner.load_state_dict(state["learner"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{directory.checkpoint_path} does not fit the run's settings: {error}") from error
        self.epoch = int(state["epoch"])
        self.seconds = float(state["seconds"])
        torch.set_rng_state(state["torch_generator"])
        return True


def reference_config(config: RunConfig) -> RunConfig:
    """The same run by the fixed router."""
    return replace(config, router="fixed", router_options=(), reference=False)
