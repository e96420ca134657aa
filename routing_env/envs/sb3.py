"""Routing for Stable-Baselines3: a vectorised environment whose sub-environments are lanes of one game.

    env = RoutingVecEnv(data="digits", copies=6, final_reward="negative_loss", parts=("task", "depth"))
    model = PPO("MlpPolicy", env, n_steps=15, batch_size=300, n_epochs=4, gamma=1.0, gae_lambda=1.0, learning_rate=3e-3)
    model.learn(400_000)
    print(env.evaluate(model).overall_accuracy)

One policy serves all tasks; the task is part of the observation. All lanes share the blocks and end together, so the
``n_steps`` of an algorithm should be a multiple of the depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, check_choice
from routing_env.envs.shell import Progress, Shell
from routing_env.game.build import check_seed
from routing_env.names import as_integer, require


class Lane:
    """A lane, presented to Stable-Baselines3 as a sub-environment; get_attr, set_attr and env_method reach it.

    Attributes:
        number: position of the lane, from 0.
        render_mode: that of the whole environment.
    """

    def __init__(self, lanes: Lanes, number: int, render_mode: str | None) -> None:
        self.number = number
        self.render_mode = render_mode
        self._lanes = lanes  # not the environment: a cycle of references would keep worlds alive

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [A]; MaskablePPO looks for a method of this name.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return self._lanes.legal()[self.number].copy()

    @property
    def task(self) -> int:
        """The task of the lane's sample; in a RoutingVecEnv it is always lane % T.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        self._lanes.refuse_without_deal("task")
        return int(self._lanes.tasks[self.number])

    @property
    def unwrapped(self) -> Lane:
        """The lane itself."""
        return self


class LanesVecEnv(Shell, VecEnv):
    """A VecEnv over existing lanes; :class:`RoutingVecEnv` builds its own game and lanes.

    Args:
        lanes: the lanes of a game.
        render_mode: "rgb_array" or None.
    """

    def __init__(self, lanes: Lanes, render_mode: str | None = None) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, ["rgb_array"])
        self.lanes = lanes
        self._lane = [Lane(lanes, number, render_mode) for number in range(lanes.number)]
        self._actions: NDArray[Any] = np.empty(0)
        self._ended: Progress | None = None
        super().__init__(lanes.number, lanes.format.space(), spaces.Discrete(lanes.spec.actions))
        self.metadata: dict[str, Any] = {**self.metadata, "render_fps": 4}

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Restart the whole world at the next reset; None draws a seed from NumPy's global generator.

        Raises:
            ValueError: the seed is not an integer from 0 to 2**63 - 1.
        """
        return super().seed(None if seed is None else check_seed(seed))

    def reset(self) -> NDArray[np.float32]:
        """Deal the next samples, float32 [B, n]; the first reset after :meth:`seed` restarts the whole world."""
        self.lanes.deal(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self._ended = None
        self.reset_infos = self.lanes.infos()
        return self.lanes.vectors

    def step_async(self, actions: NDArray[Any]) -> None:
        """Store the actions, integers [B], for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Apply one block per lane; the last step of an episode also deals the next samples.

        Returns:
            Observations float32 [B, n], rewards float32 [B], dones bool [B] and one info per lane.

        Raises:
            RuntimeError: the environment has not been reset yet.
            ValueError: the actions have the wrong shape, type or range; nothing has changed.
        """
        lanes = self.lanes
        rewards = lanes.step(self._actions)
        told, over = lanes.infos(), lanes.ends is not None
        self._ended = None
        if over:
            if self.render_mode is not None:
                self._ended = self._progress
            for info, vector in zip(told, lanes.vectors, strict=True):
                info["terminal_observation"] = vector
                info["TimeLimit.truncated"] = False
            lanes.deal()
            self.reset_infos = lanes.infos()
        return lanes.vectors, rewards, np.full(self.num_envs, over), told

    def evaluation_view(self, split: SplitName = "test", copies: int = 1) -> LanesVecEnv:
        """An environment for EvalCallback: lanes through the same blocks that train nothing.

        Lane b routes samples of task b % T. Each task goes through its samples of the split in a fixed order, which no
        seed changes. Select models on "validation" and report on "test".

        Args:
            split: "train", "validation" or "test".
            copies: lanes per task.
        """
        return LanesVecEnv(self.lanes.view(split, copies), self.render_mode)

    def load_game(self, state: Mapping[str, Any]) -> None:
        """Restore the game from ``game.state_dict()``; a seed set for the next reset is discarded.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        self.game.load_state_dict(state)
        self.forget_seed()

    def forget_seed(self) -> None:
        """Discard a seed that was set for the next reset."""
        self._reset_seeds()

    def close(self) -> None:
        """Leave the world, whose name is free once no environment trains it."""
        self.lanes.close()

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
        """False for each lane; lanes are never wrapped."""
        return [False for _ in self._chosen(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One routing map of all lanes: of the current deal, or of the complete routes right after a deal has ended."""
        shown = self._ended or self._progress
        title = f"{self.game.samples:,} samples dealt · step {shown[1].shape[1]} of {self.lanes.spec.depth}"
        return [self._picture(title, shown)]

    def _chosen(self, indices: Any) -> list[Lane]:
        return [self._lane[number] for number in self._get_indices(indices)]


class RoutingVecEnv(LanesVecEnv):
    """T x copies lanes of one game; lane b routes samples of task b % T.

    With ``copies=1`` and the same actions it is bit-identical to the PettingZoo environment.

    Args:
        copies: lanes per task.
        parts: which of "v", "task" and "depth" an observation contains.
        render_mode: "rgb_array" or None.
        settings: as for :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: unknown setting; the message suggests the closest match.
        ValueError: an argument or setting is out of range.
    """

    def __init__(
        self,
        *,
        copies: int = 1,
        parts: Sequence[str] = PARTS,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        require("copies", copies, (as_integer(copies) or 0) >= 1, "an integer of at least 1")
        lanes = Lanes.of(settings, copies=copies, parts=parts, also=("copies", "parts", "render_mode"))
        super().__init__(lanes, render_mode)
