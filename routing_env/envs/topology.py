"""Who decides for which lane (paper, Figure 3), as the agents of an environment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from operator import index
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from routing_env.envs.observation import Masks, Observation, ObservationFormat, Vectors, check_choice
from routing_env.types import GameSpec, Policy, State

AgentPolicy = Callable[[str, Observation], int]
"""Chooses one agent's action from its observation."""

T = TypeVar("T")
TOPOLOGIES = ("per_task", "single", "dispatched")
DISPATCHER = "dispatcher_0"


class OfPicked(dict[str, T]):
    """What agents are told where they join when they are picked: to ask for one sooner is an error that says so."""

    def __missing__(self, agent: str) -> T:
        raise KeyError(
            f"{agent} does not take part at this step; who needs every agent at every step, as TorchRL and BenchMARL "
            "do, cannot play topology='dispatched', where agents join when they are picked: set topology to "
            "'per_task' or 'single'"
        )


def make_topology(topology: str, spec: GameSpec, agents: int | None) -> Topology:
    """Build a topology by name.

    Args:
        topology: "per_task", "single" or "dispatched".
        spec: of the game.
        agents: how many a dispatcher picks from; None stands for one per task.

    Raises:
        ValueError: an unknown topology, or ``agents`` without a dispatcher or below 1.
    """
    check_choice("topology", topology, TOPOLOGIES)
    if topology == "dispatched":
        return Dispatched(spec, spec.tasks if agents is None else agents)
    if agents is not None:
        raise ValueError(
            f"agents is {agents} but topology is {topology!r}; only a dispatcher picks from agents: leave agents out "
            "or set topology='dispatched'"
        )
    return PerTask(spec) if topology == "per_task" else Single(spec)


class Topology(ABC):
    """The agents of an environment and the lanes of the game that they decide for.

    Args:
        actions: of every agent that there can be, the size of its action space.
        lanes: samples that an episode routes.

    Attributes:
        actions: see above.
        deciding: for each lane the agent that decides next.
        agents: all that take part at the moment.
        lane: int64 [len(agents)], the lane that each of them belongs to.
        told: what observations and infos are put in, by agent.
    """

    told: type[dict[str, Any]] = dict
    deciding: list[str]
    agents: list[str]
    lane: NDArray[np.int64]

    def __init__(self, actions: Mapping[str, int], lanes: int) -> None:
        self.actions = dict(actions)
        self.lanes = lanes
        self._open = {agent: np.ones(size, dtype=np.int8) for agent, size in self.actions.items()}
        self.start()

    def action_spaces(self, seed: int) -> dict[str, spaces.Discrete]:
        """The action space of every agent that there can be.

        They are seeded here because an agent that joins an episode later misses it when others seed the spaces of the
        agents that they find after a reset.
        """
        generators = np.random.default_rng(seed).spawn(len(self.actions))
        sized = zip(self.actions.items(), generators, strict=True)
        return {agent: spaces.Discrete(size, seed=generator) for (agent, size), generator in sized}

    @property
    def dispatching(self) -> bool:
        """Whether the next decision is the dispatcher's, and none of the game."""
        return False

    @property
    def picked(self) -> Vectors:
        """What the state tells of the dispatcher's pick, float32 [m] in [0, 1]; nothing where nobody dispatches."""
        return np.empty(0, dtype=np.float32)

    def start(self) -> None:
        """Begin an episode: every lane has its agent, and every agent its lane."""
        self.deciding = self.agents = list(self.actions)
        self.lane = np.arange(self.lanes)

    def read(self, actions: Mapping[str, int]) -> NDArray[np.int64]:
        """The actions of those who decide, in the order of the lanes.

        Raises:
            ValueError: agents that are missing or do not take part, or an action that is no integer in its space.
        """
        if list(actions) != self.deciding:
            missing = [agent for agent in self.deciding if agent not in actions]
            extra = [agent for agent in actions if agent not in self.agents]
            if missing or extra:
                raise ValueError(
                    "actions must name every agent and no other; "
                    f"missing: {missing or 'none'}, extra: {extra or 'none'}"
                )
        return np.array([self._read(agent, actions[agent]) for agent in self.deciding], dtype=np.int64)

    def dispatch(self, router: int) -> None:
        """Let the picked agent take over.

        Raises:
            RuntimeError: nobody dispatches here.
        """
        raise RuntimeError("nobody dispatches in this topology")

    def masks(self, legal: Masks) -> list[Masks]:
        """The action mask of everyone in ``agents``, each a copy.

        Args:
            legal: int8 [lanes, A], of the game.
        """
        return list(legal.copy())

    def open_masks(self) -> list[Masks]:
        """The same at the end, where there is nothing left to choose: all ones."""
        return [self._open[agent].copy() for agent in self.agents]

    def batched(self, policy: AgentPolicy, form: ObservationFormat) -> Policy:
        """A policy of any lanes, from one that is asked agent by agent.

        Who decides for a lane is settled at depth 0 and stays so to the end of the route.
        """
        deciding: list[str] = []

        def policy_of_lanes(state: State) -> Tensor:
            if state.depth == 0:
                deciding[:] = self.assign(state, policy, form)
            seen = form.observe(state)
            actions = [index(policy(agent, observation)) for agent, observation in zip(deciding, seen, strict=True)]
            return torch.tensor(actions).to(state.task.device)

        return policy_of_lanes

    def _read(self, agent: str, action: int) -> int:
        try:
            chosen = index(action)
        except TypeError:
            chosen = -1
        if not 0 <= chosen < self.actions[agent]:
            raise ValueError(
                f"action of {agent} is {action!r}; it must be an integer from 0 to {self.actions[agent] - 1}"
            )
        return chosen

    @abstractmethod
    def assign(self, state: State, policy: AgentPolicy, form: ObservationFormat) -> list[str]:
        """The agent that decides for each of some lanes at depth 0."""
        ...


class PerTask(Topology):
    """Figure 3(b): an agent for each task; lane t is that of task t."""

    def __init__(self, spec: GameSpec) -> None:
        super().__init__({f"task_{task}": spec.actions for task in range(spec.tasks)}, spec.tasks)

    def assign(self, state: State, policy: AgentPolicy, form: ObservationFormat) -> list[str]:
        """The task's own agent."""
        return [f"task_{task}" for task in state.task.tolist()]


class Single(Topology):
    """Figure 3(a): one agent for all tasks."""

    def __init__(self, spec: GameSpec) -> None:
        super().__init__({"router_0": spec.actions}, 1)

    def assign(self, state: State, policy: AgentPolicy, form: ObservationFormat) -> list[str]:
        """Always the same."""
        return ["router_0"] * len(state.task)


class Dispatched(Topology):
    """Figure 3(c): a dispatcher picks the agent that decides for a sample, before depth 1.

    The dispatcher stays to the end, as it shares what the route earns and PettingZoo lets no agent come back; until
    then its pick is its one legal action. The picked agent joins after the pick; the others never do.

    Args:
        spec: of the game.
        agents: how many the dispatcher picks from.

    Raises:
        ValueError: ``agents`` below 1.
    """

    told = OfPicked

    def __init__(self, spec: GameSpec, agents: int) -> None:
        if agents < 1:
            raise ValueError(f"agents is {agents}; a dispatcher needs at least 1 to pick from")
        self._routers = [f"router_{number}" for number in range(agents)]
        super().__init__({DISPATCHER: agents} | dict.fromkeys(self._routers, spec.actions), 1)

    @property
    def dispatching(self) -> bool:
        """Whether nobody has been picked yet."""
        return not self.picked.any()

    @property
    def picked(self) -> Vectors:
        """One-hot of the picked agent, all zeros before."""
        return self._picked

    def start(self) -> None:
        """Only the dispatcher is there."""
        self._picked = np.zeros(len(self._routers), dtype=np.float32)
        self.deciding = self.agents = [DISPATCHER]
        self.lane = np.zeros(1, dtype=np.int64)

    def dispatch(self, router: int) -> None:
        """The picked agent joins."""
        self._picked[router] = 1
        self.deciding = [self._routers[router]]
        self.agents = [DISPATCHER, *self.deciding]
        self.lane = np.zeros(2, dtype=np.int64)

    def masks(self, legal: Masks) -> list[Masks]:
        """The dispatcher may pick anyone, and then nothing but what it has picked."""
        if self.dispatching:
            return self.open_masks()
        return [self._picked.astype(np.int8), legal[0].copy()]

    def assign(self, state: State, policy: AgentPolicy, form: ObservationFormat) -> list[str]:
        """Whom the dispatcher picks.

        Raises:
            ValueError: an agent that does not exist.
        """
        everyone = np.ones((len(state.task), len(self._routers)), dtype=np.int8)
        seen = form.observations(form.vectors(state), everyone)
        return [self._routers[self._read(DISPATCHER, policy(DISPATCHER, observation))] for observation in seen]
