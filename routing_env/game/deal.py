"""A deal under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from routing_env.game.routed_model import Route
from routing_env.types import Batch


@dataclass
class Deal:
    """A deal under way.

    Attributes:
        batch: its samples.
        route: how far they have come.
        train: whether it trains the blocks and counts in the history.
        playing: bool [B], the lanes that have not forfeited their route; None: all.
        rewards: the immediate rewards so far, float32 [B] at each depth.
        offers: those of all actions, float32 [A] at each depth; empty where nobody needs counterfactuals.
    """

    batch: Batch
    route: Route
    train: bool
    playing: Tensor | None = None
    rewards: list[Tensor] = field(default_factory=list[Tensor])
    offers: list[Tensor] = field(default_factory=list[Tensor])
