"""Uniformly random routing: the floor that every learner must rise above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import PolicyRouter
from routing_env.agents.policies import uniform
from routing_env.types import State


@dataclass(eq=False, kw_only=True)
class UniformRandom(PolicyRouter):
    """Uniformly random: every legal action with equal probability, also in evaluation."""

    captures: ClassVar[bool] = True

    def probability(self, state: State) -> Tensor:
        """The uniform policy over the legal actions."""
        return uniform(state.legal)

    def preference(self, state: State) -> Tensor:
        """Random numbers that repeat on every call, so that an evaluation does not change what training draws."""
        generator = torch.Generator(state.legal.device).manual_seed(self.seed + state.depth)
        return torch.rand(state.legal.shape, generator=generator, device=state.legal.device)
