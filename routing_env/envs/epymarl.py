"""The game as EPyMARL and PyMARL2 play it: lists over agents, available actions, a state and one reward for the team.

    from envs import REGISTRY  # EPyMARL's or PyMARL2's own module, in src/envs/__init__.py
    from routing_env.envs.epymarl import EPyMARLEnv

    REGISTRY["routing"] = EPyMARLEnv  # PyMARLEnv in PyMARL2

Both frameworks keep asking for states, observations and available actions after the last step, and read the rewards of
that step from what it returns: all of them are here for every agent until the next reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, check_choice
from routing_env.envs.shell import AgentPolicy, Shell
from routing_env.game.build import check_seed
from routing_env.types import State

Observations = tuple[NDArray[np.float32], ...]
"""An observation float32 [n] for each agent."""


class TeamEnv(Shell, gymnasium.Env[Observations, Any]):
    """What the interfaces of EPyMARL and PyMARL2 share: an agent for each task, in the order of the tasks.

    Args:
        map_name: a scenario, under the name by which these frameworks call it; ``scenario`` is the same.
        common_reward: whether a step earns the team one number or each agent its own.
        reward_scalarisation: how the rewards of the agents become the team's: "mean" or "sum".
        parts: which of "v", "task" and "depth" an observation contains.
        state_parts: which of them the state contains for each agent; by default those of an observation.
        render_mode: "rgb_array" or None.
        settings: as for :func:`~routing_env.game.build.make_game`.

    Attributes:
        n_agents: T.
        episode_limit: D, the number of steps of every episode.

    Raises:
        TypeError: unknown setting; the message suggests the closest match.
        ValueError: an argument or setting is out of range, or a scenario is given under both names.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        *,
        map_name: str | None = None,
        common_reward: bool = True,
        reward_scalarisation: Literal["mean", "sum"] = "mean",
        parts: Sequence[str] = PARTS,
        state_parts: Sequence[str] | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_choice("reward_scalarisation", reward_scalarisation, ["mean", "sum"])
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        if map_name is not None:
            if "scenario" in settings:
                raise ValueError(f"map_name is {map_name!r} and scenario {settings['scenario']!r}; give one of them")
            settings["scenario"] = map_name
        self.render_mode = render_mode
        also = ("map_name", "common_reward", "reward_scalarisation", "parts", "state_parts", "render_mode")
        self.lanes = Lanes.of(settings, parts=parts, state_parts=state_parts, also=also)
        self.n_agents, self.episode_limit = self.lanes.number, self.lanes.spec.depth
        self.observation_space = spaces.Tuple([self.lanes.format.space() for _ in range(self.n_agents)])
        self.action_space = spaces.Tuple([spaces.Discrete(self.lanes.spec.actions) for _ in range(self.n_agents)])
        self._common_reward, self._scalarise = common_reward, getattr(np, reward_scalarisation)
        self._seed: int | None = None

    def get_obs(self) -> Observations:
        """The observations of all agents, float32 [n] each.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        self.lanes.refuse_without_deal("observation")
        return tuple(self.lanes.vectors.copy())

    def get_obs_agent(self, agent_id: int) -> NDArray[np.float32]:
        """The observation of one agent, float32 [n]."""
        return self.get_obs()[agent_id]

    def get_obs_size(self) -> int:
        """The size of an observation, n."""
        return len(self.lanes.format.low)

    def get_state(self) -> NDArray[np.float32]:
        """The observations of all agents side by side, with the parts in ``state_parts``: float32 [T * n].

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return self.lanes.state()

    def get_state_size(self) -> int:
        """The size of the state, T * n."""
        return self.n_agents * len(self.lanes.state_format.low)

    def get_avail_actions(self) -> list[list[int]]:
        """For each agent a 1 for every legal action and a 0 for every other; all are 1 after the last step.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        return self.lanes.legal().astype(int).tolist()

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """The available actions of one agent."""
        return self.lanes.legal()[agent_id].astype(int).tolist()

    def get_total_actions(self) -> int:
        """The number of actions, A."""
        return self.lanes.spec.actions

    def get_env_info(self) -> dict[str, int]:
        """The sizes that the frameworks build their buffers and networks from."""
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.get_total_actions(),
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
        }

    def get_stats(self) -> dict[str, float]:
        """Statistics of the environment for the logs; none beside those in the infos."""
        return {}

    def seed(self, seed: int | None = None) -> int | None:
        """Restart the whole world from a seed at the next reset, and return the seed of the world."""
        self._seed = None if seed is None else check_seed(seed)
        return self.settings.seed if seed is None else seed

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The routing map of all agents, uint8 [height, width, 3], with ``render_mode="rgb_array"``."""
        return self._picture("routing") if self.render_mode else None

    def save_replay(self) -> None:
        """Do nothing; there are no replays of games. ``Recording`` keeps what there is to see of a training."""

    def close(self) -> None:
        """Leave the world, whose name is free once no environment trains it."""
        self.lanes.close()

    def _deal(self, seed: int | None = None) -> None:
        seed, self._seed = self._seed if seed is None else seed, None
        self.lanes.deal(seed)

    def _act(self, actions: Any) -> tuple[float | list[float], bool, dict[str, float]]:
        """Apply one block per agent; return the reward, whether the routes have ended, and numbers for the logs."""
        rewards = self.lanes.step(actions)
        ends, info = self.lanes.ends, dict[str, float]()
        if ends is not None:
            info = {"accuracy": float(ends["correct"].mean()), "loss": float(ends["loss"].mean())}
        return float(self._scalarise(rewards)) if self._common_reward else rewards.tolist(), ends is not None, info

    def _agents_for(self, state: State, policy: AgentPolicy) -> list[str]:
        return [f"task_{task}" for task in state.task.tolist()]


class EPyMARLEnv(TeamEnv):
    """The game with the five values of a step that EPyMARL reads; a Gymnasium environment with Tuple spaces.

    The id ``routing_env:RoutingTuple-v0`` makes it with a reward for each agent, as EPyMARL's wrapper
    ``gymma`` expects. That wrapper reports every action as available: where some are not, enter the class in
    EPyMARL's registry.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Deal the next samples.

        Args:
            seed: restarts the whole world: new blocks, a new order of the data, an empty history of rewards.
            options: Ignored; present for the Gymnasium API.

        Returns:
            The observations of all agents, and an empty dict.

        Raises:
            ValueError: the seed is not an integer from 0 to 2**63 - 1; nothing has changed.
        """
        self._deal(seed)
        super().reset(seed=None if seed is None else check_seed(seed))
        return self.get_obs(), {}

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # a reward for each agent where the caller wants it
        self, action: Any
    ) -> tuple[Observations, float | list[float], bool, bool, dict[str, float]]:
        """Apply one block per agent; the last step scores the routes, pays the final reward and trains the blocks.

        Args:
            action: integers [T] in [0, A): a sequence, an array or a tensor. An illegal action loses its route.

        Returns:
            Observations, the reward, whether the routes have ended, False (nothing is truncated), and in the last step
            the "accuracy" and the "loss" of the samples, means over the agents.

        Raises:
            RuntimeError: no episode is in progress.
            ValueError: an action is not an integer in [0, A), or there is not one per agent; nothing has changed.
        """
        reward, over, info = self._act(action)
        return self.get_obs(), reward, over, False, info


class PyMARLEnv(TeamEnv):
    """The game with the three values of a step that PyMARL and PyMARL2 read."""

    def reset(self) -> tuple[Observations, NDArray[np.float32]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Deal the next samples; return the observations of all agents and the state."""
        self._deal()
        return self.get_obs(), self.get_state()

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, actions: Any
    ) -> tuple[float | list[float], bool, dict[str, float]]:
        """Apply one block per agent; see :meth:`EPyMARLEnv.step`.

        Returns:
            The reward, whether the routes have ended, and in the last step the "accuracy" and the "loss".
        """
        return self._act(actions)
