"""Round robin: each lane takes the next block, whatever its task; balanced sharing without learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from routing_env.agents.rules import certain
from routing_env.state_dicts import check_state
from routing_env.types import Decision, GameSpec, Router, State, Trace


class RoundRobin(Router):
    """Round robin: at every depth the n-th sample takes legal action n modulo the number of legal actions.

    A greedy choice counts the samples of every batch from 0.

    Attributes:
        samples: Number of samples counted so far.

    Args:
        spec: The specification of the game.
        seed: Ignored; present because every router is built with one.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self.samples = 0

    def grow(self, spec: GameSpec) -> RoundRobin:
        """Go on counting."""
        grown = RoundRobin(spec)
        grown.samples = self.samples
        return grown

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Take the next legal action in each lane."""
        number = torch.arange(len(state.task), device=state.task.device) + (0 if greedy else self.samples)
        rank = number % state.legal.sum(1)
        action = (state.legal.cumsum(1) == rank.unsqueeze(1) + 1).int().argmax(1)
        return certain(action, state.legal)

    def learn(self, trace: Trace) -> dict[str, float]:
        """Count the samples."""
        self.samples += len(trace.task)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The number of samples."""
        return {"samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.state_dict())
        self.samples = state["samples"]
