"""The theory of the game against a brute force that plays every route through the game itself."""

from __future__ import annotations

import random
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from small_games import DATA, GAMES, trained
from torch import Tensor
from worlds import bits, little_data

from routing_env import make_game
from routing_env.agents import make_router
from routing_env.analysis import (
    Payoffs,
    adapted_gap,
    best_response,
    counterfactuals,
    dynamic_regret,
    earned,
    frozen_payoffs,
    most_routes,
    nash_gap,
    near_best,
    policy_value,
)
from routing_env.data.planted import plant
from routing_env.game.routing_game import RoutingGame
from routing_env.state_dicts import same_state
from routing_env.types import Batch, Decision, State


def played(game: RoutingGame, batch: Batch, routes: Tensor) -> Tensor:
    """What each lane earns on its route, float [B]; NaN where it meets an illegal action."""
    state: State | None = game.reset(batch, train=False)
    alive = torch.ones(len(batch), dtype=torch.bool)
    while state is not None:
        only = state.legal.sum(1) == 1
        action = torch.where(only, state.legal.int().argmax(1), routes[:, state.depth])
        lost = ~state.legal.gather(1, action[:, None])[:, 0] & alive
        alive &= ~lost
        state = game.step(Decision(action), forfeit=lost)
    return game.trace.returns()[:, 0].double().where(alive, torch.nan)


@pytest.mark.parametrize("name", GAMES)
def test_payoffs_are_those_of_the_game_played_route_by_route(name: str) -> None:
    game = trained(name)
    payoffs = frozen_payoffs(game, "test")
    assert payoffs.exhaustive
    batch = game.data.gather(game.data.test)
    found: dict[tuple[int, ...], Tensor] = {}
    every = list(product(range(game.spec.actions), repeat=game.spec.depth))
    some = random.Random(0).sample(every, min(600, len(every)))
    for path in [*some, *map(tuple, payoffs.routes[best_response(payoffs)].tolist())]:
        lanes = played(game, batch, torch.tensor([path]).expand(len(batch), -1))
        found[path] = torch.stack([lanes[batch.task == task].mean() for task in range(3)])
    for column, path in enumerate(map(tuple, payoffs.routes.tolist())):
        if path in found:
            torch.testing.assert_close(payoffs.reward[:, column], found[path], equal_nan=True)
    best = torch.stack(list(found.values()), dim=1).nan_to_num(-9.0).amax(1)
    torch.testing.assert_close(payoffs.reward.nan_to_num(-9.0).amax(1), best)
    seen = {tuple(path) for path in payoffs.routes.tolist()}
    assert len(seen) == len(payoffs.routes)
    if name in ("layered", "recursive"):  # where legality is the same for all lanes, exactly the legal routes
        assert seen == {path for path, reward in found.items() if not reward.isnan().any()}


@pytest.mark.parametrize("name", GAMES)
def test_counterfactuals_are_those_of_the_game(name: str) -> None:
    game = trained(name)
    batch = game.data.gather(game.data.test[torch.arange(0, 24, 3)])
    router = make_router("random", game.spec, seed=2)
    found = counterfactuals(game, batch, router)
    assert found.shape == (8, game.spec.depth, game.spec.actions)
    routes: list[Tensor] = []
    state: State | None = game.reset(batch, train=False)
    while state is not None:
        routes.append(router.act(state, greedy=True).action)
        state = game.step(Decision(routes[-1]))
    own = torch.stack(routes, dim=1)
    for depth, action in product(range(game.spec.depth), range(game.spec.actions)):
        other = own.clone()
        other[:, depth] = action
        expected = played(game, batch, other)
        mine = found[:, depth, action].double()
        forced = mine.isnan() & ~expected.isnan()  # the game would have taken the only legal action in its place
        torch.testing.assert_close(mine.where(~forced, 0.0), expected.where(~forced, 0.0), equal_nan=True)
    taken = found.gather(2, own[:, :, None])[:, :, 0]
    assert not taken.isnan().any()
    torch.testing.assert_close(taken, taken[:, :1].expand_as(taken))


def test_a_policy_is_worth_what_its_routes_earn() -> None:
    game = trained("layered")
    router = make_router("wpl", game.spec)
    router.play(game, 160)
    payoffs = frozen_payoffs(game, "test", router=router)
    assert payoffs.chance is not None
    torch.testing.assert_close(payoffs.chance.sum(1), torch.ones(3, dtype=torch.float64))
    table: Any = router
    torch.testing.assert_close(policy_value(payoffs, table.policy), policy_value(payoffs), atol=1e-6, rtol=0)
    torch.testing.assert_close(policy_value(payoffs, payoffs.chance), policy_value(payoffs), atol=1e-6, rtol=0)


def test_a_policy_that_looks_at_v_is_worth_what_its_draws_earn() -> None:
    game = trained("recursive")
    router = make_router("reinforce-approx", game.spec, learning_rate=0.01)
    router.play(game, 160)
    value = policy_value(frozen_payoffs(game, "test", router=router))
    generator = torch.Generator().manual_seed(0)

    def draw(state: State) -> Tensor:
        policy = router.probability(state)
        assert policy is not None
        return torch.multinomial(policy, 1, generator=generator)[:, 0]

    with torch.no_grad():
        draws = torch.stack([earned(game, draw) for _ in range(400)])
    error = draws.std(0) / 20
    assert ((draws.mean(0) - value).abs() < 4 * error + 1e-6).all()
    before = deepcopy(router.state_dict())
    drawn = earned(game, router, greedy=False)
    assert same_state(router.state_dict(), before)
    assert ((drawn - value).abs() < 6 * draws.std(0) + 1e-6).all()


def test_gaps_by_hand() -> None:
    routes = torch.tensor([[0, 0], [0, 1], [1, 0]])
    reward = torch.tensor([[1.0, 0.99, -1.0], [0.0, torch.nan, 0.5]], dtype=torch.float64)
    payoffs = Payoffs("test", routes, reward, exhaustive=True)
    assert best_response(payoffs).tolist() == [0, 2]
    assert near_best(payoffs).tolist() == [2, 1]
    assert near_best(payoffs, 2.0).tolist() == [3, 2]
    policy = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [1.0, 0.0]]])  # [T, D, A]
    assert policy_value(payoffs, policy).tolist() == [0.0, 0.375]
    assert nash_gap(payoffs, policy).tolist() == [1.0, 0.125]
    other = Payoffs("validation", routes, torch.tensor([[0.0, 0.1, 0.0], [0.9, torch.nan, 0.5]]).double(), True)
    assert nash_gap(payoffs, policy, chosen=other).tolist() == pytest.approx([0.99, -0.375])
    with pytest.raises(ValueError, match="takes routes that are illegal"):
        policy_value(payoffs, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]))
    with pytest.raises(ValueError, match="know no policy"):
        nash_gap(payoffs)
    gaps = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.5, 2.0]], dtype=torch.float64)
    assert dynamic_regret([0, 10, 30], gaps).tolist() == [17.5, 20.0]


def test_nothing_is_trained_or_disturbed() -> None:
    game = trained("recursive")
    router = make_router("reinforce-approx", game.spec)
    router.play(game, 40)
    state = game.reset()
    weights = bits(game.network.state_dict())
    history, knowledge = deepcopy(game.collaboration.state_dict()), deepcopy(router.state_dict())
    payoffs = frozen_payoffs(game, router=router)
    routes = payoffs.routes[best_response(payoffs)]
    counterfactuals(game, game.data.gather(game.data.test), router)
    earned(game, router, greedy=False)
    adapted_gap(game, router, routes, samples=16, tasks=[1])
    assert bits(game.network.state_dict()) == weights
    assert same_state(game.collaboration.state_dict(), history)
    assert same_state(router.state_dict(), knowledge)
    while state is not None:
        state = game.step(router.act(state))
    assert len(game.trace.final_reward) == len(game.trace.task) > 0


def test_sampled_routes_have_the_same_payoffs_and_a_good_best() -> None:
    game = trained("recursive")
    everything, some = frozen_payoffs(game), frozen_payoffs(game, most=10)
    assert most_routes(game) > 10
    assert everything.exhaustive
    assert not some.exhaustive
    place = {tuple(path): n for n, path in enumerate(everything.routes.tolist())}
    columns = [place[tuple(path)] for path in some.routes.tolist()]
    torch.testing.assert_close(some.reward, everything.reward[:, columns], equal_nan=True)
    best = some.routes[best_response(some)]
    for task, route in enumerate(best):  # no action at a single depth is better
        near = (everything.routes != route).sum(1) == 1
        assert (
            everything.reward[task, near].nan_to_num(-9).max() <= everything.reward[task, place[tuple(route.tolist())]]
        )


def test_an_agent_gains_nothing_by_its_own_route_and_loses_its_partners_by_another() -> None:
    game = make_game(data=plant(groups=2, tasks_per_group=2, samples=100), learning_rate=0.1, momentum=0.9)
    oracle = make_router("oracle", game.spec)
    oracle.play(game, 3_000)
    own = torch.tensor([[0], [0], [1], [1]])
    assert adapted_gap(game, oracle, own, samples=400).tolist() == [0.0] * 4
    alone = adapted_gap(game, oracle, 1 - own, samples=2_000)
    assert (alone < -0.2).all()


def test_algorithm_3_leaves_gains_that_the_full_vector_rule_takes() -> None:
    worst: dict[str, float] = {}
    for rule in ("algorithm-3", "full-vector"):
        game = make_game(data="planted")
        router = make_router("wpl", game.spec, rule=rule)
        router.play(game, 6 * game.dealer.pass_size)
        chosen = frozen_payoffs(game, "validation")
        worst[rule] = float(nash_gap(frozen_payoffs(game, "test", router=router), chosen=chosen).max())
    assert worst["algorithm-3"] > 0.3
    assert abs(worst["full-vector"]) < 0.05


def test_what_cannot_be_analysed_is_refused() -> None:
    game = make_game(data=DATA, network="mlp", hidden=4, layers=2, final_reward="team")
    with pytest.raises(ValueError, match="depends on the other lanes"):
        frozen_payoffs(game)
    game = trained("layered")
    with pytest.raises(NotImplementedError, match="more than 3, so that a policy cannot be valued"):
        frozen_payoffs(game, router=make_router("wpl", game.spec), most=3)
    with pytest.raises(NotImplementedError, match="does not say its policy"):
        frozen_payoffs(game, router=make_router("dispatched", game.spec))
    regression = make_game(data=little_data(4, (2, 2), regression=2), network="mlp", hidden=4, layers=2)
    assert (frozen_payoffs(regression, "test").reward < 0).all()
