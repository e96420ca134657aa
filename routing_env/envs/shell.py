"""What every environment around a game shares: the game itself, one `evaluate`, and one picture of the lanes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self, TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from routing_env.data import SplitName
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import Observation, read_action
from routing_env.evaluations import Evaluation
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import Policy, Router, State

if TYPE_CHECKING:  # slow to import, and most environments do without
    from stable_baselines3.common.base_class import BaseAlgorithm

    from routing_env.envs.sb3_policies import ModelPolicy

AgentPolicy = Callable[[str, Observation], int]
"""Chooses one agent's action from its name and its observation."""
Progress = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_] | None]
"""Tasks int64 [B], actions so far int64 [B, d], and whether each lane was right, bool [B] (None before the end)."""


class Shell:
    """The common part of all environments; inherit it beside the base class of their interface.

    Attributes:
        lanes: the lanes of the game as NumPy arrays.
    """

    lanes: Lanes

    def __copy__(self) -> Self:
        """A deep copy: two environments that shared their lanes would take each other's steps."""
        return deepcopy(self)

    @property
    def game(self) -> RoutingGame:
        """The game being played; a reset with a seed replaces it."""
        return self.lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self.lanes.settings

    def evaluate(
        self,
        policy: Router | Policy | AgentPolicy | BaseAlgorithm,
        split: SplitName = "test",
        *,
        batched: bool = False,
    ) -> Evaluation:
        """Route a whole split without training. An episode in progress is not disturbed.

        Args:
            policy: a :class:`~routing_env.types.Router` or a Stable-Baselines3 model, which act greedily, or a function
                ``policy(agent, observation) -> action``, which is given the observations that the agent gets in play.
                Environments without named agents call the agent of every lane "router_0".
            split: "train", "validation" or "test".
            batched: ``policy`` is a function from a :class:`~routing_env.types.State` to legal actions int64 [B].

        Raises:
            TypeError: ``policy`` is none of these, or a model that cannot be read, see
                :class:`~routing_env.envs.sb3_policies.ModelPolicy`.
            ValueError: the split is empty, or an action is illegal.
        """
        if _is_model(policy):
            policy, batched = self._model_policy(policy), True
        if callable(policy) and not (batched or isinstance(policy, Router)):
            policy = self._by_agent(cast(AgentPolicy, policy))
        return self.game.evaluate(cast(Router | Policy, policy), split)

    def policy(self, model: BaseAlgorithm) -> ModelPolicy:
        """The greedy policy of a Stable-Baselines3 model.

        It is a function from a :class:`~routing_env.types.State` to legal actions int64 [B]. Its method ``probability``
        gives the model's own distribution, from which a recording measures the entropy.

        Raises:
            TypeError: the model cannot be read, see :class:`~routing_env.envs.sb3_policies.ModelPolicy`.
        """
        return self._model_policy(model)

    def _model_policy(self, model: BaseAlgorithm) -> ModelPolicy:
        from routing_env.envs.sb3_policies import ModelPolicy, warn_of_untrained_blocks

        warn_of_untrained_blocks(model, self.game, stacklevel=3)
        return ModelPolicy(model, self.lanes.format)

    def _by_agent(self, policy: AgentPolicy) -> Policy:
        """A batched policy that asks one agent per lane.

        The agent of a lane is settled before depth 1 and stays the same to the end of the route.
        """
        agents: list[str] = []

        def choose(state: State) -> Tensor:
            if state.depth == 0:
                agents[:] = self._agents_for(state, policy)
            seen = self.lanes.format.observe(state)
            actions = [
                read_action(agent, policy(agent, observation), self.lanes.spec.actions)
                for agent, observation in zip(agents, seen, strict=True)
            ]
            return torch.tensor(actions).to(state.task.device)

        return choose

    def _agents_for(self, state: State, policy: AgentPolicy) -> list[str]:
        """The agent that decides for each lane of a state at depth 0."""
        return ["router_0"] * len(state.task)

    @property
    def _progress(self) -> Progress:
        return self.lanes.tasks, self.lanes.routes, self.lanes.correct

    def _picture(self, title: str, progress: Progress | None = None) -> NDArray[np.uint8]:
        """The routing map of all lanes, uint8 [height, width, 3]."""
        from routing_env.drawing.deal import picture  # matplotlib is slow to import

        tasks, routes, correct = progress or self._progress
        return picture(self.lanes.spec, self.game.data.task_names, tasks, routes, correct, title=title)


def _is_model(policy: Any) -> TypeGuard[BaseAlgorithm]:
    """Whether it is a model of Stable-Baselines3, which is imported only if somebody else has done so."""
    library = sys.modules.get("stable_baselines3.common.base_class")
    return library is not None and isinstance(policy, library.BaseAlgorithm)
