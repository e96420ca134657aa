"""Routing for Stable-Baselines3: a vectorised environment whose sub-environments are lanes of one game.

    env = RoutingVecEnv(data="digits", copies=8)
    model = PPO("MlpPolicy", env, n_steps=12, seed=0).learn(100_000)
    print(env.evaluate(model).overall_accuracy)

One policy serves all tasks; the task is part of what it sees. All lanes share the blocks and end together, so an
algorithm's ``n_steps`` is best a multiple of the depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, ObservationFormat, check_choice
from routing_env.game.build import check_seed
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import Evaluation, Policy, State


class Lane:
    """What Stable-Baselines3 takes for a sub-environment: get_attr, set_attr and env_method reach it.

    Attributes:
        number: of the lane.
        render_mode: of the whole.
    """

    def __init__(self, env: LanesVecEnv, number: int, render_mode: str | None) -> None:
        self.number = number
        self.render_mode = render_mode
        self._env = env

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [A], for MaskablePPO."""
        return self._env.lanes.masks[self.number].astype(np.bool_)

    @property
    def task(self) -> int:
        """Of the sample on the lane; in a RoutingVecEnv always lane % T."""
        return int(self._env.lanes.tasks[self.number])

    @property
    def unwrapped(self) -> Lane:
        """The lane itself."""
        return self


class LanesVecEnv(VecEnv):
    """Lanes as a VecEnv; see :class:`RoutingVecEnv` for the environment with lanes of its own.

    Args:
        lanes: of a game.
        render_mode: "rgb_array" or None.
    """

    def __init__(self, lanes: Lanes, render_mode: str | None = None) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, ["rgb_array"])
        self.lanes = lanes
        self._lane = [Lane(self, number, render_mode) for number in range(lanes.number)]
        self._actions: NDArray[Any] = np.empty(0)
        self._ended: tuple[Any, ...] | None = None
        super().__init__(lanes.number, lanes.format.space(), spaces.Discrete(lanes.spec.actions))
        self.metadata: dict[str, Any] = {**self.metadata, "render_fps": 4}

    @property
    def game(self) -> RoutingGame:
        """What is being played; a seed puts a new one in its place."""
        return self.lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self.lanes.settings

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Start the whole world over from here at the next reset; None draws a seed from NumPy's own generator.

        Raises:
            ValueError: the seed is no integer from 0 to 2**63 - 1.
        """
        return super().seed(None if seed is None else check_seed(seed))

    def reset(self) -> NDArray[np.float32]:
        """Deal the next samples; after :meth:`seed` start the whole world over first."""
        self.lanes.deal(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self._ended = None
        self.reset_infos = self.lanes.infos()
        return self.lanes.vectors

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions, integers [B]."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Apply one block per lane; after the last step the next samples are dealt at once.

        Raises:
            RuntimeError: there was no reset yet.
            ValueError: actions of the wrong shape, type or range.
        """
        lanes = self.lanes
        rewards = lanes.step(self._actions)
        told, over = lanes.infos(), lanes.ends is not None
        self._ended = None
        if over:
            if self.render_mode is not None:
                self._ended = self._progress()
            for info, vector in zip(told, lanes.vectors, strict=True):
                info["terminal_observation"] = vector
                info["TimeLimit.truncated"] = False
            lanes.deal()
            self.reset_infos = lanes.infos()
        return lanes.vectors, rewards, np.full(self.num_envs, over), told

    def evaluate(self, model: BaseAlgorithm, split: SplitName = "test") -> Evaluation:
        """Route a whole split greedily by a model, without training; the deal on its way is not disturbed.

        Raises:
            ValueError: an empty split.
            TypeError: a model without Q-values or a policy distribution.
        """
        return self.game.evaluate(self.policy(model), split)

    def policy(self, model: BaseAlgorithm) -> Policy:
        """The greedy policy of a model, from a :class:`~routing_env.types.State` to legal actions."""
        return greedy(model, self.lanes.format)

    def evaluation_view(self, split: SplitName = "test", copies: int = 1) -> LanesVecEnv:
        """Lanes through the same blocks that train nothing, for EvalCallback: lane b routes samples of task b % T.

        Each task goes through its samples of the split in an order of its own, which a seed does not change. Choose
        models on "validation", report on "test".
        """
        return LanesVecEnv(self.lanes.view(split, copies), self.render_mode)

    def load_game(self, state: Mapping[str, Any]) -> None:
        """Take back what ``game.state_dict()`` returned; a seed that waits for the next reset is forgotten."""
        self.game.load_state_dict(state)
        self._reset_seeds()

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each lane."""
        return [getattr(self._lane[number], attr_name) for number in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each lane."""
        for number in self._get_indices(indices):
            setattr(self._lane[number], attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of each lane."""
        return [getattr(lane, method_name)(*method_args, **method_kwargs) for lane in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No lane is wrapped by anything."""
        return [False for _ in self._chosen(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One routing map of all lanes, which are one game: of the deal under way, or right after it of its end."""
        from routing_env.drawing.deal import picture  # matplotlib is slow to import

        tasks, routes, correct = self._ended or self._progress()
        spec, names = self.lanes.spec, self.game.data.task_names
        title = f"{self.game.samples:,} samples dealt · step {routes.shape[1]} of {spec.depth}"
        return [picture(spec, names, tasks, routes, correct, title=title)]

    def _progress(self) -> tuple[Any, ...]:
        return self.lanes.tasks, self.lanes.routes, self.lanes.correct

    def _chosen(self, indices: Any) -> list[Lane]:
        return [self._lane[number] for number in self._get_indices(indices)]


class RoutingVecEnv(LanesVecEnv):
    """T x copies lanes of one game; lane b routes samples of task b % T.

    With ``copies=1`` and the same actions it is the PettingZoo environment, to the bit.

    Args:
        copies: lanes of each task.
        parts: which of "v", "task" and "depth" an observation has.
        render_mode: "rgb_array" or None.
        settings: see :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        copies: int = 1,
        parts: Sequence[str] = PARTS,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if copies < 1:
            raise ValueError(f"copies is {copies}; it must be at least 1")
        lanes = Lanes.of(settings, copies=copies, parts=parts, also=("copies", "parts", "render_mode"))
        super().__init__(lanes, render_mode)


def greedy(model: BaseAlgorithm, seen: ObservationFormat) -> Policy:
    """The model's most valued legal action; also for models that know no masks, which here lose no route.

    Args:
        model: with Q-values (DQN), or with a policy distribution (PPO, A2C, MaskablePPO, TRPO).
        seen: what the model was trained on; VecNormalize is applied where the model has one.

    Raises:
        TypeError: another kind of model.
    """
    value = values_of(model)

    def choose(state: State) -> Tensor:
        values = value(seen.vectors(state)).to(state.legal.device)
        return values.masked_fill(~state.legal, -torch.inf).argmax(1)

    return choose


def values_of(model: BaseAlgorithm) -> Any:
    """From vectors [B, n] to a number for each action, [B, A]: log-probabilities or Q-values."""
    policy: Any = model.policy
    if hasattr(policy, "q_net"):
        rate = policy.q_net
    elif hasattr(policy, "get_distribution"):

        def rate(observation: Tensor) -> Tensor:
            return policy.get_distribution(observation).distribution.logits
    else:
        raise TypeError(
            f"{type(model).__name__} has neither Q-values nor a policy distribution; use DQN, PPO, A2C or MaskablePPO"
        )

    def values(vectors: NDArray[np.float32]) -> Tensor:
        normalise = model.get_vec_normalize_env()
        given = vectors if normalise is None else normalise.normalize_obs(vectors)
        policy.set_training_mode(False)
        with torch.no_grad():
            return rate(policy.obs_to_tensor(given)[0])

    return values
