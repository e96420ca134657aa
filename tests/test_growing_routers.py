"""Routers that take further tasks: known agents keep their bits, further ones begin like new."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from routing_env.agents import ROUTERS, make_router
from routing_env.agents.base import PolicyRouter
from routing_env.agents.gradient import GradientRouter
from routing_env.agents.growth import enlarged
from routing_env.data import MultiTaskData, Split, make_data
from routing_env.game.build import make_game
from routing_env.game.network import RoutedNetwork, mlp
from routing_env.game.routing_game import RoutingGame
from routing_env.state_dicts import same_state
from routing_env.types import Batch, GameSpec, Router, State

KNOWN, ALL = 3, 5


def new_game() -> RoutingGame:
    """Five tasks on noise; layers of 4, 2 and 3 blocks, so that some actions are illegal."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 5, generator=generator)
    task = torch.arange(ALL).repeat_interleave(16)
    samples = Split(torch.arange(16).repeat(ALL), task, torch.randint(2, (16 * ALL,), generator=generator))
    data = make_data("noise", inputs, samples, samples, list("abcde"), [2] * ALL, validation=0.0)

    def network(data: MultiTaskData) -> RoutedNetwork:
        return mlp(data.input_shape, data.outputs, [4, 2, 3], hidden=5)

    return make_game(data=replace(data, groups=(0, 1, 0, 1, 1)), network=network, batch_size=8, learning_rate=0.1)


def spec_of(game: RoutingGame, tasks: int) -> GameSpec:
    assert game.spec.groups is not None
    return replace(game.spec, tasks=tasks, groups=game.spec.groups[:tasks])


def batch_of(game: RoutingGame, *tasks: int) -> Batch:
    everything = game.data.gather(game.data.train)
    rows = torch.isin(everything.task, torch.tensor(tasks))
    return Batch(everything.x[rows], everything.task[rows], everything.target[rows])


def play(game: RoutingGame, router: Router, *tasks: int, deals: int = 6) -> None:
    for _ in range(deals):
        state: State | None = game.reset(batch_of(game, *tasks))
        while state is not None:
            state = game.step(router.act(state))
        router.learn(game.trace)


def decisions(game: RoutingGame, router: Router, *tasks: int) -> list[Any]:
    """Actions and probabilities along the routes of a deal that trains nothing, drawn and then greedy."""
    found: list[Any] = []
    for greedy in (False, True):
        state: State | None = game.reset(batch_of(game, *tasks), train=False)
        while state is not None:
            decision = router.act(state, greedy=greedy)
            found += [decision.action, decision.probability]
            state = game.step(decision)
    return found


def kind(name: str, **options: Any) -> Callable[[GameSpec], Router]:
    return partial(make_router, name, seed=1, **options)


KINDS: dict[str, Callable[[GameSpec], Router]] = {
    **{name: kind(name) for name in ROUTERS},
    "sarsa-approx, mlp": kind("sarsa-approx", network="mlp"),
    "reinforce-approx, sgd": kind("reinforce-approx", optimizer="sgd"),
}
SHARED: dict[str, Callable[[GameSpec], Router]] = {
    "wpl, single": kind("wpl", topology="single"),
    "reinforce-approx, single": kind("reinforce-approx", topology="single"),
    "gumbel-softmax, single": kind("gumbel-softmax", topology="single", network="mlp"),
}


@pytest.mark.parametrize("name", [*KINDS, *SHARED])
def test_known_tasks_are_routed_by_the_same_bits(name: str) -> None:
    game = new_game()
    router = {**KINDS, **SHARED}[name](spec_of(game, KNOWN))
    play(game, router, 0, 1, 2)
    before = deepcopy(router.state_dict())
    grown = router.grow(game.spec)
    assert type(grown) is type(router)
    assert same_state(router.grow(spec_of(game, KNOWN)).state_dict(), before)
    for tasks in ((0, 1, 2), (1,), (0, 2)):
        expected = decisions(game, router.grow(spec_of(game, KNOWN)), *tasks)  # a copy, whose generator has not moved
        assert same_state(decisions(game, router.grow(game.spec), *tasks), expected)
    assert same_state(router.state_dict(), before)
    play(game, grown, 0, 1, 2, 3, 4)
    assert same_state(router.state_dict(), before), "the grown router shares memory with the one it grew from"


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"dispatched", "round-robin", "random"}))
def test_further_tasks_are_routed_as_by_a_new_router(name: str) -> None:
    game = new_game()
    router = KINDS[name](spec_of(game, KNOWN))
    play(game, router, 0, 1, 2)
    grown, fresh = router.grow(game.spec), KINDS[name](game.spec)
    for own, new in zip(parts(grown), parts(fresh), strict=True):
        if isinstance(own, PolicyRouter):
            assert isinstance(new, PolicyRouter)
            own.generator, new.generator = (torch.Generator().manual_seed(0) for _ in range(2))
            new.samples = own.samples  # schedules go on
    assert same_state(decisions(game, grown, 3, 4), decisions(game, fresh, 3, 4))


def parts(router: Router) -> list[Router]:
    """The routers that a router consists of."""
    return getattr(router, "parts", [router])


@pytest.mark.parametrize("name", [*KINDS, *SHARED])
def test_a_grown_router_learns_and_a_checkpoint_of_it_fits_one_that_grew_alike(name: str) -> None:
    game = new_game()
    router = {**KINDS, **SHARED}[name](spec_of(game, KNOWN))
    play(game, router, 0, 1, 2)
    grown = router.grow(game.spec)
    play(game, grown, 3, 4)
    state = deepcopy(grown.state_dict())
    again = {**KINDS, **SHARED}[name](spec_of(game, KNOWN)).grow(game.spec)
    again.load_state_dict(state)
    assert same_state(again.state_dict(), state)


@pytest.mark.parametrize("name", ["wpl", "q-learning", "exp3", "reinforce-approx", "relax", "wpl-approx"])
def test_known_agents_stay_bitwise_while_only_further_ones_learn(name: str) -> None:
    game = new_game()
    router = KINDS[name](spec_of(game, KNOWN))
    play(game, router, 0, 1, 2)
    grown = router.grow(game.spec)
    known = [tensor[:KNOWN].clone() for tensor in by_agent(grown)]
    further = [tensor[KNOWN:].clone() for tensor in by_agent(grown)]
    play(game, grown, 3, 4)
    assert all(map(torch.equal, known, (tensor[:KNOWN] for tensor in by_agent(grown))))
    assert not all(map(torch.equal, further, (tensor[KNOWN:] for tensor in by_agent(grown))))


def by_agent(router: Router) -> list[Tensor]:
    """The tensors with an axis of agents."""
    state = router.state_dict()
    tables = list(state.get("tables", {}).values()) + list(state.get("networks", {}).values())
    return [tensor for tensor in tables if len(tensor) == ALL]


@pytest.mark.parametrize("known", [1, 2])
def test_the_optimiser_goes_on_where_it_stood(known: int) -> None:
    """A single agent per task is stepped as a shared one until there is a second."""
    game = new_game()
    router = make_router("reinforce-approx", spec_of(game, known), seed=1)
    play(game, router, *range(known), deals=3)
    grown = router.grow(game.spec)
    state = grown.state_dict()["agent_optimizer"]
    assert state["steps"].tolist() == [3] * known + [0] * (ALL - known)
    for moment in (*state["exp_avg"], *state["exp_avg_sq"]):
        assert not moment[known:].any()
    assert any(moment[:known].any() for moment in state["exp_avg"])


def test_inputs_of_further_tasks_are_inserted_behind_the_known_ones() -> None:
    known, fresh = torch.arange(10.0).view(2, 5), -torch.ones(3, 7)
    expected = [[0, 1, 2, -1, -1, 3, 4], [5, 6, 7, -1, -1, 8, 9], [-1] * 7]
    assert enlarged(known, fresh, 3).tolist() == expected
    assert enlarged(known, -torch.ones(3, 5), 3).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [-1] * 5]
    for wrong in (torch.ones(1, 5), torch.ones(2, 4), torch.ones(2, 5, 1)):
        with pytest.raises(NotImplementedError, match="cannot grow to"):
            enlarged(known, wrong, 3)


class Hidden(nn.Module):
    """A network whose hidden layer is as wide as there are tasks."""

    def __init__(self, spec: GameSpec, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(spec.features, spec.tasks), nn.Linear(spec.tasks, outputs))

    def forward(self, state: State) -> Tensor:
        """Of v alone."""
        return self.layers(state.v)


def test_what_cannot_grow_says_so() -> None:
    game = new_game()
    spec = spec_of(game, KNOWN)

    class Plain(Router):
        """Has no method grow."""

        def act(self, state: State, *, greedy: bool = False) -> Any:
            """Never called."""

    with pytest.raises(NotImplementedError, match="Plain cannot take further tasks: it has no method `grow`"):
        Plain().grow(spec)
    with pytest.raises(NotImplementedError, match="cannot grow to"):
        make_router("reinforce-approx", spec, network=Hidden).grow(game.spec)


@pytest.mark.parametrize("name", ["wpl", "reinforce-approx", "per-layer", "dispatched"])
def test_a_specification_that_is_not_the_same_game_is_refused(name: str) -> None:
    game = new_game()
    router = make_router(name, spec_of(game, KNOWN))
    with pytest.raises(ValueError, match="knows 3 tasks and cannot forget any; it was given 2"):
        router.grow(spec_of(game, 2))
    with pytest.raises(ValueError, match="only tasks may be added to a router; features was 5, and is 6 now"):
        router.grow(replace(game.spec, features=6))
    with pytest.raises(ValueError, match="only tasks may be added to a router; groups was"):
        router.grow(replace(game.spec, groups=(1, 1, 0, 1, 1)))


def test_gradient_routers_are_among_those_tested() -> None:
    spec = spec_of(new_game(), KNOWN)
    assert sum(isinstance(make(spec), GradientRouter) for make in KINDS.values()) >= 9
