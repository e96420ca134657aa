"""Routing with a dispatcher as a PettingZoo environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from routing_env.envs.observation import Masks, Observation, read_action
from routing_env.envs.parallel import Infos, Returned, RoutingParallelEnv, T
from routing_env.envs.shell import AgentPolicy
from routing_env.names import as_integer
from routing_env.types import State

DISPATCHER = "dispatcher_0"


class OfPicked(dict[str, T]):
    """A value for each agent present, where agents join when they are picked; asking for another one explains that."""

    def __missing__(self, agent: str) -> T:
        raise KeyError(
            f"{agent} does not take part in this step; libraries that need every agent at every step, such as TorchRL "
            "and BenchMARL, cannot play topology='dispatched', where agents join when they are picked: set topology to "
            "'per_task' or 'single'"
        )


class DispatchedParallelEnv(RoutingParallelEnv):
    """One sample per episode, and a dispatcher that picks the agent that decides for it (Figure 3c).

    The dispatcher acts alone in the first step, before depth 1. The router that it picked then joins and takes the D
    decisions; the other routers stay away. The dispatcher remains until the end, because it earns what the route earns
    and PettingZoo lets no agent come back. Until then its pick is its only legal action.

    Args:
        agents: how many routers there are to pick from; by default one per task.
        arguments: those of :class:`~routing_env.envs.parallel.RoutingParallelEnv`, except ``topology``.

    Raises:
        ValueError: ``agents`` is below 1.
    """

    def __init__(self, *, agents: int | None = None, **arguments: Any) -> None:
        if agents is not None and (as_integer(agents) or 0) < 1:
            raise ValueError(f"agents is {agents!r}; a dispatcher needs at least 1 to pick from, an integer")
        self._picked: int | None = None
        super().__init__(topology="single", **arguments)
        spec = self.lanes.spec
        self._routers = [f"router_{number}" for number in range(spec.tasks if agents is None else agents)]
        self._name_agents({DISPATCHER: len(self._routers)} | dict.fromkeys(self._routers, spec.actions))
        none, every = np.zeros(len(self._routers), np.float32), np.ones(len(self._routers), np.float32)
        low, high = np.append(self.state_space.low, none), np.append(self.state_space.high, every)
        self.state_space = spaces.Box(low, high, dtype=np.float32)

    def step(self, actions: Mapping[str, int]) -> Returned:
        """Let the dispatcher pick, which moves no sample and earns 0, and from then on apply the router's block.

        Args:
            actions: as in :meth:`RoutingParallelEnv.step`. The dispatcher need not act after its pick; its actions are
                then ignored.

        Raises:
            RuntimeError: no episode is in progress.
            ValueError: as in :meth:`RoutingParallelEnv.step`; nothing has changed.
        """
        given = self._in_order(actions)
        if self._picked is None:
            self._picked = read_action(DISPATCHER, given[0], len(self._routers))
            return self._returned(np.zeros(1))
        return self._returned(self.lanes.step(given, who=self._deciding))

    def state(self) -> NDArray[np.float32]:
        """The observation vector of the sample, then the pick as a one-hot, float32 [n + m]; zeros before the pick.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return np.append(super().state(), self._pick(np.float32))

    def __getstate__(self) -> dict[str, Any]:
        """Everything except the window and the episode in progress."""
        return super().__getstate__() | {"_picked": None}

    @property
    def _present(self) -> list[str]:
        return [DISPATCHER] if self._picked is None else [DISPATCHER, self._routers[self._picked]]

    @property
    def _deciding(self) -> list[str]:
        return self._present[-1:]

    def _begin(self) -> None:
        self._picked = None

    def _masks(self) -> list[Masks]:
        if self._picked is None:
            return [np.ones(len(self._routers), np.int8)]
        over = self.lanes.ends is not None
        return [np.ones(len(self._routers), np.int8) if over else self._pick(np.int8), *super()._masks()]

    def _show(self) -> tuple[dict[str, Observation], Infos]:
        observations, infos = super()._show()
        return OfPicked(observations), OfPicked(infos)

    def _each(self, lanes: Iterable[T]) -> Iterable[T]:
        return [copy(one) for _ in self._present for one in lanes]  # the dispatcher and the router share one lane

    def _agents_for(self, state: State, policy: AgentPolicy) -> list[str]:
        """The routers that the policy picks as the dispatcher."""
        form = self.lanes.format
        everyone = np.ones((len(state.task), len(self._routers)), np.int8)
        seen = form.observations(form.vectors(state), everyone)
        routers = self._routers
        return [routers[read_action(DISPATCHER, policy(DISPATCHER, one), len(routers))] for one in seen]

    def _pick(self, dtype: type[np.generic]) -> NDArray[Any]:
        """One-hot of the pick, [m]; zeros before it."""
        return (np.arange(len(self._routers)) == self._picked).astype(dtype)
