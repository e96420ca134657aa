"""The files of a run for loops that are not ours: whoever plays a game, it is measured and filed in the same way.

env = RoutingVecEnv(data="digits", copies=6)
model = PPO("MlpPolicy", env, n_steps=15, seed=0)
with Recording(env, "my-ppo", env.policy(model)):
    model.learn(400_000)
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch

from routing_env.data import SplitName
from routing_env.evaluations import Evaluation
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.runs.directory import RunDirectory
from routing_env.runs.learners import GameLearner
from routing_env.runs.run import Run
from routing_env.runs.settings import RunSettings
from routing_env.runs.trackers import TrackerName, require_trackers, tracked
from routing_env.state_dicts import restore
from routing_env.types import Policy, Router, Tick, Trace

SNAPSHOTS_PER_PASS = 20
"""Of the policy; how long the loop will go on is not known."""


class Wrapped(Protocol):
    """A wrapper, or several, around an environment of this package; so is every such environment."""

    @property
    def unwrapped(self) -> Any:
        """The environment itself."""
        ...


class Recorded(Protocol):
    """An environment of this package."""

    @property
    def game(self) -> RoutingGame:
        """What is being played."""
        ...

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        ...


class _WatchedLearner(GameLearner):
    """A game that a third party's loop plays, with its policy for the measurements."""

    def __init__(self, game: RoutingGame, policy: Router | Policy) -> None:
        super().__init__(game, game.dealer.pass_size // SNAPSHOTS_PER_PASS, policy)
        self._policy = policy

    def play(self, samples: int, tick: Tick) -> None:
        """The loop plays by itself."""
        raise RuntimeError("a recorded game is played by the loop that is recorded")

    def evaluate(self, split: SplitName) -> Evaluation:
        """By the loop's own policy."""
        return self.game.evaluate(self._policy, split)

    def state_dict(self) -> dict[str, Any]:
        """Game and monitor; the loop keeps its own learner."""
        return {"game": self.game.state_dict(), "monitor": self.monitor.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore game and monitor.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        restore({"monitor": self.monitor, "game": self.game}, state)


class Recording:
    """Records the run of a loop in ``run_dir/name/<time>-seed<seed>/``: config, metrics, game checkpoint, figures.

    The files are those of ``routing-env train``, so ``routing-env report`` shows the run beside others. There is a row
    of metrics for each pass over the training samples, and one at the end if no pass was completed. If the loop ends by
    an error or Ctrl-C, the completed passes are kept.

    Args:
        env: one of this package's environments, or a wrapper of one; only its game is watched. It must be new, or a
            seed must start its world over before the first deal ends: a run counts from blocks that know nothing.
        name: of the method; runs with the same name and different seeds are one entrant.
        policy: a router, or a function from a :class:`~routing_env.types.State` to legal actions int64 [B], for the
            measurements. The entropy of the exploring policy and the figures of it are left out unless the policy has a
            method ``probability`` from a state to float32 [B, A], as ``env.policy(model)`` has for models with a
            distribution.
        run_dir: folder of all runs.
        log: trackers that also receive the metrics: tensorboard, wandb or mlflow.

    Raises:
        ValueError: a tracker is unknown.
        ModuleNotFoundError: the library of a tracker is missing.
    """

    def __init__(
        self,
        env: Wrapped,
        name: str,
        policy: Router | Policy,
        *,
        run_dir: Path | str = "runs",
        log: Sequence[TrackerName] = (),
    ) -> None:
        require_trackers(log)
        self._env: Recorded = env.unwrapped
        self._log, self._trackers = log, ExitStack()
        self._name, self._policy, self._run_dir = name, policy, Path(run_dir)
        self._directory: RunDirectory | None = None

    @property
    def directory(self) -> RunDirectory:
        """Of the run; it is made when the first pass is complete.

        Raises:
            RuntimeError: it is not yet.
        """
        if self._directory is None:
            raise RuntimeError("there is no run directory yet: the loop has not come to the end of a pass")
        return self._directory

    def __enter__(self) -> Recording:
        self._env.game.observers.append(self._observe)
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._env.game.observers.remove(self._observe)
        with self._trackers:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if error is None and self._learner.samples == self._began:
            raise ValueError(
                "nothing was recorded: no deal of samples has trained the blocks; let the loop play, in an environment "
                "that trains (without split, and with train=True)"
            )
        if error is None and not self._run.epoch:
            self._end_epoch()
        if self._run.epoch:
            try:
                self._run.draw(self.directory)
            except Exception as problem:  # which must not take the place of the loop's own error
                warnings.warn(
                    f"the figures of {self.directory.path} could not be drawn; everything else is there: "
                    f"{type(problem).__name__}: {problem}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _begin(self) -> None:
        """Watch the game that is being played now."""
        game = self._env.game
        own: dict[str, Any] = {
            "router": self._name,
            "epochs": 1,
            "threads": torch.get_num_threads(),
            "reference": False,
        }
        self._learner = _WatchedLearner(game, self._policy)
        self._run = Run(RunSettings(game=self._env.settings, **own), game.data, self._learner)
        self._began, self._started = game.samples, time.perf_counter()

    def _observe(self, trace: Trace) -> None:
        if self._learner.game is not self._env.game:
            if self._run.epoch:
                raise RuntimeError(
                    f"a seed has started the world over after {self._run.epoch} recorded passes; one recording is of "
                    "one world: seed the environment before the first pass, or record each world by itself"
                )
            self._begin()
            self._began = 0
        if self._began:
            raise RuntimeError(
                f"{self._began} samples were dealt before the recording began, and its blocks have learned from them; "
                "record a new environment, or start the world over with a seed first"
            )
        self._learner.monitor(trace)
        if self._learner.samples >= (self._run.epoch + 1) * self._learner.pass_size:
            self._end_epoch()

    def _end_epoch(self) -> None:
        if self._directory is None:
            settings, data = self._run.settings, self._learner.data
            self._directory = RunDirectory.create(self._run_dir, self._name, settings, data, recorded=True)
            self._trackers.enter_context(tracked(self._run, self._directory.path, self._log))
        self._run.end_epoch(self._run.epoch + 1, self._directory, self._started)
        self._directory.write_config(replace(self._run.settings, epochs=self._run.epoch))
        self._started = time.perf_counter()
