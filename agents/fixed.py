"""One block per task and layer: the paper's task-specific-all-fc as a router that does not learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from routing_env.agents.rules import RuleRouter, certain
from routing_env.types import Decision, GameSpec, State


class Fixed(RuleRouter):
    """Fixed routes: task t takes block t of each layer, modulo the number of blocks in the layer; or your own routes.

    Args:
        spec: The specification of the game.
        seed: Ignored; present because every router is built with one.
        routes: The action of each task at each depth, [T, D].

    Raises:
        ValueError: ``routes`` has another shape, or an action that does not exist.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0, routes: Sequence[Sequence[int]] | None = None) -> None:
        if routes is None:
            routes = [[layer[task % len(layer)] for layer in spec.layers] for task in range(spec.tasks)]
        found = [len(route) for route in routes]
        if found != [spec.depth] * spec.tasks:
            raise ValueError(f"routes has {found} actions; it must have {spec.depth} for each of {spec.tasks} tasks")
        self.routes = torch.tensor(routes, device=spec.device)
        if self.routes.min() < 0 or self.routes.max() >= spec.actions:
            raise ValueError(f"routes is {routes}; actions go from 0 to {spec.actions - 1}")

    def grow(self, spec: GameSpec) -> Fixed:
        """The fixed routes of all tasks.

        Raises:
            NotImplementedError: The routes of further tasks are not known.
        """
        usual = Fixed(replace(spec, tasks=len(self.routes)))
        if not usual.routes.equal(self.routes):
            raise NotImplementedError("routes of your own do not say what further tasks take")
        return Fixed(spec)

    def decide(self, state: State) -> Decision:
        """Take the task's own block; where it is not legal, the first that is."""
        return certain(self.routes[state.task, state.depth], state.legal)
