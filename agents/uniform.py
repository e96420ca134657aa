"""Uniformly random routing: the floor that every learner must rise above."""

from __future__ import annotations

import torch

from routing_env.agents.table import TableRouter, uniform
from routing_env.types import GameSpec, State


class UniformRandom(TableRouter):
    """Every legal action with equal probability, also when evaluated.

    Args:
        spec: of the game.
        seed: of the choices.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        super().__init__(spec, seed=seed)

    def probability(self, state: State) -> torch.Tensor:
        """Uniform over the legal actions."""
        return uniform(state.legal)

    def preference(self, state: State) -> torch.Tensor:
        """Random: this router has no favourites."""
        return torch.rand(state.legal.shape, generator=self.generator, device=state.legal.device)
