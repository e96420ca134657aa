"""One block per layer for everybody: a single network that all tasks share, as a router that has nothing to learn."""

from __future__ import annotations

import torch

from routing_env.types import Decision, GameSpec, Router, State


class AllShared(Router):
    """Every task takes the first block of each layer.

    Args:
        spec: of the game.
        seed: taken for the sake of uniformity; nothing is random here.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self._block = [layer[0] for layer in spec.layers]

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The first block at this depth, for every lane."""
        return Decision(torch.full_like(state.task, self._block[state.depth]))
