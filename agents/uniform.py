"""Uniformly random routing: the floor that every learner must rise above."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import PolicyRouter, uniform
from routing_env.types import GameSpec, State


class UniformRandom(PolicyRouter):
    """Every legal action with equal probability, also when evaluated.

    Args:
        spec: of the game.
        seed: of the choices.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        super().__init__(spec, seed=seed)
        self.seed = seed

    def probability(self, state: State) -> Tensor:
        """Uniform over the legal actions."""
        return uniform(state.legal)

    def preference(self, state: State) -> Tensor:
        """Random, the same on every call: an evaluation must not change what is drawn in training."""
        generator = torch.Generator(state.legal.device).manual_seed(self.seed + state.depth)
        return torch.rand(state.legal.shape, generator=generator, device=state.legal.device)
