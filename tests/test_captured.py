"""Captured deals against plain ones; on the CPU a tape stands in for the CUDA graph."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from tapes import Tape
from torch import Tensor

from routing_env.agents import ROUTERS, make_router, router_class
from routing_env.agents.rules import RuleRouter
from routing_env.baselines import BASELINES, baseline_class
from routing_env.data import EndlessPass
from routing_env.game.build import build_trainer, make_game
from routing_env.game.captured import captured_deals
from routing_env.game.network import RoutedNetwork
from routing_env.game.routing_game import RoutingGame
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run
from routing_env.state_dicts import same_state
from routing_env.types import Batch, Decision, GameSpec, Router, State

CAPTURING = sorted(name for name in ROUTERS if vars(router_class(name)).get("captures"))
ANNEALED: dict[str, dict[str, Any]] = {
    "q-learning": {"epsilon": (1.0, 0.1, 200)},
    "sarsa": {"epsilon": (1.0, 0.1, 200)},
    "hysteretic-q": {"epsilon": (1.0, 0.1, 200)},
    "advantage-learning": {"epsilon": (1.0, 0.1, 200)},
    "wpl": {"step": (0.1, 0.01, 200)},
    "wolf-phc": {"exploration": (0.5, 0.0, 200), "step": (0.1, 0.01, 100)},
    "giga-wolf": {"step": (0.1, 0.01, 200)},
    "pga-app": {"step": (0.1, 0.01, 200)},
    "hedge": {"pooled": (1.0, 0.0, 200), "exploration": (0.3, 0.02, 100)},
    "route-hedge": {"anneal": 10, "copies": 2},
}
"""Options that change on the way, and settle before the end."""
SMALL: dict[str, Any] = {
    "data": "planted",
    "layers": 2,
    "blocks": 4,
    "hidden": 8,
    "batch_size": 20,
    "learning_rate": 0.1,
    "decay_every": 0,
    "final_reward": "negative_loss",
}


def played(
    name: str, samples: int, *, captured: bool, options: dict[str, Any] | None = None, **settings: Any
) -> tuple[RoutingGame, Router, list[Any]]:
    """A game that a router has played, and copies of its traces."""
    game = make_game(**{**SMALL, **settings})
    game.make_graph = Tape if captured else None
    router = make_router(name, game.spec, **ANNEALED.get(name, {}) | (options or {}))
    losses: list[Any] = []
    game.observers.append(lambda trace: losses.append((trace.actions.clone(), trace.outcome.loss.clone())))
    router.play(game, samples)
    assert (captured_deals(game, router, None) is not None) == captured
    return game, router, losses


@pytest.mark.parametrize("name", CAPTURING)
def test_captured_deals_are_the_plain_ones(name: str) -> None:
    assert_alike(name, 400)


@pytest.mark.parametrize("name", ["wpl", "route-hedge"])
def test_captured_deals_of_a_network_in_float64_differ_by_its_rounding_alone(name: str) -> None:
    """In float32 a rounding error may tip a ReLU or a pooling, after which two games go apart."""

    class Float64(EndlessPass):
        def next_batch(self) -> Batch:
            batch = super().next_batch()
            return replace(batch, x=batch.x.double())

    weights: list[dict[str, Tensor]] = []
    for graph in (None, Tape):
        game = make_game(**SMALL, dealer=Float64)
        game.network.double()
        game.make_graph = graph
        make_router(name, game.spec).play(game, 500)
        weights.append(game.network.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=1e-13)


def test_deals_of_your_own_dealer_are_checked_when_captured() -> None:
    class Wrong(EndlessPass):
        def next_batch(self) -> Batch:
            batch = super().next_batch()
            return replace(batch, task=batch.task + 1)

    game = make_game(**SMALL, dealer=Wrong)
    game.make_graph = Tape
    with pytest.raises(ValueError, match="tasks of the batch must be int64"):
        make_router("wpl", game.spec).play(game, 100)


def test_captured_deals_tell_what_all_actions_would_have_earned() -> None:
    assert_alike("wpl", 400, options={"rule": "full-vector", "information": "full"})


SETTINGS: list[dict[str, Any]] = [
    {"data": "digits", "network": "simple_convnet", "filters": 4, "batch_size": 20},
    {"dropout": 0.2},
    {"rho": (0.3, 0.0)},
    {"rho": 0.5, "collaboration": "count"},
    {"momentum": 0.9, "learning_rate": 0.01},
    {"weight_decay": 0.01},
    {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.01},
    {"weight_average": 0.95},
    {"recursive": True, "layers": 3, "depth": 4, "momentum": 0.9, "learning_rate": 0.01},
    {"pass_action": True, "hidden": 128, "layers": 3, "momentum": 0.5, "learning_rate": 0.01},
    {"recursive": True, "pass_action": True, "hidden": 128, "depth": 3, "weight_decay": 0.01},
    {"momentum": 0.5, "weight_decay": 0.01, "weight_average": 0.9, "dropout": 0.1, "rho": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_captured_deals_of_other_games_are_the_plain_ones(settings: dict[str, Any]) -> None:
    assert_alike("wpl", 200, **{"batch_size": 5, "blocks": 12} | settings)


@pytest.mark.parametrize("name", ["oracle", "route-hedge", "hedge"])
def test_captured_deals_with_programs_are_the_plain_ones(name: str) -> None:
    assert_alike(name, 200, data="compose", layers=2, blocks=6, hidden=12, final_reward="correct")


def assert_alike(name: str, samples: int, **settings: Any) -> None:
    """Play plainly and captured, and compare all that comes of it."""
    (plain, router, seen), (fast, twin, again) = (
        played(name, samples, captured=captured, **settings) for captured in (False, True)
    )
    assert [actions.tolist() for actions, _ in seen] == [actions.tolist() for actions, _ in again]
    torch.testing.assert_close([loss for _, loss in seen], [loss for _, loss in again], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.network.state_dict(), fast.network.state_dict(), rtol=1e-4, atol=1e-5)
    assert (plain.samples, plain.epoch) == (fast.samples, fast.epoch)
    torch.testing.assert_close(router.state_dict(), twin.state_dict(), rtol=1e-4, atol=1e-5)
    assert plain.drain_log() == pytest.approx(fast.drain_log())
    torch.testing.assert_close(plain.collaboration.state_dict(), fast.collaboration.state_dict())
    torch.testing.assert_close(plain.trainer.state_dict(), fast.trainer.state_dict(), rtol=1e-3, atol=1e-5)


BASELINE_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"optimizer": "adam"}) for name in BASELINES if vars(baseline_class(name)).get("captures")),
    ("task_specific_1_fc", {"optimizer": "sgd"}),
    ("cross_stitch", {"optimizer": "sgd", "momentum": 0.5, "dropout": 0.2, "weight_average": 0.9}),
]


@pytest.mark.parametrize(("name", "settings"), BASELINE_SETTINGS, ids=str)
def test_captured_steps_of_baselines_are_the_plain_ones(name: str, settings: dict[str, Any]) -> None:
    sizes = {"data": "planted", "layers": 3, "hidden": 8, "batch_size": 10, "learning_rate": 0.01}
    given = {**settings, **sizes, "router": name, "reference": False}
    plain, fast = (Run.of(given).learner for _ in range(2))
    assert isinstance(fast, BaselineLearner)
    fast.step.make_graph = Tape
    for learner in (plain, fast):
        learner.play(100, lambda: None)
        learner.load_state_dict(deepcopy(learner.state_dict()))
        learner.play(100, lambda: None)
    torch.testing.assert_close(plain.measures(), fast.measures(), rtol=1e-4, atol=1e-5, equal_nan=True)
    one, other = (learner.state_dict()["network"] for learner in (plain, fast))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    one, other = (learner.state_dict()["trainer"] for learner in (plain, fast))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert fast.step.capturable


OPTIMIZERS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "adam", "weight_decay": 0.01},
]


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=str)
def test_captured_deals_leave_blocks_and_their_optimizer_alone_where_no_lane_chose_them(
    settings: dict[str, Any],
) -> None:
    game = make_game(**SMALL, **settings, weight_average=0.9)
    game.make_graph = Tape
    make_router("random", game.spec).play(game, 100)
    names = [name for name, _ in game.network.named_parameters()]
    before = deepcopy(game.state_dict())
    make_router("all-shared", game.spec).play(game, 200)
    after = game.state_dict()
    for number, name in enumerate(names):
        untouched = ".blocks.0." not in name
        assert torch.equal(after["network"][name], before["network"][name]) == untouched, name
        rows = [state["trainer"]["optimizer"]["state"].get(number, {}) for state in (before, after)]
        assert same_state(*rows) == (untouched or not settings), name
        averages = [
            [state["trainer"]["average"][part][number] for part in ("averages", "steps")] for state in (before, after)
        ]
        assert same_state(*averages) == untouched, name


@pytest.mark.parametrize("settings", OPTIMIZERS[1:], ids=str)
def test_blocks_that_no_deal_has_chosen_have_no_optimizer_state(settings: dict[str, Any]) -> None:
    games = [played("all-shared", 200, captured=captured, **settings)[0] for captured in (False, True)]
    rows, others = (game.trainer.state_dict()["optimizer"]["state"].keys() for game in games)
    assert rows == others
    assert len(rows) == 4, "weight and bias of the first block in both layers"
    for game in games:
        game.make_graph = None
        make_router("random", game.spec).play(game, 100)
    rows, others = (game.trainer.state_dict()["optimizer"]["state"].keys() for game in games)
    assert len(rows) == len(others) == 16


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=str)
def test_plain_and_captured_deals_may_alternate_and_be_resumed(settings: dict[str, Any]) -> None:
    settings = {"batch_size": 5, "blocks": 12, "learning_rate": 0.01, "weight_average": 0.9} | settings
    games = [make_game(**{**SMALL, **settings}) for _ in range(3)]
    plain, fast, resumed = games
    first, second, third = (make_router("wpl", game.spec) for game in games)
    fast.make_graph = resumed.make_graph = Tape
    first.play(plain, 180)
    for graph in (Tape, None, Tape):
        fast.make_graph = graph
        second.play(fast, 40)
    third.play(resumed, 30)  # captured with another state
    resumed.load_state_dict(fast.state_dict())
    third.load_state_dict(second.state_dict())
    third.play(resumed, 60)
    for name, state in plain.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], state, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("settings", [{"momentum": 0.5}, {"optimizer": "adam"}], ids=str)
def test_rates_of_all_parameter_groups_fall_in_captured_deals_too(settings: dict[str, Any]) -> None:
    settings = {"decay_every": 1, "batch_size": 100, "fraction": 0.05, "learning_rate": 0.05} | settings
    networks: list[dict[str, torch.Tensor]] = []
    for make_graph in (None, Tape):
        game = make_game(**{**SMALL, **settings})
        assert game.settings is not None
        assert isinstance(game.network, RoutedNetwork)
        game.trainer = build_trainer(game.settings, game.network, apart=game.network.bank(1).parameters())
        game.make_graph = make_graph
        router = make_router("all-shared", game.spec)
        router.play(game, 700)
        before = deepcopy(game.network.state_dict())
        game.trainer.slow_down(0.0)
        router.play(game, 700)
        networks.append(game.network.state_dict())
        same = {name for name, value in networks[-1].items() if torch.equal(value, before[name])}
        assert same == {name for name in before if ".0.blocks." in name or ".blocks.0." not in name}
    torch.testing.assert_close(*networks, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_falls_in_captured_deals_too() -> None:
    settings: dict[str, Any] = {"decay_every": 1, "batch_size": 100, "fraction": 0.05}
    (plain, *_), (fast, *_) = (played("wpl", 1000, captured=captured, **settings) for captured in (False, True))
    assert fast.trainer.learning_rate == plain.trainer.learning_rate < 0.1
    torch.testing.assert_close(plain.network.state_dict(), fast.network.state_dict(), rtol=1e-4, atol=1e-5)


class Illegal(RuleRouter):
    """Takes a block that does not exist, once it is told to."""

    captures = True

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self.action = torch.zeros((), dtype=torch.int64)

    def decide(self, state: State) -> Decision:
        """The action that it was told."""
        return Decision(self.action.expand(len(state.task)))


def test_faults_of_captured_deals_are_told() -> None:
    game = make_game(**SMALL)
    game.make_graph = Tape
    router = Illegal(game.spec)
    router.play(game, 200)
    router.action.fill_(99)
    with pytest.raises(ValueError, match="Illegal has taken an illegal action"):
        router.play(game, 20)
    router.action.fill_(0)
    router.play(game, 20)
    with torch.no_grad():
        next(game.network.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="training has diverged"):
        router.play(game, 20)


def asgd(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser that is not among the named ones."""
    return torch.optim.ASGD(parameters, lr=0.1)


PLAIN: list[dict[str, Any]] = [
    {"optimizer": asgd},
    {"block_batch": 64},
    {"recursive": True, "pass_action": True, "layers": 3, "depth": 4},
    {"final_reward": "validation"},
]


@pytest.mark.parametrize("settings", PLAIN, ids=" ".join)
def test_what_cannot_be_captured_is_played_plainly(settings: dict[str, Any]) -> None:
    game = make_game(**{name: value for name, value in (SMALL | settings).items() if name != "learning_rate"})
    game.make_graph = Tape
    assert captured_deals(game, make_router("wpl", game.spec), None) is None
