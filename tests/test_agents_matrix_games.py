"""Multi-agent learners on games whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from routing_env.agents import make_router
from routing_env.agents.giga_wolf import giga_wolf_update
from routing_env.agents.gradient import log_softmax
from routing_env.agents.pga_app import pga_app_update
from routing_env.agents.wolf_phc import wolf_phc_update
from routing_env.agents.wpl import wpl_step
from routing_env.agents.wpl_approx import wpl_loss
from routing_env.maintenance.matrix_games import (
    CLIMBING,
    MATCHING_PENNIES,
    ROCK_PAPER_SCISSORS,
    MatrixGame,
    matrix_spec,
    play_matrix_games,
    symmetric,
)
from routing_env.types import Router

Update = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""From the policies [players, A], the values of all actions [players, A], legality and the round to new policies."""

TABLES = 10

COORDINATION = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 0.25]])
"""Both want the same; the first action is the best to agree on."""


def play(router: Router, payoff: Tensor, rounds: int, tables: int) -> Tensor:
    """The players' exploring policies in the second half of a game with equal payoffs, float32 [2 * tables, A]."""
    return play_matrix_games(router, [symmetric(payoff)], rounds, tables).average.flatten(0, 2)


def wpl() -> Update:
    return lambda policy, value, legal, played: wpl_step(policy, value, legal, 0.005, 0.001)


def wpl_approx() -> Update:
    def update(policy: Tensor, value: Tensor, legal: Tensor, played: int) -> Tensor:
        logits = policy.log().requires_grad_()
        wpl_loss(log_softmax(logits, legal), value, legal, 0.1, 0.001).sum().backward()
        assert logits.grad is not None
        return (logits.detach() - logits.grad).softmax(-1)

    return update


def giga_wolf() -> Update:
    slow: list[Tensor] = []

    def update(policy: Tensor, value: Tensor, legal: Tensor, played: int) -> Tensor:
        policy, new_slow = giga_wolf_update(policy, slow.pop() if slow else policy, value, legal, 0.02)
        slow.append(new_slow)
        return policy

    return update


def wolf_phc() -> Update:
    averages: list[Tensor] = []

    def update(policy: Tensor, value: Tensor, legal: Tensor, played: int) -> Tensor:
        average, step = averages.pop() if averages else policy, 1 / (500 + played / 10)
        policy, average = wolf_phc_update(policy, average, torch.tensor(played + 1), value, legal, step, 4 * step)
        averages.append(average)
        return policy

    return update


def pga_app() -> Update:
    return lambda policy, value, legal, played: pga_app_update(policy, value, legal, 0.01, 3.0)


@pytest.mark.parametrize("game", [ROCK_PAPER_SCISSORS, MATCHING_PENNIES], ids=["rock-paper-scissors", "pennies"])
@pytest.mark.parametrize(
    ("learner", "rounds"), [(wpl, 4000), (wpl_approx, 1500), (giga_wolf, 1500), (wolf_phc, 12000), (pga_app, 1500)]
)
def test_policies_reach_the_mixed_equilibrium(learner: Callable[[], Update], rounds: int, game: MatrixGame) -> None:
    """Against itself, from random policies, where plain gradient ascent would circle for ever."""
    actions, update = game.actions, learner()
    generator = torch.Generator().manual_seed(0)
    policy = -torch.rand(2 * TABLES, actions, generator=generator).log()
    policy = policy / policy.sum(1, keepdim=True)
    legal = torch.ones(actions, dtype=torch.bool)
    for played in range(rounds):
        other = policy.view(TABLES, 2, actions).flip(1)
        value = torch.stack([other[:, 0] @ game.row.T, other[:, 1] @ game.column.T], dim=1).flatten(0, 1)
        policy = update(policy, value, legal, played)
    torch.testing.assert_close(policy, torch.full_like(policy, 1 / actions), atol=0.08, rtol=0)


@pytest.mark.parametrize("name", ["q-learning", "sarsa", "hysteretic-q"])
def test_value_learners_agree_on_the_best_action(name: str) -> None:
    router = make_router(name, matrix_spec(20, 3), step=0.1, epsilon=(1.0, 0.1, 40 * 300))
    policy = play(router, COORDINATION, 600, 20)
    assert (policy.argmax(1) == 0).float().mean() >= 0.9


@pytest.mark.parametrize("name", ["wpl", "giga-wolf", "wolf-phc", "pga-app", "exp3", "reinforce", "wpl-approx"])
def test_policy_learners_agree(name: str) -> None:
    """Both players of most tables settle on the same action, and mostly on the best."""
    tables = 20
    options: dict[str, dict[str, Any]] = {
        "wpl": {"rule": "full-vector"},
        "wpl-approx": {"network": "table", "learning_rate": 0.02},
    }
    router = make_router(name, matrix_spec(tables, 3), **options.get(name, {}))
    policy = play(router, COORDINATION, 1000, tables)
    choice = policy.argmax(1).view(tables, 2)
    assert (choice[:, 0] == choice[:, 1]).float().mean() >= 0.9
    assert (choice == 0).float().mean() >= 0.6


def test_algorithm_3_as_printed_avoids_variance() -> None:
    """It weighs bad news by 1 - pi and good news by pi, so that of actions it settles on the steadiest, here the worst.

    Not what one wants, but what the paper prints; this holds the reproduction to it.
    """
    tables = 20
    policy = play(make_router("wpl", matrix_spec(tables, 3)), COORDINATION, 1500, tables)
    assert (policy.argmax(1) == 2).float().mean() >= 0.9


def test_hysteresis_climbs_higher() -> None:
    """Claus & Boutilier's climbing game: penalties drive plain Q-learners from the best joint action."""
    tables = 50
    reached: dict[str, float] = {}
    variants: dict[str, dict[str, Any]] = {"q-learning": {}, "hysteretic-q": {"decrease": 0.1}}
    for name, options in variants.items():
        router = make_router(name, matrix_spec(tables, 3), step=0.1, epsilon=(1.0, 0.05, 2 * tables * 1000), **options)
        choice = play(router, CLIMBING, 1500, tables).argmax(1).view(tables, 2)
        reached[name] = CLIMBING[choice[:, 0], choice[:, 1]].mean().item()
    assert reached["hysteretic-q"] > reached["q-learning"] + 1
