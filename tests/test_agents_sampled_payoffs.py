"""Routers play each other in games with known answers, and learn from the payoffs of sampled joint actions alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from routing_env.agents import ROUTERS, make_router
from routing_env.agents.presets import MATRIX_GAMES
from routing_env.agents.wpl import Rule
from routing_env.maintenance.matrix_games import (
    BIASED_PENNIES,
    GAMES,
    ROCK_PAPER_SCISSORS,
    SHAPLEY,
    matrix_spec,
    matrix_state,
    one_round,
    play_all,
    play_matrix_games,
    start_anywhere,
)

MIXED = ("matching pennies", "biased pennies", "rock-paper-scissors", "Shapley's game")
"""Games whose only equilibrium is mixed."""


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("wpl", (0.25, 0.2, 0.35, 1.2)),
        ("wpl-approx", (0.25, 0.2, 0.35, 1.2)),
        ("pga-app", (0.35, 0.2, 0.45, 1.2)),
        ("wolf-phc", (0.45, 0.3, 0.6, 1.4)),
        ("giga-wolf", (0.75, 0.6, 0.8, None)),  # Bowling (2004) shows that it does not converge in Shapley's game
    ],
)
def test_policies_of_the_matrix_games_preset_approach_equilibria(name: str, bounds: tuple[float | None, ...]) -> None:
    """NashConv of the exploring policies in the last 300 of 3,000 rounds, from random policies; about 2 is circling.

    For the biased pennies the uniform policies have 0.4.
    """
    found = play_all(name, "matrix-games", rounds=3000, tables=10)
    for game, bound in zip(MIXED, bounds, strict=True):
        assert bound is None or found[game].nash_conv < bound, (game, found[game])
    assert found["prisoners' dilemma"].answered == 1


def test_exp3_approaches_zero_sum_equilibria_on_average() -> None:
    """What two learners without regret are known to do; the policies themselves need not converge."""
    found = play_all("exp3", "routing", rounds=3000, tables=10)
    for game in ("matching pennies", "biased pennies", "rock-paper-scissors"):
        assert found[game].of_average < 0.4 < found[game].nash_conv, (game, found[game])
    assert found["prisoners' dilemma"].answered >= 0.9


def test_hysteretic_learners_find_the_best_joint_actions() -> None:
    found = play_all("hysteretic-q", "matrix-games", rounds=800, tables=20)
    for game in ("stag hunt", "climbing", "prisoners' dilemma"):
        assert found[game].answered >= 0.8, (game, found[game])
    usual = play_all("hysteretic-q", "routing", rounds=800, tables=20)
    for game in ("stag hunt", "climbing"):
        assert usual[game].answered < 0.4, (game, usual[game])


@pytest.mark.parametrize(
    ("name", "options"), [("wpl", {"rule": "full-vector"}), ("pga-app", {}), ("wolf-phc", {}), ("giga-wolf", {})]
)
def test_policies_of_the_routing_preset_circle(name: str, options: dict[str, Any]) -> None:
    """The reason for the other preset."""
    router = make_router(name, matrix_spec(20, 3), **options)
    start_anywhere(router, 0)
    played = play_matrix_games(router, [ROCK_PAPER_SCISSORS, SHAPLEY], 1000, 10)
    assert (played.nash_conv() > 1.3).all(), played.nash_conv()


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize(("rule", "least", "most"), [("section-7.4", 0.25, 0.45), ("full-vector", 0.95, 1.0)])
def test_section_7_4_has_the_uniform_policy_as_its_attractor(rule: Rule, least: float, most: float, start: int) -> None:
    """Three actions earn 1, 0 and -1 on average, with the same spread, and the policy starts on the first or the last.

    The rule of section 7.4 forgets which action is best; the full-vector rule finds it.
    """
    own: dict[str, Any] = {"value_step": 0.1} if rule == "full-vector" else {}
    router = make_router("wpl", matrix_spec(50, 3), rule=rule, step=0.02, **own)
    policy = torch.full((3,), 0.05).index_fill(0, torch.tensor(start), 0.9)
    router.load_state_dict({**router.state_dict(), "tables": tables_of(router) | {"policy": policy.expand(100, 1, 3)}})
    seen, generator = matrix_state(50, 3), torch.Generator().manual_seed(0)
    for _ in range(1500):
        decision = router.act(seen)
        noise = torch.randint(2, (100,), generator=generator) * 2.0 - 1
        router.learn(one_round(seen, decision, 1.0 - decision.action + noise))
    probability = router.act(seen).probability
    assert probability is not None
    best = probability[:, 0].mean().item()
    assert least < best < most, best


def tables_of(router: Any) -> dict[str, torch.Tensor]:
    return dict(router.state_dict()["tables"])


def test_nash_conv() -> None:
    """0 in the equilibria that are not uniform, and what a best response gains elsewhere."""
    third = torch.tensor([[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
    torch.testing.assert_close(BIASED_PENNIES.nash_conv(third), torch.tensor(0.0), atol=1e-6, rtol=0)
    # Rock against paper: rock loses 1 and could win 1 by scissors; paper wins already.
    rock_paper = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    assert ROCK_PAPER_SCISSORS.nash_conv(rock_paper).item() == 2
    for name, game in GAMES.items():
        if game.answer is not None:
            both = torch.eye(game.actions)[[game.answer, game.answer]]
            assert game.nash_conv(both).item() == pytest.approx(0, abs=1e-6), name
    uniform = torch.full((2, 3), 1 / 3)
    assert SHAPLEY.nash_conv(uniform).item() == pytest.approx(0, abs=1e-6)
    # Both play the first: the row player has matched, and the column player gains 2 by the second.
    assert SHAPLEY.nash_conv(torch.eye(3)[[0, 0]]).item() == 2


def test_presets() -> None:
    spec = matrix_spec(2, 3)
    for name in MATRIX_GAMES:
        assert name in ROUTERS
        for option, value in MATRIX_GAMES[name].items():
            assert getattr(make_router(name, spec, preset="matrix-games"), option) == value
            assert getattr(make_router(name, spec, **MATRIX_GAMES[name]), option) == value
    assert make_router("wpl", spec, preset="matrix-games", step=0.3).step == 0.3  # pyright: ignore
    assert make_router("wpl", spec, preset="routing").rule == "algorithm-3"  # pyright: ignore
    dispatched: Any = make_router("wpl", spec, preset="matrix-games", topology="dispatched")
    assert dispatched.agent_router.rule == "full-vector"
    with pytest.raises(
        ValueError, match="the preset 'matrix-games' has no options for router 'sarsa'; it knows giga-wolf,"
    ):
        make_router("sarsa", spec, preset="matrix-games")
    with pytest.raises(ValueError, match="preset is 'matrix'; it must be 'routing' or 'matrix-games'"):
        make_router("wpl", spec, preset="matrix")  # pyright: ignore[reportArgumentType]
