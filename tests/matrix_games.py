"""Two-player games in normal form, played by routers: many independent tables at once, two agents at each."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.types import Decision, GameSpec, Outcome, Router, State, Trace

ROCK_PAPER_SCISSORS = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
"""Zero-sum; the only equilibrium is (1/3, 1/3, 1/3) for both."""
MATCHING_PENNIES = torch.tensor([[1.0, -1], [-1, 1]])
"""Zero-sum for the row player; the only equilibrium is (1/2, 1/2) for both."""
COORDINATION = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 0.25]])
"""Both want the same; the first action is the best to agree on."""
CLIMBING = torch.tensor([[11.0, -30, 0], [-30, 7, 6], [0, 0, 5]])
"""Claus & Boutilier (1998): the best joint action (0, 0) is guarded by penalties."""


def spec(tables: int, actions: int) -> GameSpec:
    """A game of one decision; agents 2n and 2n + 1 sit at table n."""
    return GameSpec(
        tasks=2 * tables,
        depth=1,
        actions=actions,
        features=1,
        legal=torch.ones(1, actions, dtype=torch.bool),
        layers=(tuple(range(actions)),),
        device=torch.device("cpu"),
    )


def state(tables: int, actions: int) -> State:
    """What all players see: nothing."""
    lanes = 2 * tables
    legal = torch.ones(lanes, actions, dtype=torch.bool)
    return State(torch.zeros(lanes, 1), torch.arange(lanes), 0, legal)


def trace(seen: State, decision: Decision, payoff: Tensor) -> Trace:
    """One round."""
    nothing = torch.zeros(len(payoff), dtype=torch.bool)
    outcome = Outcome(seen.task, payoff[:, None], payoff.long(), payoff.long(), -payoff, nothing, nothing)
    return Trace((seen,), (decision,), torch.zeros(len(payoff), 1), payoff, outcome)


def play(router: Router, row: Tensor, column: Tensor, rounds: int, tables: int) -> Tensor:
    """Let a router's agents play each other.

    Args:
        router: built for :func:`spec`.
        row: payoff of the row players, float32 [A, A], by (own action, the other's).
        column: payoff of the column players, also by (own action, the other's).
        rounds: rounds at every table.
        tables: number of tables.

    Returns:
        The agents' exploring policies in the second half of the rounds, averaged, float32 [2 * tables, A].
    """
    seen = state(tables, len(row))
    total = torch.zeros(2 * tables, len(row))
    for played in range(rounds):
        decision = router.act(seen)
        assert decision.probability is not None
        own = decision.action
        other = own.view(-1, 2).flip(1).flatten()
        is_row = torch.arange(2 * tables) % 2 == 0
        payoff = torch.where(is_row, row[own, other], column[own, other])
        router.learn(trace(seen, decision, payoff))
        if played >= rounds // 2:
            total += decision.probability
    return total / (rounds - rounds // 2)
