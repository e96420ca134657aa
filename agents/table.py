"""What tabular routers share: one agent per task, a row per depth, updates in the order of the samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from routing_env.agents.base import PolicyRouter, acting_agent, best_action, uniform
from routing_env.agents.simplex import clip_and_normalise
from routing_env.types import GameSpec, State, Trace

__all__ = ["PolicyTableRouter", "Samples", "TableRouter", "best_action", "in_turn", "uniform"]


@dataclass(frozen=True)
class Samples:
    """N routes, as tables learn from them.

    Attributes:
        agent: int64 [N], who decided.
        action: int64 [N, D].
        reward: float32 [N, D], the immediate rewards r_i.
        final_reward: float32 [N].
        return_: float32 [N, D], R_i.
        legal: bool [N, D, A], legality in the states that were visited.
        probability: float32 [N, D], with which the actions were drawn.
    """

    agent: Tensor
    action: Tensor
    reward: Tensor
    final_reward: Tensor
    return_: Tensor
    legal: Tensor
    probability: Tensor

    @classmethod
    def of(cls, trace: Trace, agent: Tensor, gamma: float) -> Samples:
        """The routes of one deal."""
        drawn = [
            torch.ones_like(trace.final_reward)
            if decision.probability is None
            else decision.probability.gather(1, decision.action.unsqueeze(1)).squeeze(1)
            for decision in trace.decisions
        ]
        return cls(
            agent,
            trace.actions,
            trace.action_rewards,
            trace.final_reward,
            trace.returns(gamma),
            torch.stack([state.legal for state in trace.states], dim=1),
            torch.stack(drawn, dim=1),
        )

    def split(self, groups: Sequence[Tensor]) -> Iterator[Samples]:
        """The same routes in groups of lane numbers."""
        order, sizes = torch.cat(list(groups)), [len(group) for group in groups]
        columns = [getattr(self, field.name)[order].split(sizes) for field in fields(self)]
        return (Samples(*rows) for rows in zip(*columns, strict=True))


class TableRouter(PolicyRouter):
    """One agent per task (Figure 3b), each with tables of shape [D, A] (paper, Tables 3 and 4, "tabular").

    A subclass puts its tables, [agents, D, ...], into ``tables``; they are what a checkpoint holds.

    Args:
        spec: of the game.
        seed: of exploration.
    """

    gamma: float = 1.0
    """Discount of the action rewards."""

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        super().__init__(spec, seed=seed)
        self.tables: dict[str, Tensor] = {}

    def new_table(self, value: float = 0.0) -> Tensor:
        """A table float32 [agents, D, A]."""
        return torch.full((self.agents, self.spec.depth, self.spec.actions), value, device=self.spec.device)

    def row(self, table: Tensor, state: State) -> Tensor:
        """The rows of a table that serve the lanes of a state, float32 [B, A]."""
        return table[acting_agent(state, self.spec), state.depth]

    @abstractmethod
    def update(self, samples: Samples) -> None:
        """Learn from one sample of each of some agents, all of them different."""
        ...

    def learn(self, trace: Trace) -> dict[str, float]:
        """Update every agent by its samples, one after the other."""
        agent = acting_agent(trace.states[0], self.spec)
        for samples in Samples.of(trace, agent, self.gamma).split(list(in_turn(agent))):
            self.update(samples)
        return super().learn(trace)

    def state_dict(self) -> dict[str, Any]:
        """The tables as well."""
        return {**super().state_dict(), "tables": {name: table.clone() for name, table in self.tables.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the tables as well."""
        super().load_state_dict(state)
        for name, table in self.tables.items():
            table.copy_(state["tables"][name])


class PolicyTableRouter(TableRouter):
    """A tabular router that stores its policy and estimates of the actions' values.

    Attributes:
        policy: float32 [agents, D, A], at first uniform over the legal actions.
        value: float32 [agents, D, A].
    """

    policies: tuple[str, ...] = ("policy",)
    """The tables that hold policies."""

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        super().__init__(spec, seed=seed)
        self.policy = uniform(spec.legal.expand(self.agents, -1, -1))
        self.value = self.new_table()
        self.tables = {"policy": self.policy, "value": self.value}

    @abstractmethod
    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Learn the values, and return the policies after one sample of each of some agents, all of them different.

        Args:
            samples: the routes.
            policies: the agents' rows, float32 [N, D, A], over the actions that were legal.
        """
        ...

    def update(self, samples: Samples) -> None:
        """Improve the rows over the actions that were legal; what a row gives to others it goes on giving.

        One row serves all states of its task and depth. Where v can have several shapes (recursive routing with PASS),
        these differ in what is legal.
        """
        agent, legal = samples.agent, samples.legal
        rows = [self.tables[name][agent] for name in self.policies]
        if legal.equal(self.spec.legal.expand_as(legal)):
            improved = self.improve(samples, *rows)
        else:
            others = [row.masked_fill(legal, 0.0) for row in rows]
            masses = [1 - other.sum(-1, keepdim=True) for other in others]
            improved = self.improve(samples, *(clip_and_normalise(row, legal) for row in rows))
            improved = [o + mass * own for o, mass, own in zip(others, masses, improved, strict=True)]
        for name, row in zip(self.policies, improved, strict=True):
            self.tables[name][agent] = row

    def probability(self, state: State) -> Tensor:
        """The table's row, over the actions that are legal in this very state."""
        return clip_and_normalise(self.row(self.policy, state), state.legal)

    def preference(self, state: State) -> Tensor:
        """The most probable action is the greedy one."""
        return self.row(self.policy, state)


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
