"""What routers share that do not draw: a rule names the action of every state."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from routing_env.capturable import CapturableRouter
from routing_env.types import Decision, State


def certain(action: Tensor, legal: Tensor) -> Decision:
    """Take actions int64 [B] for certain; where one is not legal, the first that is."""
    action = action.where(legal.gather(1, action[:, None])[:, 0], legal.int().argmax(1))
    return Decision(action, certainty(action, legal))


def certainty(action: Tensor, legal: Tensor) -> Tensor:
    """The policy that takes actions int64 [B] for certain, float32 [B, A]."""
    return torch.zeros(legal.shape, device=legal.device).scatter_(1, action[:, None], 1.0)


class RuleRouter(CapturableRouter):
    """A router that does not draw: a rule names the action of every state."""

    @abstractmethod
    def decide(self, state: State) -> Decision:
        """The actions, taken for certain, see :func:`certain`."""
        ...

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Follow the rule."""
        return self.decide(state)

    def probability(self, state: State) -> Tensor:
        """1 for the action of the rule, float32 [B, A]."""
        return certainty(self.decide(state).action, state.legal)
