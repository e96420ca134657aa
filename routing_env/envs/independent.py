"""Independent learners: a separate Stable-Baselines3 model for every task, all learning at the same time on one game.

    envs = independent_envs(data="digits")
    models = [DQN("MlpPolicy", env) if env.task < 5 else PPO("MlpPolicy", env, n_steps=30) for env in envs]
    learn_together(models, 10_000)
    print(evaluate_together(models).overall_accuracy)

Each model owns its training loop and therefore runs in its own thread. Only one thread runs at a time, in the order of
the tasks, so the same seeds give the same result. When the last model has chosen, the game takes its step.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import Tensor

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, read_action
from routing_env.envs.sb3_policies import ModelPolicy, values_of, warn_of_untrained_blocks
from routing_env.evaluations import Evaluation
from routing_env.game.build import check_seed
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import State

Vector = NDArray[np.float32]
_Shown = tuple[Vector, float, bool, bool, dict[str, Any]]


class TaskEnv(gymnasium.Env[Vector, np.int64]):
    """The view that one task's agent has of a game that all agents play together; made by :func:`independent_envs`.

    Attributes:
        task: number of the agent's task.
        turns: the game and the order of play, shared by all agents.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, turns: TurnTaking, task: int) -> None:
        self.turns = turns
        self.task = task
        self.render_mode = None
        self.observation_space = turns.lanes.format.space()
        self.action_space = spaces.Discrete(turns.lanes.spec.actions)

    @property
    def game(self) -> RoutingGame:
        """The game that all agents play."""
        return self.turns.lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self.turns.lanes.settings

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Return the task's next sample, which was dealt together with those of all other tasks.

        Args:
            seed: seeds only this environment's own generator; pass the seed of the world to :func:`independent_envs`.
            options: Ignored; present for the Gymnasium API.

        Raises:
            RuntimeError: called outside :func:`learn_together`, or in the middle of an episode.
            ValueError: the seed is not an integer from 0 to 2**63 - 1.
        """
        super().reset(seed=None if seed is None else check_seed(seed))
        self.turns.check(self.task)
        if self.turns.lanes.depth:
            raise RuntimeError(f"task_{self.task} resets in the middle of an episode, which all agents end together")
        return self.turns.lanes.vectors[self.task], {}

    def step(self, action: int | np.integer[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Choose a block and wait until all have chosen theirs.

        Raises:
            RuntimeError: called outside :func:`learn_together`.
            ValueError: the action is not an integer in the action space.
        """
        self.turns.check(self.task)
        return self.turns.choose(self.task, read_action(f"task_{self.task}", action, self.turns.lanes.spec.actions))

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [A]; MaskablePPO looks for a method of this name.

        Raises:
            RuntimeError: nothing has been dealt yet.
        """
        return self.turns.lanes.legal()[self.task].copy()


class TurnTaking:
    """Lets the agents act one after the other; after each round the game takes a step.

    Args:
        lanes: one lane per task.
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
        """Run one loop per agent to its end; the first error in any loop ends them all.

        Args:
            loops: for each task, a loop that steps the environment of the task.
            afterwards: for each task, a function that chooses its actions once its loop has ended while others go on.
        """
        self._afterwards = afterwards
        self._playing, self._error, self._whose = list(range(len(loops))), None, 0
        self.lanes.deal()
        threads_of_torch = torch.get_num_threads()

        def agent(task: int) -> None:
            torch.set_num_threads(threads_of_torch)  # torch keeps this setting per thread
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
        except BaseException as error:  # an interrupt while this thread waits
            self._end(error)
            raise
        finally:
            self._whose = None
        if self._error is not None:
            raise self._error

    def check(self, task: int) -> None:
        """Check that it is the task's turn.

        Raises:
            RuntimeError: it is not.
        """
        if self._whose != task:
            raise RuntimeError("the agents of one game cannot play by themselves; train them with learn_together")

    def choose(self, task: int, action: int) -> _Shown:
        """Choose the task's action, and return what its environment's step returns once the game has taken the step."""
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
        """Take a step of the game; the last step of an episode also deals the next samples."""
        lanes = self.lanes
        for task in set(range(lanes.number)).difference(self._playing):
            self._actions[task] = self._afterwards[task]()
        rewards, told = lanes.step(self._actions).tolist(), lanes.infos()
        over, vectors = lanes.ends is not None, lanes.vectors
        self._shown = [(vectors[task], rewards[task], over, False, told[task]) for task in range(lanes.number)]
        if over:
            lanes.deal()


class _Ended(Exception):  # noqa: N818 (not an error by itself)
    """Ends a loop because another one has raised."""


def independent_envs(
    *,
    parts: Sequence[str] = PARTS,
    **settings: Any,
) -> list[TaskEnv]:
    """Make one environment per task, all of one game.

    Args:
        parts: which of "v", "task" and "depth" an observation contains.
        settings: as for :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: unknown setting; the message suggests the closest match.
        ValueError: an argument or setting is out of range.
    """
    turns = TurnTaking(Lanes.of(settings, parts=parts, also=("parts",)))
    return [TaskEnv(turns, task) for task in range(turns.lanes.number)]


def learn_together(
    models: Sequence[BaseAlgorithm],
    total_timesteps: int,
    *,
    callback: MaybeCallback = None,
    callback_of: Callable[[int], MaybeCallback] | None = None,
    tb_log_name: str | None = None,
    progress_bar: bool = False,
    **arguments: Any,
) -> None:
    """Let the models of all tasks learn at the same time.

    Algorithms round ``total_timesteps`` up differently. A model that ends early goes on routing its task greedily,
    without learning, until the last one has ended.

    Args:
        models: one for each environment of :func:`independent_envs`, in any order.
        total_timesteps: number of steps for each model.
        callback: as for ``learn``. Each model gets its own deep copy; a plain function is called by all models.
        callback_of: from a task's number to the callback of its model; for callbacks that write files or that you want
            to read afterwards.
        tb_log_name: the log of each model is named after it (by default after the algorithm) and the task.
        progress_bar: show one bar for all models.
        arguments: further arguments of ``learn``, the same for all models.

    Raises:
        ValueError: a task has no model or two, the environments belong to different games, or ``callback`` cannot serve
            several models.
        TypeError: a model's ``learn`` does not have one of the arguments, or the model cannot be read, see
            :class:`~routing_env.envs.sb3_policies.ModelPolicy`; nothing has learned.
        BaseException: the error that a model raised, after all models have ended.
    """
    turns, models = _in_order(models)
    if callback is not None and callback_of is not None:
        raise ValueError("callback and callback_of are both given; give one of them")
    own = callback_of or (lambda task: _copied(callback))
    calls: list[dict[str, Any]] = []
    for task, model in enumerate(models):
        log = {"tb_log_name": f"{tb_log_name or type(model).__name__}_task_{task}"}
        shared = {"progress_bar": progress_bar and task == 0, **arguments}
        calls.append({"callback": own(task), **log, **shared})
        inspect.signature(model.learn).bind(total_timesteps, **calls[task])
    for model in models:
        ModelPolicy(model, turns.lanes.format)  # refuses what could not go on routing when its loop has ended
        model._last_obs = None  # pyright: ignore[reportPrivateUsage]  # from a deal that has long ended
    values = [values_of(model) for model in models]
    turns.run(
        [
            lambda model=model, call=call: model.learn(total_timesteps, **call)
            for model, call in zip(models, calls, strict=True)
        ],
        [lambda task=task: _greedy_action(turns.lanes, task, values[task]) for task in range(len(models))],
    )


def _copied(callback: MaybeCallback) -> MaybeCallback:
    """A model's own copy of a callback that was given once for all models.

    Raises:
        ValueError: it plays one environment, writes to one path, or cannot be copied.
    """
    waiting: list[Any] = [callback]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, BaseCallback):
            inner = vars(one)
            waiting += [inner.get(name) for name in ("callback", "callbacks", "callback_on_new_best")]
            if isinstance(one, ProgressBarCallback):
                raise ValueError("only one progress bar can be shown at a time; give progress_bar=True instead")
            for name, does in (("eval_env", "evaluates in one environment"), ("save_path", "writes to one path")):
                if inner.get(name) is not None:
                    raise ValueError(
                        f"{type(one).__name__} {does}, which the models of all tasks would share; give each model its "
                        "own with callback_of=lambda task: ..., or call evaluate_together between calls of "
                        "learn_together"
                    )
    try:
        return copy.deepcopy(callback)
    except Exception as error:
        raise ValueError(
            f"the callback cannot be copied for each model ({error}); give each its own with "
            "callback_of=lambda task: ..."
        ) from error


def evaluate_together(models: Sequence[BaseAlgorithm], split: SplitName = "test") -> Evaluation:
    """Route a whole split without training; each task's model routes its samples greedily.

    Args:
        models: as in :func:`learn_together`.
        split: "train", "validation" or "test".

    Raises:
        ValueError: a task has no model or two, the environments belong to different games, or the split is empty.
        TypeError: a model cannot be read, see :class:`~routing_env.envs.sb3_policies.ModelPolicy`.
    """
    turns, models = _in_order(models)
    policies = [ModelPolicy(model, turns.lanes.format) for model in models]
    warn_of_untrained_blocks(models[0], turns.lanes.game, stacklevel=2)

    def choose(state: State) -> Tensor:
        action = torch.zeros_like(state.task)
        for task, policy in enumerate(policies):
            rows = (state.task == task).nonzero()[:, 0]
            if len(rows):
                own = State(state.v[rows], state.task[rows], state.depth, state.legal[rows])
                action[rows] = policy(own)
        return action

    return turns.lanes.game.evaluate(choose, split)


def _in_order(models: Sequence[BaseAlgorithm]) -> tuple[TurnTaking, list[BaseAlgorithm]]:
    """The game that the models share, and the models in the order of their tasks."""
    games: set[TurnTaking] = set()
    by_task: dict[int, BaseAlgorithm] = {}
    for model in models:
        env = model.get_env()
        games.add(cast(Any, env).get_attr("turns")[0])
        by_task[cast(Any, env).get_attr("task")[0]] = model
    number = {game.lanes.number for game in games}
    if len(games) != 1 or number != {len(models)} or len(by_task) != len(models):
        raise ValueError(
            f"{len(models)} models for {len(by_task)} tasks of {len(games)} games; there must be one model for each "
            "environment of one call of independent_envs"
        )
    return games.pop(), [by_task[task] for task in sorted(by_task)]


def _greedy_action(lanes: Lanes, task: int, values: Callable[[Vector, int], Tensor]) -> int:
    rated = values(lanes.vectors[task : task + 1], lanes.depth)[0].cpu().numpy()
    return int(np.where(lanes.masks[task], rated, -np.inf).argmax())
