"""Routes as tabular routers learn from them, one of each agent at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from routing_env.types import Trace


def of_taken(values: Tensor, action: Tensor) -> Tensor:
    """The entries of the actions taken, from [..., A] and int64 [...] to [...]."""
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Samples:
    """N routes as tabular routers learn from them.

    Attributes:
        agent: int64 [N], the agent that decided.
        action: int64 [N, D].
        reward: float32 [N, D], the immediate rewards r_i.
        final_reward: float32 [N].
        return_: float32 [N, D], the returns R_i.
        legal: bool [N, D, A], the legal actions in the states visited.
        probability: float32 [N, D], the probabilities with which the actions were drawn.
        others: float32 [N, D, A], the returns R_i if the action at depth i had been another one, NaN where that is not
            legal; None where the trace does not say.
        present: bool [N], whether a route is there; what is learned from the others does not count. None: all are.
    """

    agent: Tensor
    action: Tensor
    reward: Tensor
    final_reward: Tensor
    return_: Tensor
    legal: Tensor
    probability: Tensor
    others: Tensor | None = None
    present: Tensor | None = None

    @classmethod
    def of(cls, trace: Trace, agent: Tensor, gamma: float) -> Samples:
        """The routes of one deal."""
        drawn = [
            torch.ones_like(trace.final_reward)
            if decision.probability is None
            else of_taken(decision.probability, decision.action)
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
            None if trace.counterfactuals is None else trace.counterfactual_returns(gamma),
        )

    def of_every_agent(self, lanes: Tensor, present: Tensor, legal: Tensor) -> Samples:
        """One route for each of N agents.

        Args:
            lanes: int64 [N].
            present: bool [N], whether the agent has one; others stand in for it where not.
            legal: bool [D, A], the legal actions, of every state.
        """
        rows = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: None if of is None else of[lanes] for name, of in rows.items()}
        taken["agent"] = torch.arange(len(lanes), device=lanes.device)
        return Samples(**{**taken, "legal": legal.expand(len(lanes), -1, -1), "present": present})

    def split(self, groups: Sequence[Tensor]) -> Iterator[Samples]:
        """The same routes in groups of lane numbers."""
        order, sizes = torch.cat(list(groups)), [len(group) for group in groups]
        whole = [getattr(self, field.name) for field in fields(self)]
        columns = [[None] * len(sizes) if column is None else column[order].split(sizes) for column in whole]
        return (Samples(*rows) for rows in zip(*columns, strict=True))


def in_turn(agent: Tensor) -> Iterator[Tensor]:
    """Group lanes so that every agent learns from its samples one after the other, as the paper's agents do.

    The n-th group holds the n-th lane of every agent that has at least n lanes. All agents in a group differ, so that
    they can be updated at once.

    Args:
        agent: int64 [B], the agent that decided for each lane.

    Yields:
        Lane numbers, int64.
    """
    order, turn = _turns(agent)
    yield from order[torch.argsort(turn, stable=True)].split(torch.bincount(turn).tolist())


_TURNS = 4
"""The number of rows of a table of turns is a multiple of this."""


def turn_table(agent: Tensor, agents: int) -> tuple[Tensor, Tensor]:
    """The groups of :func:`in_turn` as a table, whose number of rows is rounded up: tables come in few shapes.

    Args:
        agent: int64 [B].
        agents: Number of agents, N.

    Returns:
        The lane of every agent in every turn, int64 [turns, N], 0 where it has none left; and where it has one, bool.
    """
    order, turn = _turns(agent)
    turns = -(-(int(turn.max()) + 1) // _TURNS) * _TURNS
    lanes = torch.zeros(turns, agents, dtype=torch.int64, device=agent.device)
    present = torch.zeros_like(lanes, dtype=torch.bool)
    lanes[turn, agent[order]], present[turn, agent[order]] = order, True
    return lanes, present


def _turns(agent: Tensor) -> tuple[Tensor, Tensor]:
    """The lanes sorted by agent, and which of its agent's lanes each one is, counted from 0; int64 [B]."""
    order = torch.argsort(agent, stable=True)
    counts = torch.bincount(agent)
    first = counts.cumsum(0) - counts
    return order, torch.arange(len(agent), device=agent.device) - first[agent[order]]
