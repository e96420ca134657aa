"""Routing as a Gymnasium environment: one router for all tasks (Figure 3a), one sample per episode.

    env = gymnasium.make("routing_env:Routing-v0", data="digits")

An episode routes the next sample of a shuffled pass, whatever its task, in exactly D steps and ends by termination.
`reset()` deals the next sample and keeps what the blocks have learned; `reset(seed=s)` restarts the whole world. One
sample is too little for a step of SGD, so the blocks first collect ``block_batch`` routed samples, by default the usual
batch of the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, Observation, check_choice, read_action
from routing_env.envs.shell import Shell
from routing_env.game.build import check_seed
from routing_env.names import printable


class RoutingEnv(Shell, gymnasium.Env[Observation, np.int64]):
    """The game with a single lane.

    Args:
        mask: where the action mask is: "info" (the observation is a plain Box), "obs", "both" or "none".
        parts: which of "v", "task" and "depth" an observation contains.
        render_mode: "rgb_array", "ansi" or None.
        settings: as for :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: unknown setting; the message suggests the closest match.
        ValueError: an argument or setting is out of range.
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
        self.lanes = Lanes.of(settings, lanes=1, mask=mask, parts=parts, also=("mask", "parts", "render_mode"))
        self.observation_space = self.lanes.format.space()
        self.action_space = spaces.Discrete(self.lanes.spec.actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Deal the next sample.

        Args:
            seed: restarts the whole world: new blocks, a new order of the data, an empty history of rewards.
            options: Ignored; present for the Gymnasium API.

        Raises:
            ValueError: the seed is not an integer from 0 to 2**63 - 1; nothing has changed.
        """
        self.lanes.deal(seed)
        super().reset(seed=None if seed is None else check_seed(seed))
        return self._observation(), self._info()

    def step(self, action: int | np.integer[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one block; the last step scores the route and pays the final reward.

        The blocks are trained when ``block_batch`` samples have been routed.

        Args:
            action: an integer in [0, A). An illegal action loses the route: the final reward is -1 and the route trains
                no block.

        Raises:
            RuntimeError: no episode is in progress.
            ValueError: the action is not an integer in [0, A); nothing has changed.
        """
        chosen = read_action("router_0", action, self.lanes.spec.actions)
        (reward,) = self.lanes.step([chosen]).tolist()
        return self._observation(), reward, self.lanes.ends is not None, False, self._info()

    def close(self) -> None:
        """Leave the world, whose name is free once no environment trains it."""
        self.lanes.close()

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [A]; MaskablePPO looks for a method of this name.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return self.lanes.legal()[0].copy()

    def render(self) -> NDArray[np.uint8] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The route of this episode as a routing map, uint8 [height, width, 3], or as one line of text."""
        if self.render_mode is None:
            gymnasium.logger.warn("render was called without a render_mode; pass one to gymnasium.make")
            return None
        lanes, tasks = self.lanes, self.game.data.task_names
        if self.render_mode == "rgb_array":
            return self._picture(f"{self.game.samples:,} samples dealt · step {lanes.depth} of {lanes.spec.depth}")
        names = {-1: "lost", lanes.spec.pass_action: "PASS"}
        name = printable(tasks[lanes.tasks[0]]) if len(lanes.tasks) else "no sample yet"
        mark = "" if lanes.correct is None else "right" if lanes.correct[0] else "wrong"
        return f"{name}  {' → '.join(str(names.get(a, a)) for a in lanes.routes[:1].ravel().tolist())}  {mark}".rstrip()

    def _observation(self) -> Observation:
        return self.lanes.format.observations(self.lanes.vectors, self.lanes.masks)[0]

    def _info(self) -> dict[str, Any]:
        (info,) = self.lanes.infos()
        if self.lanes.format.in_info:
            info["action_mask"] = self.lanes.masks[0]
        return info
