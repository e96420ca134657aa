"""Routing as a Gymnasium environment: one router for all tasks (Figure 3a), one sample per episode.

    env = gymnasium.make("routing_env:Routing-v0", data="digits")

An episode routes the next sample of a shuffled pass, of whichever task it is, in exactly D steps and ends by
termination. `reset()` deals the next sample and keeps what the blocks have learned; `reset(seed=s)` starts the whole
world over from s. One sample is too little for a step of SGD: the blocks collect ``block_batch`` routed samples first,
by default the data set's usual batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, Observation, check_choice
from routing_env.game.build import check_seed
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import Evaluation, Policy


class RoutingEnv(gymnasium.Env[Observation, np.int64]):
    """The game with a single lane.

    Args:
        mask: where the action mask is: "info" (the observation is a plain Box), "obs", "both" or "none".
        parts: which of "v", "task" and "depth" an observation has.
        render_mode: "rgb_array", "ansi" or None.
        settings: see :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: an argument out of range.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
    }

    def __init__(
        self,
        *,
        mask: Literal["info", "obs", "both", "none"] = "info",
        parts: Sequence[str] = PARTS,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._lanes = Lanes.of(settings, lanes=1, mask=mask, parts=parts, also=("mask", "parts", "render_mode"))
        self.observation_space = self._lanes.format.space()
        self.action_space = spaces.Discrete(self._lanes.spec.actions)

    @property
    def game(self) -> RoutingGame:
        """What is being played; a seed puts a new one in its place."""
        return self._lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self._lanes.settings

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Deal the next sample.

        Args:
            seed: starts the whole world over from here: blocks, order of the data, history of rewards.
            options: there are none.

        Raises:
            ValueError: a seed that is no integer from 0 to 2**63 - 1; nothing has changed.
        """
        self._lanes.deal(seed)
        super().reset(seed=None if seed is None else check_seed(seed))
        return self._observation(), self._info()

    def step(self, action: int | np.integer[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply a block; the last step scores, rewards, and once in a while trains the blocks.

        Args:
            action: one that is not legal loses the route: the final reward is -1 and nothing of it is trained.

        Raises:
            RuntimeError: no episode is under way.
            ValueError: no integer in [0, A); nothing has changed.
        """
        (reward,) = self._lanes.step(np.asarray(action).reshape(1)).tolist()
        return self._observation(), reward, self._lanes.ends is not None, False, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [A], under the name that MaskablePPO looks for."""
        return self._lanes.masks[0].astype(np.bool_)

    def render(self) -> NDArray[np.uint8] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The route of this episode, as the routing map or in a line of text."""
        if self.render_mode is None:
            gymnasium.logger.warn("render was called without a render_mode; pass one to gymnasium.make")
            return None
        lanes, tasks = self._lanes, self.game.data.task_names
        if self.render_mode == "rgb_array":
            from routing_env.drawing.deal import picture  # matplotlib is slow to import

            title = f"{self.game.samples:,} samples dealt · step {lanes.depth} of {lanes.spec.depth}"
            return picture(lanes.spec, tasks, lanes.tasks, lanes.routes, lanes.correct, title=title)
        names = {-1: "lost", lanes.spec.pass_action: "PASS"}
        name = tasks[lanes.tasks[0]] if len(lanes.tasks) else "no sample yet"
        mark = "" if lanes.correct is None else "right" if lanes.correct[0] else "wrong"
        return f"{name}  {' → '.join(str(names.get(a, a)) for a in lanes.routes[:1].ravel().tolist())}  {mark}".rstrip()

    def evaluate(self, policy: Policy, split: SplitName = "test") -> Evaluation:
        """Route a whole split without training.

        Args:
            policy: from a :class:`~routing_env.types.State` to legal actions int64 [B].
            split: "train", "validation" or "test".
        """
        return self.game.evaluate(policy, split)

    def _observation(self) -> Observation:
        return self._lanes.format.observations(self._lanes.vectors, self._lanes.masks.copy())[0]

    def _info(self) -> dict[str, Any]:
        (info,) = self._lanes.infos()
        if self._lanes.format.in_info:
            info["action_mask"] = self._lanes.masks[0].copy()
        return info
