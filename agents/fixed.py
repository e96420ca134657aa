"""One block per task and layer: the paper's task-specific-all-fc as a router that does not learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch

from routing_env.agents.rules import RuleRouter, certain
from routing_env.types import Decision, GameSpec, State


@dataclass(eq=False)
class Fixed(RuleRouter):
    """Fixed routes: task t takes block t of each layer, modulo the number of blocks in the layer; or your own routes.

    Attributes:
        actions: int64 [T, D], the routes.

    Raises:
        ValueError: ``routes`` has another shape, or an action that does not exist.
    """

    captures: ClassVar[bool] = True

    spec: GameSpec
    _: KW_ONLY
    seed: int = 0
    """Ignored; present because every router is built with one."""
    routes: Sequence[Sequence[int]] | None = None
    """The action of each task at each depth, [T, D]; by default block t for task t."""

    def __post_init__(self) -> None:
        spec, routes = self.spec, self.routes
        if routes is None:
            routes = [[layer[task % len(layer)] for layer in spec.layers] for task in range(spec.tasks)]
        found = [len(route) for route in routes]
        if found != [spec.depth] * spec.tasks:
            raise ValueError(f"routes has {found} actions; it must have {spec.depth} for each of {spec.tasks} tasks")
        self.actions = torch.tensor(routes, device=spec.device)
        if self.actions.min() < 0 or self.actions.max() >= spec.actions:
            raise ValueError(f"routes is {routes}; actions go from 0 to {spec.actions - 1}")

    def grow(self, spec: GameSpec) -> Fixed:
        """The fixed routes of all tasks.

        Raises:
            NotImplementedError: The routes of further tasks are not known.
        """
        if self.routes is not None:
            raise NotImplementedError("routes of your own do not say what further tasks take")
        return Fixed(spec)

    def decide(self, state: State) -> Decision:
        """Take the task's own block; where it is not legal, the first that is."""
        return certain(self.actions[state.task, state.depth], state.legal)
