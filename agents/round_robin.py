"""Round robin: lane after lane the next block, whatever the task; balanced sharing without learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from routing_env.types import Decision, GameSpec, Router, State, Trace


class RoundRobin(Router):
    """The n-th sample takes the (n mod number)-th of the legal actions, at every depth.

    A greedy choice counts the samples from 0 in every batch.

    Args:
        spec: of the game.
        seed: taken for the sake of uniformity; nothing is random here.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self.samples = 0

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The next legal action for each lane."""
        number = torch.arange(len(state.task), device=state.task.device) + (0 if greedy else self.samples)
        rank = number % state.legal.sum(1)
        action = (state.legal.cumsum(1) == rank.unsqueeze(1) + 1).int().argmax(1)
        return Decision(action, torch.nn.functional.one_hot(action, state.legal.shape[1]).to(torch.float32))

    def learn(self, trace: Trace) -> dict[str, float]:
        """Count the samples."""
        self.samples += len(trace.task)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the count."""
        self.samples = int(state["samples"])
