"""Independent learners: a Stable-Baselines3 model of its own for every task, all learning at the same time on one game.

    envs = independent_envs(data="digits")
    models = [DQN("MlpPolicy", env) if env.task < 5 else PPO("MlpPolicy", env, n_steps=30) for env in envs]
    learn_together(models, 10_000)
    print(evaluate_together(models).overall_accuracy)

Each model runs in a thread of its own, since it owns its loop, but only one of them at a time and always in the order
of the tasks: the same seeds give the same result. When the last of them has chosen, the game takes its step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS
from routing_env.envs.sb3 import greedy, values_of
from routing_env.game.build import check_seed
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import Evaluation, State

Vector = NDArray[np.float32]
_Shown = tuple[Vector, float, bool, bool, dict[str, Any]]


class TaskEnv(gymnasium.Env[Vector, np.int64]):
    """What the agent of one task sees of a game that all agents play together; made by :func:`independent_envs`.

    Attributes:
        task: the agent's.
        table: where the agents meet.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, table: Table, task: int) -> None:
        self.table = table
        self.task = task
        self.render_mode = None
        self.observation_space = table.lanes.format.space()
        self.action_space = spaces.Discrete(table.lanes.spec.actions)

    @property
    def game(self) -> RoutingGame:
        """What all are playing."""
        return self.table.lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self.table.lanes.settings

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """The next sample of the task, which is dealt with those of all others.

        Args:
            seed: of this space's samples alone; the world's is given where the environments are made.
            options: there are none.

        Raises:
            RuntimeError: outside of :func:`learn_together`, or in the middle of an episode.
            ValueError: a seed that is no integer from 0 to 2**63 - 1.
        """
        super().reset(seed=None if seed is None else check_seed(seed))
        self.table.check(self.task)
        if self.table.lanes.depth:
            raise RuntimeError(f"task_{self.task} resets in the middle of an episode, which all agents end together")
        return self.table.lanes.vectors[self.task], {}

    def step(self, action: int | np.integer[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Choose a block and wait until all have chosen theirs.

        Raises:
            RuntimeError: outside of :func:`learn_together`.
        """
        self.table.check(self.task)
        return self.table.choose(self.task, int(action))

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [A], under the name that MaskablePPO looks for."""
        return self.table.lanes.masks[self.task].astype(np.bool_)


class Table:
    """Where the agents meet: a turn that goes round, and a step of the game after each round.

    Args:
        lanes: one for each task.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self._turn = threading.Condition()
        self._whose: int | None = None
        self._playing: list[int] = []
        self._error: BaseException | None = None
        self._actions = np.zeros(lanes.number, np.int64)
        self._shown: list[_Shown] = []

    def run(self, loops: Sequence[Callable[[], object]], afterwards: Sequence[Callable[[], int]]) -> None:
        """Run one loop for each agent to the end; the first error of any ends them all.

        Args:
            loops: each steps the environment of its task.
            afterwards: the action of each task once its loop has ended and others still go on.
        """
        self._afterwards = afterwards
        self._playing, self._error, self._whose = list(range(len(loops))), None, 0
        self.lanes.deal()
        threads_of_torch = torch.get_num_threads()

        def agent(task: int) -> None:
            torch.set_num_threads(threads_of_torch)  # every thread has a number of its own
            try:
                self._wait(task)
                loops[task]()
                self._pass_on(task, leaves=True)
            except BaseException as error:
                self._end(error)

        threads = [threading.Thread(target=agent, args=(task,), daemon=True) for task in self._playing]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interrupt of those who wait here
            self._end(error)
            raise
        finally:
            self._whose = None
        if self._error is not None:
            raise self._error

    def check(self, task: int) -> None:
        """Raise unless it is the task's turn.

        Raises:
            RuntimeError: it is not.
        """
        if self._whose != task:
            raise RuntimeError("agents of one game cannot play by themselves; train them with learn_together")

    def choose(self, task: int, action: int) -> _Shown:
        """Leave an action and wait for what comes of it."""
        self._actions[task] = action
        self._pass_on(task)
        self._wait(task)
        return self._shown[task]

    def _wait(self, task: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._error is not None or self._whose == task)
            if self._error is not None:
                raise _Ended

    def _pass_on(self, task: int, *, leaves: bool = False) -> None:
        with self._turn:
            if leaves:
                self._playing.remove(task)
            later = [other for other in self._playing if other > task]
            if not later and self._playing:
                self._step()
                later = self._playing
            self._whose = later[0] if later else None
            self._turn.notify_all()

    def _end(self, error: BaseException) -> None:
        with self._turn:
            self._error = self._error or error
            self._turn.notify_all()

    def _step(self) -> None:
        """The game's step; after the last one the next samples are dealt at once."""
        lanes = self.lanes
        for task in set(range(lanes.number)).difference(self._playing):
            self._actions[task] = self._afterwards[task]()
        rewards, told = lanes.step(self._actions).tolist(), lanes.infos()
        over, vectors = lanes.ends is not None, lanes.vectors
        self._shown = [(vectors[task], rewards[task], over, False, told[task]) for task in range(lanes.number)]
        if over:
            lanes.deal()


class _Ended(Exception):  # noqa: N818 (nothing has gone wrong here)
    """Somebody else's error ends this loop too."""


def independent_envs(
    *,
    parts: Sequence[str] = PARTS,
    **settings: Any,
) -> list[TaskEnv]:
    """One environment for each task, all of one game.

    Args:
        data: as for RoutingVecEnv, like the others; but there is one lane per task and nothing to see, so neither
            ``copies`` nor ``render_mode``.
        network: likewise.
        loss: likewise.
        parts: likewise.
        settings: likewise.
    """
    table = Table(Lanes.of(settings, parts=parts, also=("parts",)))
    return [TaskEnv(table, task) for task in range(table.lanes.number)]


def learn_together(models: Sequence[BaseAlgorithm], total_timesteps: int, **arguments: Any) -> None:
    """Let the models of all tasks learn at the same time.

    A model whose algorithm ends early (they round ``total_timesteps`` up differently) goes on routing its task
    greedily, without learning, until the last one has ended.

    Args:
        models: one for each environment of :func:`independent_envs`, in any order.
        total_timesteps: of each.
        arguments: others of ``learn``.

    Raises:
        ValueError: a task without a model or with two, or environments of different games.
        BaseException: what a model raises, once all have ended.
    """
    table, models = _seated(models)
    for model in models:
        model._last_obs = None  # pyright: ignore[reportPrivateUsage]  # of a deal that is long over
    table.run(
        [lambda model=model: model.learn(total_timesteps, **arguments) for model in models],
        [lambda task=task, model=model: _greedy_action(table.lanes, task, model) for task, model in enumerate(models)],
    )


def evaluate_together(models: Sequence[BaseAlgorithm], split: SplitName = "test") -> Evaluation:
    """Route a whole split greedily, each task by its own model, without training."""
    table, models = _seated(models)
    policies = [greedy(model, table.lanes.format) for model in models]

    def choose(state: State) -> Tensor:
        action = torch.zeros_like(state.task)
        for task, policy in enumerate(policies):
            rows = (state.task == task).nonzero()[:, 0]
            if len(rows):
                own = State(state.v[rows], state.task[rows], state.depth, state.legal[rows])
                action[rows] = policy(own)
        return action

    return table.lanes.game.evaluate(choose, split)


def _seated(models: Sequence[BaseAlgorithm]) -> tuple[Table, list[BaseAlgorithm]]:
    """The table of the models, and the models in the order of their tasks."""
    tables: set[Table] = set()
    by_task: dict[int, BaseAlgorithm] = {}
    for model in models:
        env = model.get_env()
        tables.add(cast(Any, env).get_attr("table")[0])
        by_task[cast(Any, env).get_attr("task")[0]] = model
    number = {table.lanes.number for table in tables}
    if len(tables) != 1 or number != {len(models)} or len(by_task) != len(models):
        raise ValueError(
            f"{len(models)} models for {len(by_task)} tasks of {len(tables)} games; there must be one model for each "
            "environment of one call of independent_envs"
        )
    return tables.pop(), [by_task[task] for task in sorted(by_task)]


def _greedy_action(lanes: Lanes, task: int, model: BaseAlgorithm) -> int:
    values = values_of(model)(lanes.vectors[task : task + 1])[0].cpu().numpy()
    return int(np.where(lanes.masks[task], values, -np.inf).argmax())
