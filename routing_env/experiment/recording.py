"""The files of a run for loops that are not ours: whoever plays a game, it is measured and filed in the same way.

env = RoutingVecEnv(data="digits", copies=6)
model = PPO("MlpPolicy", env, n_steps=15, seed=0)
with Recording(env, "my-ppo", env.policy(model)):
    model.learn(400_000)
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch

from routing_env.build import resolve
from routing_env.config import GameConfig
from routing_env.data import SplitName
from routing_env.experiment.config import RunConfig
from routing_env.experiment.learners import RoutedLearner
from routing_env.experiment.plots import save_figures
from routing_env.experiment.recorder import Recorder
from routing_env.experiment.results import RunDirectory
from routing_env.experiment.run import Run
from routing_env.game import RoutingGame
from routing_env.types import Evaluation, Policy, Trace

SNAPSHOTS_PER_PASS = 20
"""Of the policy; how long the loop will go on is not known."""


class Recorded(Protocol):
    """An environment of this package."""

    @property
    def game(self) -> RoutingGame:
        """What is being played."""
        ...

    @property
    def config(self) -> GameConfig:
        """The settings of the game."""
        ...


class _Watched(RoutedLearner):
    """A game that somebody else's loop plays, with its policy for the measurements."""

    def __init__(self, game: RoutingGame, policy: Policy) -> None:
        self.game = game
        self.data = game.data
        self.recorder = Recorder(game.spec, game.dealer.pass_size // SNAPSHOTS_PER_PASS)
        self._policy = policy

    def evaluate(self, split: SplitName) -> Evaluation:
        """By the loop's own policy."""
        return self.game.evaluate(self._policy, split)

    def state_dict(self) -> dict[str, Any]:
        """Game and recorder; the loop keeps its own learner."""
        return {"game": self.game.state_dict(), "recorder": self.recorder.state_dict()}


class Recording:
    """Files a loop's run in ``run_dir/name/<time>-seed<seed>/``: config, metrics, checkpoint of the game, figures.

    One row of metrics for each pass over the training samples, and at the end of a recording with none.

    Args:
        env: one of this package's environments; only its game is watched.
        name: of the run's kind, and of who routes.
        policy: from a :class:`~routing_env.types.State` to legal actions int64 [B], for the measurements.
        run_dir: folder of all runs.

    Attributes:
        directory: of the run.
    """

    def __init__(self, env: Recorded, name: str, policy: Policy, *, run_dir: Path | str = "runs") -> None:
        self._env, self._name, self._policy, self._run_dir = env, name, policy, Path(run_dir)

    def __enter__(self) -> Recording:
        game = self._env.game
        settings = resolve(self._env.config, game.data)
        config = RunConfig(router=self._name, epochs=1, threads=torch.get_num_threads(), reference=False, game=settings)
        self._learner = _Watched(game, self._policy)
        self._run = Run(config, data=game.data, learner=self._learner)
        self.directory = RunDirectory.create(self._run_dir, self._name, config)
        self._observers = [self._learner.recorder, self._observe]
        game.observers += self._observers
        self._began, self._started = game.samples, time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for observer in self._observers:
            self._env.game.observers.remove(observer)
        if error is not None:
            return
        if self._learner.samples == self._began:
            raise ValueError("nothing was recorded: no deal of samples has ended; let the loop play")
        if not self._run.epoch:
            self._end_epoch()
        self.directory.write_config(replace(self._run.config, epochs=self._run.epoch))
        save_figures(self.directory, self._run)

    def _observe(self, _: Trace) -> None:
        if self._learner.game is not self._env.game:  # a seed has started the world over
            self._learner.game, self._began = self._env.game, 0
        if self._learner.samples - self._began >= (self._run.epoch + 1) * self._learner.pass_size:
            self._end_epoch()

    def _end_epoch(self) -> None:
        self._run.end_epoch(self.directory, self._started)
        self._started = time.perf_counter()
