"""One block per layer for all tasks: a single shared network, as a router that does not learn."""

from __future__ import annotations

from typing import ClassVar

import torch

from routing_env.agents.rules import RuleRouter, certain
from routing_env.types import Decision, GameSpec, State


class AllShared(RuleRouter):
    """Everything shared: every task takes the first block of each layer.

    Args:
        spec: The specification of the game.
        seed: Ignored; present because every router is built with one.
    """

    captures: ClassVar[bool] = True

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self._block = [layer[0] for layer in spec.layers]

    def grow(self, spec: GameSpec) -> AllShared:
        """The same blocks for all tasks."""
        return AllShared(spec)

    def decide(self, state: State) -> Decision:
        """Take the first block of this depth in every lane; where it is not legal, the first that is."""
        return certain(torch.full_like(state.task, self._block[state.depth]), state.legal)
