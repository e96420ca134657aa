"""What tabular routers share: one agent per task, a row per depth, updates in the order of the samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from routing_env.types import Decision, GameSpec, Router, State


class TableRouter(Router):
    """One agent per task (Figure 3b), each with tables of shape [D, A] (paper, Tables 3 and 4, "tabular").

    A subclass puts its tables, float32 [T, D, A], into ``tables``; they are what a checkpoint holds.

    Args:
        spec: of the game.
        seed: of exploration.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self.spec = spec
        self.generator = torch.Generator(spec.device).manual_seed(seed)
        self.tables: dict[str, Tensor] = {}

    def new_table(self, value: float = 0.0) -> Tensor:
        """A table float32 [T, D, A]."""
        spec = self.spec
        return torch.full((spec.tasks, spec.depth, spec.actions), value, device=spec.device)

    @abstractmethod
    def probability(self, state: State) -> Tensor:
        """The exploring policy, float32 [B, A]; 0 for illegal actions."""
        ...

    @abstractmethod
    def preference(self, state: State) -> Tensor:
        """What a greedy choice maximises over the legal actions, float32 [B, A]."""
        ...

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Sample from the policy, or take the most preferred legal action."""
        if greedy:
            return Decision(best_action(self.preference(state), state.legal))
        probability = self.probability(state)
        action = torch.multinomial(probability, 1, generator=self.generator).squeeze(1)
        return Decision(action, probability)

    def state_dict(self) -> dict[str, Any]:
        """The tables and the generator."""
        return {"tables": dict(self.tables), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back tables and generator."""
        for name, table in self.tables.items():
            table.copy_(state["tables"][name])
        self.generator.set_state(state["generator"])


def best_action(preference: Tensor, legal: Tensor) -> Tensor:
    """The most preferred legal action, int64 [B]; the first of equals."""
    return preference.masked_fill(~legal, -torch.inf).argmax(1)


def uniform(legal: Tensor) -> Tensor:
    """Equal probability for every legal action, float32 [..., A]."""
    return legal / legal.sum(-1, keepdim=True)


def in_turn(agent: Tensor) -> Iterator[Tensor]:
    """Split lanes so that every agent learns from its samples one after the other, as the paper's agents do.

    The n-th group holds the n-th lane of every agent that has so many; inside a group all agents differ and can be
    updated at once.

    Args:
        agent: int64 [B], who decided for each lane.

    Yields:
        Lane numbers, int64.
    """
    order = torch.argsort(agent, stable=True)
    counts = torch.bincount(agent)
    first = counts.cumsum(0) - counts
    turn = torch.arange(len(agent), device=agent.device) - first[agent[order]]
    yield from order[torch.argsort(turn, stable=True)].split(torch.bincount(turn).tolist())
