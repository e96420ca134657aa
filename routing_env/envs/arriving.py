"""Routing with tasks that arrive (paper, section 6) as a PettingZoo environment."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_env.data.arrivals import OnePerArrivedTask, parse_stages
from routing_env.envs.observation import Observation
from routing_env.envs.parallel import Infos, RoutingParallelEnv
from routing_env.envs.world import Role
from routing_env.game.settings import SettingError, types_of


class ArrivingParallelEnv(RoutingParallelEnv):
    """One agent per task, of which an episode has those whose tasks have arrived.

    ``possible_agents`` names all agents from the start. Between two episodes the next ones join and stay. Observations
    have the same size throughout; in :meth:`state`, tasks that have not arrived are zeros. :meth:`evaluate` routes all
    tasks of a split, and so asks the policy about those that have not arrived too.

    Args:
        arrivals: number of tasks that arrive at each stage, such as "9+1", in the order of the data. For another order,
            or few training samples of later tasks, give ``data=arriving(data, ...)``
            (:func:`routing_env.data.arrivals.arriving`).
        arrival_episodes: episodes of every stage but the last one, which does not end.
        arrival_block_rate: factor of the learning rate of the blocks after the first stage; 0 freezes them.
        arguments: those of :class:`~routing_env.envs.parallel.RoutingParallelEnv`, except ``topology`` and ``dealer``,
            and without those of a shared world.

    Raises:
        ValueError: an argument is out of range, or does not go with arrivals.
    """

    def __init__(
        self,
        *,
        arrivals: str,
        arrival_episodes: int = 1000,
        arrival_block_rate: float = 0.1,
        **arguments: Any,
    ) -> None:
        for name in ("dealer", *types_of(Role)):
            if name in arguments:
                raise SettingError(f"{name} is {arguments[name]!r} beside arrivals, which settle what is dealt")
        if not arrival_block_rate >= 0:
            raise ValueError(f"arrival_block_rate is {arrival_block_rate}; it must be at least 0")
        stages = parse_stages(arrivals)
        self._arrived = list(accumulate(stages))
        self._block_rate = arrival_block_rate
        dealer = partial(OnePerArrivedTask, stages=stages, deals=arrival_episodes)
        super().__init__(**arguments, dealer=dealer)
        self.lanes.varies = True

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], Infos]:
        """Deal a sample of each task that has arrived; a seed starts over with the tasks of the first stage.

        Args:
            seed: as in :meth:`RoutingParallelEnv.reset`.
            options: Ignored; present for the PettingZoo API.

        Raises:
            ValueError: the seed is not an integer from 0 to 2**63 - 1; nothing has changed.
        """
        shown = super().reset(seed, options)
        self.game.trainer.slow_down(self._block_rate if self.lanes.number > self._arrived[0] else 1.0)
        return shown

    def state(self) -> NDArray[np.float32]:
        """The observation vectors of all tasks side by side, float32 [T * n]; zeros for those that have not arrived.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        known = super().state()
        return np.append(known, np.zeros(self.state_space.shape[0] - len(known), np.float32))

    @property
    def _present(self) -> list[str]:
        return self.possible_agents[: self.lanes.number]
