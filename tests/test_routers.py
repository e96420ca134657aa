"""Every router plays every kind of game, and a run is bit-exactly reproducible."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import Blueprint, bits, little_data, little_game

from routing_env.agents import ROUTERS, make_router
from routing_env.agents.dispatched import DispatchedRouter
from routing_env.agents.q_learning import QLearning
from routing_env.data import load
from routing_env.game.build import make_game
from routing_env.game.routing_game import RoutingGame
from routing_env.state_dicts import same_state
from routing_env.types import GameSpec, Router, State, Trace

WORLDS = {
    "layered, layers of different sizes": Blueprint((3, 4, 3, 2), (2, 3, 2), depth=3),
    "layered with PASS": Blueprint((3, 3, 3, 2), (3, 2, 2), depth=3, pass_action=True),
    "recursive with PASS, widths that do not match": Blueprint((3, 4, 2), (3, 2), 4, recursive=True, pass_action=True),
    "recursive, deeper than its layers": Blueprint((3, 4, 4, 2), (2, 2, 3), 5, recursive=True),
    "recursive, less deep than its layers": Blueprint((3, 4, 4, 2), (2, 2, 2), 2, recursive=True),
}
NOT_LEARNING = {"all-shared", "fixed", "oracle", "round-robin"}
"""These follow the layers of the network, whatever the mask of the state."""


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_plays_every_game(name: str, world: str) -> None:
    """The game refuses illegal actions; the policies named must be distributions over the legal ones."""
    blueprint = WORLDS[world]
    data = replace(little_data(3, (2, 2, 2)), groups=(0, 1, 0))
    game = little_game(blueprint.network(), data, rho=0.3)
    router = make_router(name, game.spec, seed=1)
    router.play(game, len(data.train))
    assert game.samples >= len(data.train)
    for depth, decision in enumerate(game.trace.decisions):
        if decision.probability is not None:
            assert_distribution(decision.probability, game.trace.states[depth].legal)
    before = router.state_dict()
    greedy = [game.evaluate(router, "test") for _ in range(2)]
    assert repr(router.state_dict().keys()) == repr(before.keys())
    if name != "random":
        assert torch.equal(greedy[0].routes, greedy[1].routes), "greedy means the same way every time"


@pytest.mark.parametrize("name", sorted(set(ROUTERS) - NOT_LEARNING))
def test_policies_respect_any_mask(name: str) -> None:
    lanes, generator = 200, torch.Generator().manual_seed(0)
    actions, depth, features = 5, 2, 4
    spec = GameSpec(
        tasks=3,
        depth=depth,
        actions=actions,
        features=features,
        legal=torch.ones(depth, actions, dtype=torch.bool),
        layers=(tuple(range(actions)),) * depth,
        device=torch.device("cpu"),
    )
    router = make_router(name, spec, seed=0)
    task = torch.randint(3, (lanes,), generator=generator)
    agent: Tensor | None = None
    for i in range(depth):
        legal = torch.rand(lanes, actions, generator=generator) < 0.4
        legal[torch.arange(lanes), torch.randint(actions, (lanes,), generator=generator)] = True
        state = State(torch.randn(lanes, features, generator=generator), task, i, legal, agent)
        for greedy in (False, True):
            decision = router.act(state, greedy=greedy)
            agent = decision.agent
            assert decision.action.dtype == torch.int64
            assert legal.gather(1, decision.action[:, None]).all()
            if decision.probability is not None:
                assert_distribution(decision.probability, legal)


def assert_distribution(probability: Tensor, legal: Tensor) -> None:
    assert probability.shape == legal.shape
    assert (probability >= 0).all()
    assert (probability[~legal] == 0).all()
    torch.testing.assert_close(probability.sum(1), torch.ones(len(legal)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["wpl", "q-learning", "random", "reinforce-approx", "gumbel-softmax"])
def test_a_run_on_digits_is_the_same_to_the_bit(name: str) -> None:
    data = load("digits")

    def run(seed: int) -> tuple[dict[str, bytes], str, Tensor]:
        settings: dict[str, Any] = {"network": "mlp", "hidden": 16, "batch_size": 32, "momentum": 0.9, "rho": 0.3}
        game = make_game(data=data, seed=seed, **settings)
        router = make_router(name, game.spec, seed=seed)
        router.play(game, 640)
        routes = game.evaluate(router, "validation").routes
        return bits(game.network.state_dict()), repr(router.state_dict()), routes

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)  # the global generator plays no part
    second = run(0)
    assert first[:2] == second[:2]
    assert torch.equal(first[2], second[2])
    assert run(1)[0] != first[0]


def routed(router: Router, game: RoutingGame) -> Trace:
    state: State | None = game.reset()
    while state is not None:
        state = game.step(router.act(state))
    return game.trace


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in sorted(ROUTERS)),
        ("dispatched", {"router": "gumbel-softmax", "dispatcher": "gumbel-softmax"}),
        ("per-layer", {"routers": ["gumbel-softmax", "dispatched", "relax"]}),
    ],
)
def test_what_a_router_learns_follows_from_its_state_and_the_trace(name: str, options: dict[str, Any]) -> None:
    """Two deals are routed before it learns from the first: as a twin does that has not acted at all."""
    data = replace(little_data(3, (2, 2, 2)), groups=(0, 1, 0))
    games = [make_game(data=data, network="mlp", hidden=4, batch_size=6, rho=0.3, seed=seed) for seed in range(2)]
    router, twin = (make_router(name, games[0].spec, seed=seed, **options) for seed in (1, 2))
    router.play(games[0], 30)
    first, second = (routed(router, game) for game in games)
    games[0].evaluate(router, "test")
    routed(router, games[1])
    twin.load_state_dict(deepcopy(router.state_dict()))
    for trace in (first, second):
        assert router.learn(trace) == twin.learn(trace)
        assert same_state(router.state_dict(), twin.state_dict())


def test_a_dispatched_deal_teaches_the_agents_that_it_went_to() -> None:
    """Deals of one lane, learned in another order than they were routed in."""
    game = make_game(data=little_data(3, (2, 2, 2)), network="mlp", hidden=4, batch_size=1)
    router = make_router("dispatched", game.spec, agents=5, router="q-learning", dispatcher="random")
    assert isinstance(router, DispatchedRouter)
    assert isinstance(router.agent_router, QLearning)
    traces = [routed(router, game) for _ in range(6)]
    taught: list[int] = []
    for trace in reversed(traces):
        before = router.agent_router.value.clone()
        router.learn(trace)
        picked = trace.decisions[0].agent
        assert picked is not None
        taught += picked.tolist()
        assert (router.agent_router.value != before).flatten(1).any(1).nonzero()[:, 0].tolist() == picked.tolist()
    assert len(set(taught)) > 1
