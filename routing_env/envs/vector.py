"""Routing as a Gymnasium vector environment: its sub-environments are the lanes of one game and share its blocks.

    envs = gymnasium.make_vec("routing_env:Routing-v0", num_envs=64, data="digits")

Each lane is dealt the next sample of a shuffled pass, whatever its task; one policy serves all lanes (Figure 3a). All
lanes start together and end together after exactly D steps, by termination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, check_choice
from routing_env.envs.shell import Shell
from routing_env.game.build import check_seed
from routing_env.names import as_integer, require

NumpyArrays = NDArray[Any]


class RoutingVectorEnv(Shell, VectorEnv[NumpyArrays, ArrayLike, NumpyArrays]):
    """The lanes of one game.

    Args:
        num_envs: number of lanes.
        parts: which of "v", "task" and "depth" an observation contains.
        autoreset_mode: when the next samples are dealt: in the step after the last one ("NextStep"), in the last step
            itself ("SameStep"; `final_obs` and `final_info` then hold the end of the routes), or never ("Disabled").
        render_mode: must be None; a vector environment is not rendered.
        settings: as for :func:`~routing_env.game.build.make_game`.

    Raises:
        TypeError: unknown setting; the message suggests the closest match.
        ValueError: an argument or setting is out of range.
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
        require("num_envs", num_envs, (as_integer(num_envs) or 0) >= 1, "an integer of at least 1")
        if render_mode is not None:
            raise ValueError(f"render_mode is {render_mode!r}; a vector environment cannot render, use gymnasium.make")
        if isinstance(autoreset_mode, str):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.lanes = Lanes.of(settings, lanes=num_envs, parts=parts, also=("parts", "autoreset_mode"))
        self.num_envs = num_envs
        self.single_observation_space = self.lanes.format.space()
        self.single_action_space = spaces.Discrete(self.lanes.spec.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NumpyArrays, dict[str, Any]]:
        """Deal the next samples.

        Args:
            seed: restarts the whole world: new blocks, a new order of the data, an empty history of rewards. All lanes
                are one world, so only the first entry of a list is used.
            options: may hold a `reset_mask`, which must select all lanes, because they end together.

        Raises:
            ValueError: the `reset_mask` leaves lanes out, or the seed is not an integer from 0 to 2**63 - 1 or a list
                with an entry for each lane; nothing has changed.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None and not np.all(mask):
            raise ValueError("reset_mask leaves lanes out; all lanes of a game are dealt together, reset them all")
        if isinstance(seed, list):
            if len(seed) != self.num_envs:
                raise ValueError(
                    f"seed is {seed!r}; it must be an integer from 0 to 2**63 - 1, or a list of {self.num_envs}, one "
                    "for each lane"
                )
            seed, *_ = [one if one is None else check_seed(one) for one in seed]
        self.lanes.deal(seed)
        super().reset(seed=None if seed is None else check_seed(seed))
        return self.lanes.vectors, self._infos()

    def step(self, actions: ArrayLike) -> tuple[NumpyArrays, NumpyArrays, NumpyArrays, NumpyArrays, dict[str, Any]]:
        """Apply one block per lane; the last step scores the routes, pays the final reward and trains the blocks.

        Args:
            actions: integers [num_envs] in [0, A). An illegal action loses the route of its lane.

        Returns:
            Observations float32 [num_envs, n], rewards float64 [num_envs], terminations and truncations bool
            [num_envs], and infos.

        Raises:
            RuntimeError: the environment was not reset before the first step or, with autoreset "Disabled", after the
                last one.
            ValueError: the actions have the wrong shape, type or range; nothing has changed.
        """
        lanes = self.lanes
        over, never = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        if lanes.ends is not None and self.autoreset_mode is AutoresetMode.NEXT_STEP:
            lanes.deal()
            return lanes.vectors, np.zeros(self.num_envs), over, never, self._infos()
        rewards = lanes.step(actions).astype(np.float64)
        infos = self._infos()
        if lanes.ends is not None:
            over = ~over
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                every = np.ones(self.num_envs, np.bool_)
                ended = {"final_obs": lanes.vectors, "final_info": infos, "_final_obs": every, "_final_info": every}
                lanes.deal()
                infos = self._infos() | ended
        return lanes.vectors, rewards, over, never, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Leave the world, whose name is free once no environment trains it."""
        self.lanes.close()

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions, bool [num_envs, A].

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return self.lanes.legal().copy()

    def _infos(self) -> dict[str, Any]:
        """Infos in Gymnasium's vector form: `_name` says for which lanes the entry `name` is valid."""
        lanes, every = self.lanes, np.ones(self.num_envs, np.bool_)
        infos: dict[str, Any] = {"action_mask": lanes.masks}
        infos |= {name: values.copy() for name, values in (lanes.ends or {}).items()}  # the game has the others
        infos |= {f"_{name}": every for name in infos}
        if lanes.illegal:
            action = np.full(self.num_envs, -1)
            action[list(lanes.illegal)] = list(lanes.illegal.values())
            infos |= {"illegal_action": action, "_illegal_action": action >= 0}
        return infos
