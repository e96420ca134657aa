"""Routing as a Gymnasium vector environment: every sub-environment is a lane of one game, and all share its blocks.

    envs = gymnasium.make_vec("routing_env:Routing-v0", num_envs=64, data="digits")

A lane is dealt any sample of any task, whichever comes next in a shuffled pass; one policy serves them all (Figure 3a).
All lanes start and end together, after exactly D steps, by termination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, check_choice
from routing_env.game.build import check_seed
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import Evaluation, Policy

Arrays = NDArray[Any]


class RoutingVectorEnv(VectorEnv[Arrays, ArrayLike, Arrays]):
    """The lanes of one game.

    Args:
        num_envs: lanes.
        parts: which of "v", "task" and "depth" an observation has.
        autoreset_mode: when the next samples are dealt: with the step after the last one ("NextStep"), with the last
            one ("SameStep"; then `final_obs` and `final_info` hold the end of the routes), or never ("Disabled").
        render_mode: None; there is nothing to see of many lanes.
        settings: see :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: an argument out of range.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        *,
        parts: Sequence[str] = PARTS,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
        if render_mode is not None:
            raise ValueError(f"render_mode is {render_mode!r}; a vector environment has none, use gymnasium.make")
        if isinstance(autoreset_mode, str):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._mode}
        self._lanes = Lanes.of(settings, lanes=num_envs, parts=parts, also=("parts", "autoreset_mode"))
        self.num_envs = num_envs
        self.single_observation_space = self._lanes.format.space()
        self.single_action_space = spaces.Discrete(self._lanes.spec.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def game(self) -> RoutingGame:
        """What is being played; a seed puts a new one in its place."""
        return self._lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self._lanes.settings

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Deal the next samples.

        Args:
            seed: starts the whole world over from here: blocks, order of the data, history of rewards. Of a list the
                first counts: there is one world.
            options: a `reset_mask` must name all lanes, which end together.

        Raises:
            ValueError: a `reset_mask` that leaves lanes out, or a seed that is no integer from 0 to 2**63 - 1.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None and not np.all(mask):
            raise ValueError("reset_mask leaves lanes out; all lanes of a game are dealt together, reset them all")
        seed = seed[0] if isinstance(seed, list) else seed
        self._lanes.deal(seed)
        super().reset(seed=None if seed is None else check_seed(seed))
        return self._lanes.vectors, self._infos()

    def step(self, actions: ArrayLike) -> tuple[Arrays, Arrays, Arrays, Arrays, dict[str, Any]]:
        """Apply one block per lane; the last step scores, rewards and trains the blocks.

        Args:
            actions: integers [num_envs]. One that is not legal loses its route.

        Raises:
            RuntimeError: there was no reset before the first step, or after the end with autoreset "Disabled".
            ValueError: actions of the wrong shape, type or range; nothing has changed.
        """
        lanes = self._lanes
        over, never = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        if lanes.ends is not None and self._mode is AutoresetMode.NEXT_STEP:
            lanes.deal()
            return lanes.vectors, np.zeros(self.num_envs), over, never, self._infos()
        rewards = lanes.step(actions).astype(np.float64)
        infos = self._infos()
        if lanes.ends is not None:
            over = ~over
            if self._mode is AutoresetMode.SAME_STEP:
                every = np.ones(self.num_envs, np.bool_)
                ended = {"final_obs": lanes.vectors, "final_info": infos, "_final_obs": every, "_final_info": every}
                lanes.deal()
                infos = self._infos() | ended
        return lanes.vectors, rewards, over, never, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [num_envs, A]."""
        return self._lanes.masks.astype(np.bool_)

    def evaluate(self, policy: Policy, split: SplitName = "test") -> Evaluation:
        """Route a whole split without training.

        Args:
            policy: from a :class:`~routing_env.types.State` to legal actions int64 [B].
            split: "train", "validation" or "test".
        """
        return self.game.evaluate(policy, split)

    def _infos(self) -> dict[str, Any]:
        """Each entry with its `_entry`, which says for which lanes it holds."""
        lanes, every = self._lanes, np.ones(self.num_envs, np.bool_)
        infos: dict[str, Any] = {"action_mask": lanes.masks.copy(), **(lanes.ends or {})}
        infos |= {f"_{name}": every for name in infos}
        if lanes.illegal:
            action = np.full(self.num_envs, -1)
            action[list(lanes.illegal)] = list(lanes.illegal.values())
            infos |= {"illegal_action": action, "_illegal_action": action >= 0}
        return infos
