"""The game as a BenchMARL task: MAPPO, IPPO, QMIX, VDN, IQL and the others with discrete actions play it as it is.

    pip install -r examples/requirements/benchmarl.txt -e .

    task = RoutingTask(scenario="planted-3x4")
    experiment = Experiment(task, VdnConfig.get_from_yaml(), MlpConfig.get_from_yaml(), seed=0, config=config)

An experiment evaluates in a second environment, of the validation split, through the blocks that the first one trains.
:mod:`routing_env.runs.benchmarl` runs experiments and files them for our leaderboard.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# BenchMARL is installed in a separate environment, not where the types are checked.

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch
from benchmarl.environments import PettingZooClass
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from routing_env.envs.parallel import RoutingParallelEnv
from routing_env.types import State

GROUP = "task"
"""The one group that all agents are in."""

_WORLDS = count()


class RoutingTask(PettingZooClass):
    """A game with one agent per task, all in one group; a state, which is all observations; and action masks.

    Each experiment has its own world. ``on_policy_n_envs_per_worker`` and ``off_policy_n_envs_per_worker`` of its
    config must be 1, because a second environment would train other blocks or the same ones in turn.

    Args:
        parts: which of "v", "task" and "depth" an observation contains. The meaning of v changes while the blocks
            learn; without it most algorithms learn sooner.
        settings: as for :func:`~routing_env.game.build.make_game`; the seed is the experiment's.

    Attributes:
        world: the environment that trains the blocks of the experiment that was built last; None before the first.
    """

    def __init__(self, *, parts: Sequence[str] = ("task", "depth"), **settings: Any) -> None:
        name = settings.get("scenario") or settings.get("data") or "planted"
        super().__init__(str(name), {"parts": list(parts), **settings})
        self.world: RoutingParallelEnv | None = None
        self._validates = True

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Callable[[], Any]:
        """Make the environments of an experiment, which asks first for the one to evaluate in, then for the other.

        Raises:
            TypeError: unknown setting; the message suggests the closest match.
            ValueError: a setting is out of range, or the experiment wants several environments to train in.
        """
        given: dict[str, Any] = self.config if seed is None else {**self.config, "seed": seed}
        if self._validates:
            name = f"benchmarl-{next(_WORLDS)}"
            self.world = RoutingParallelEnv(mask="info", world=name, **given)
            env = RoutingParallelEnv(mask="info", world=name, split="validation", **given)
        else:
            if num_envs != 1:
                raise ValueError(
                    f"the experiment wants {num_envs} environments to train in, and one trains the blocks; set "
                    "on_policy_n_envs_per_worker and off_policy_n_envs_per_worker to 1"
                )
            env = self.world
        self._validates = not self._validates
        return lambda: PettingZooWrapper(env, return_state=True, categorical_actions=True, device=device)

    def supports_continuous_actions(self) -> bool:
        """Return False."""
        return False

    def supports_discrete_actions(self) -> bool:
        """Return True: an action is the choice of a block."""
        return True

    def has_state(self) -> bool:
        """Return True: the state is all observations side by side."""
        return True

    def has_render(self, env: Any) -> bool:
        """Return False; ``Recording`` draws the routing map of a training."""
        return False

    def max_steps(self, env: Any) -> int:
        """Return D, the length of every episode."""
        assert self.world is not None
        return self.world.game.spec.depth

    @staticmethod
    def env_name() -> str:
        """Return the name that BenchMARL writes to its files."""
        return "routing"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the world: BenchMARL pickles its task beside the results."""
        return {**vars(self), "world": None, "_validates": True}


class GroupPolicy:
    """The policy of an experiment without exploration, as a function from a State to actions int64 [B].

    Args:
        experiment: of a :class:`RoutingTask`.

    Raises:
        TypeError: the experiment is of another task, or its model is recurrent: a decision is read from one state.
    """

    def __init__(self, experiment: Any) -> None:
        task = experiment.task
        if not isinstance(task, RoutingTask) or task.world is None:
            raise TypeError(f"the task of the experiment is {task!r}; it must be a RoutingTask that it was built with")
        if experiment.algorithm.has_rnn:
            raise TypeError("the model is recurrent, and decisions are read from one state each; use another one")
        self._policy = experiment.algorithm.get_policy_for_loss(GROUP)
        self._format, self._tasks = task.world.lanes.format, task.world.game.spec.tasks

    @torch.no_grad()
    def __call__(self, state: State) -> Tensor:
        """Route lanes of different tasks together, as in an episode, because models may look at several agents."""
        order = state.task.argsort(stable=True)
        number = state.task.bincount(minlength=self._tasks)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) - (number.cumsum(0) - number)[state.task[order]]
        shape = (int(number.max()), self._tasks)
        vectors = torch.from_numpy(self._format.vectors(state))
        seen = vectors.new_zeros(*shape, vectors.shape[1])
        legal = torch.ones(*shape, state.legal.shape[1], dtype=torch.bool)
        seen[place, state.task], legal[place, state.task] = vectors, state.legal.cpu()
        group = TensorDict({"observation": seen, "action_mask": legal}, shape)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            actions = self._policy(TensorDict({GROUP: group}, shape[:1]))[GROUP, "action"]
        return actions[place, state.task].to(state.task.device)
