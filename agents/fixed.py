"""One block per task and layer: the paper's task-specific-all-fc as a router that does not learn."""

from __future__ import annotations

import torch

from routing_env.agents.rules import RuleRouter, certain
from routing_env.types import Decision, GameSpec, State


class Fixed(RuleRouter):
    """Fixed routes: task t takes block t of each layer, modulo the number of blocks in the layer.

    Args:
        spec: The specification of the game.
        seed: Ignored; present because every router is built with one.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        routes = [[layer[task % len(layer)] for layer in spec.layers] for task in range(spec.tasks)]
        self.routes = torch.tensor(routes, device=spec.device)

    def grow(self, spec: GameSpec) -> Fixed:
        """The fixed routes of all tasks."""
        return Fixed(spec)

    def decide(self, state: State) -> Decision:
        """Take the task's own block; where it is not legal, the first that is."""
        return certain(self.routes[state.task, state.depth], state.legal)
