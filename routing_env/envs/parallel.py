"""Routing as a PettingZoo environment; :func:`routing_env.routing_v0.parallel_env` describes it and makes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from routing_env.drawing.deal import mark
from routing_env.drawing.routing_map import routes_text
from routing_env.drawing.window import Window
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, Masks, Observation, check_choice
from routing_env.envs.shell import AgentPolicy, Shell
from routing_env.names import printable
from routing_env.types import State

T = TypeVar("T")
Infos = dict[str, dict[str, Any]]
Returned = tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], Infos]
"""Observations, rewards, terminations, truncations and infos."""


class RoutingParallelEnv(Shell, ParallelEnv[str, Observation, Any]):
    """The routing game as a PettingZoo environment with one agent per lane.

    Args:
        topology: "per_task" has an agent for each task (paper, Figure 3b), "single" one for all tasks (Figure 3a).
        mask: where the action mask is: "obs", "info", "both" or "none".
        parts: which of "v", "task" and "depth" an observation contains.
        state_parts: which of them :meth:`state` contains for each lane; by default those of an observation.
        render_mode: "human", "rgb_array", "ansi" or None.
        settings: as for :func:`~routing_env.game.build.make_game`.

    Attributes:
        possible_agents: all agents.
        agents: the agents of the current step; empty outside an episode.
        state_space: the space of :meth:`state`.

    Raises:
        TypeError: unknown setting; the message suggests the closest match.
        ValueError: an argument or setting is out of range.
        ImportError: ``render_mode="human"`` without pygame.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "name": "routing_v0",
        "render_modes": ["human", "rgb_array", "ansi"],
        "is_parallelizable": True,
        "render_fps": 4,
    }

    def __init__(
        self,
        *,
        topology: Literal["per_task", "single"] = "per_task",
        mask: Literal["obs", "info", "both", "none"] = "obs",
        parts: Sequence[str] = PARTS,
        state_parts: Sequence[str] | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_choice("topology", topology, ["per_task", "single"])
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._window = self._new_window()
        also = ("topology", "agents", "mask", "parts", "state_parts", "render_mode")
        each = None if topology == "per_task" else 1
        self.lanes = Lanes.of(settings, lanes=each, mask=mask, parts=parts, state_parts=state_parts, also=also)
        lanes, form = self.lanes.number, self.lanes.state_format
        low, high = (np.tile(bound, lanes) for bound in (form.low, form.high))
        self.state_space = spaces.Box(low, high, dtype=np.float32)
        names = [f"task_{task}" for task in range(lanes)] if topology == "per_task" else ["router_0"]
        self._name_agents(dict.fromkeys(names, self.lanes.spec.actions))
        self.agents: list[str] = []
        self._episode = 0

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The observation space of an agent; every call returns the same object."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The action space of an agent; every call returns the same object."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], Infos]:
        """Deal the next samples.

        Args:
            seed: restarts the whole world: new blocks, a new order of the data, an empty history of rewards. Without a
                seed the blocks keep what they have learned and the next samples are dealt.
            options: Ignored; present for the PettingZoo API.

        Raises:
            ValueError: the seed is not an integer from 0 to 2**63 - 1; nothing has changed.
        """
        self.lanes.deal(seed)
        self._begin()
        self.agents = list(self._present)
        self._episode = 1 if seed is not None else self._episode + 1
        shown = self._show()
        if self._window is not None:
            self.render()
        return shown

    def step(self, actions: Mapping[str, int]) -> Returned:
        """Apply one block per lane; the last step scores the routes, pays the final reward and trains the blocks.

        Args:
            actions: one integer per agent, from its action space. An illegal action loses the agent's route.

        Returns:
            Observations, rewards, terminations, truncations and infos of all agents of this step.

        Raises:
            RuntimeError: no episode is in progress.
            ValueError: an agent is missing or does not take part, or an action is not an integer in its space; nothing
                has changed.
        """
        given = self._in_order(actions)
        return self._returned(self.lanes.step(given, who=self._deciding))

    def state(self) -> NDArray[np.float32]:
        """The observation vectors of all lanes side by side, with the parts in ``state_parts``: float32 [B * n].

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return self.lanes.state()

    def render(self) -> NDArray[np.uint8] | str | None:
        """The routes of this episode as text, as an image, or in the window, which also follows each step by itself."""
        if self.render_mode is None:
            gymnasium.logger.warn("render was called without a render_mode; pass one to parallel_env")
            return None
        lanes, names = self.lanes, self.game.data.task_names
        title = f"routing_v0 · episode {self._episode} · step {lanes.depth} of {lanes.spec.depth}"
        if len(lanes.tasks) == 1:
            title += f" · {self._deciding[0]}"
        if self.render_mode == "ansi":
            marks = [] if lanes.correct is None else [mark(int(right), 1) for right in lanes.correct]
            rows = [
                f"{agent} ({printable(names[task])})" for agent, task in zip(self._deciding, lanes.tasks, strict=False)
            ]
            return routes_text(lanes.routes, lanes.spec, rows, title=title, marks=marks)
        image = self._picture(title)
        if self._window is None:
            return image
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window, if there is one, and leave the world, whose name is free once no environment trains it."""
        self.lanes.close()
        if self._window is not None:
            self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        """Everything except the window and the episode in progress."""
        return {name: value for name, value in vars(self).items() if name != "_window"} | {"agents": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._window = self._new_window()

    @property
    def _present(self) -> list[str]:
        """The agents of the current step, or of the last one when the episode has ended."""
        return self.possible_agents

    @property
    def _deciding(self) -> list[str]:
        """The agent that decides for each lane."""
        return self._present

    def _begin(self) -> None:
        """Prepare an episode whose samples have just been dealt."""

    def _masks(self) -> Iterable[Masks]:
        """A new action mask for each agent present, int8 of the size of its action space."""
        return self.lanes.masks

    def _agents_for(self, state: State, policy: AgentPolicy) -> list[str]:
        agents = self.possible_agents  # one per task, or one for all
        return [agents[task % len(agents)] for task in state.task.tolist()]

    def _name_agents(self, actions: Mapping[str, int]) -> None:
        """Set the possible agents and their spaces.

        Action spaces are seeded here because an agent that joins an episode later misses the seeding by others, who
        find only the agents present after a reset.

        Args:
            actions: the size of every agent's action space.
        """
        self.possible_agents = list(actions)
        self._observation_spaces = {agent: self.lanes.format.space(size) for agent, size in actions.items()}
        generators = np.random.default_rng(self.settings.seed).spawn(len(actions))
        sized = zip(actions.items(), generators, strict=True)
        self._action_spaces = {agent: spaces.Discrete(size, seed=generator) for (agent, size), generator in sized}

    def _in_order(self, actions: Mapping[str, int]) -> list[int]:
        """The actions of the agents that decide, as they were given, in the order of their lanes."""
        if not self.agents:
            raise RuntimeError("no episode is under way; call reset to deal the next samples")
        deciding = self._deciding
        if list(actions) == deciding:
            return list(actions.values())
        missing = [agent for agent in deciding if agent not in actions]
        extra = [agent for agent in actions if agent not in self.agents]
        if missing or extra:
            raise ValueError(
                f"actions must name every agent and no other; missing: {missing or 'none'}, extra: {extra or 'none'}"
            )
        return [actions[agent] for agent in deciding]

    def _returned(self, rewards: NDArray[Any]) -> Returned:
        """What a step returns; ``rewards`` are those of the lanes."""
        present, over = list(self._present), self.lanes.ends is not None
        self.agents = [] if over else present
        observations, infos = self._show()
        if self._window is not None:
            self.render()
        earned = dict(zip(present, self._each(rewards.tolist()), strict=True))
        return observations, earned, dict.fromkeys(present, over), dict.fromkeys(present, False), infos

    def _show(self) -> tuple[dict[str, Observation], Infos]:
        """The observations and infos of the agents present."""
        form, present, masks = self.lanes.format, self._present, self._masks()
        seen = form.observations(self._each(self.lanes.vectors), masks)
        infos: Infos = dict(zip(present, self._each(self.lanes.infos()), strict=True))
        if form.in_info:
            for info, mask in zip(infos.values(), masks, strict=True):
                info["action_mask"] = mask.copy()
        return dict(zip(present, seen, strict=True)), infos

    def _each(self, lanes: Iterable[T]) -> Iterable[T]:
        """What belongs to the lanes, for the agents present; here agent i has lane i."""
        return lanes

    def _new_window(self) -> Window | None:
        return Window("routing_v0", self.metadata["render_fps"]) if self.render_mode == "human" else None
