"""Loading is all or nothing: what fits goes on to the same bits, what does not is refused and has changed nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from worlds import little_data

from routing_env.agents import ROUTERS, make_router
from routing_env.checkpoint import load_tree, save_tree
from routing_env.data import MultiTaskData
from routing_env.game.build import make_game
from routing_env.game.routing_game import RoutingGame
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run
from routing_env.state_dicts import (
    ANYTHING,
    AnyLength,
    Exactly,
    SomeOf,
    check_state,
    like_optimizer,
    restore,
    same_state,
)
from routing_env.types import Decision, Router, State

DATA = little_data()
SMALL: dict[str, Any] = {"data": DATA, "network": "mlp", "hidden": 4, "batch_size": 6, "rho": 0.3}
KINDS: list[dict[str, Any]] = [
    {},
    {"optimizer": "adam"},
    {"momentum": 0.9},
    {"optimizer": lambda parameters: torch.optim.RMSprop(parameters, lr=1)},
    {"optimizer": lambda parameters: torch.optim.Adafactor(parameters)},
    {"dealer": "endless"},
    {"dealer": "per_task"},
    {"block_batch": 40},
    {"recursive": True, "pass_action": True, "rho": 0.1, "collaboration": "count"},
]


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values of a tree, and to its empty containers."""
    entries: Any = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    found = [(key, value) for key, value in entries]
    if not found:
        yield path
    for key, value in found:
        yield from leaves(value, (*path, key))


def changed(tree: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of a tree after a change to the container of a value."""
    outermost = node = copy(tree)
    for key in path[:-1]:
        node[key] = copy(node[key])
        node = node[key]
    change(node, path[-1])
    return outermost


def spoilt(value: Any) -> list[Any]:
    """Values that do not fit in place of one that does."""
    if not isinstance(value, Tensor):
        return [[1, 2, object()] if not isinstance(value, list | dict) else 7, torch.zeros(3)]
    other = torch.float16 if value.dtype != torch.float16 else torch.float32
    return [value.to(other), value[None].clone(), value.new_zeros(*value.shape, 2), "text", None]


def misfits(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A state with one value of another kind or missing, or with one more, at every place in turn."""

    def put(value: Any) -> Callable[[Any, Any], None]:
        return lambda node, key: node.__setitem__(key, value)

    for path in leaves(state):
        value = state
        for key in path:
            value = value[key]
        for wrong in spoilt(value):
            yield changed(state, path, put(wrong))
        if isinstance(path[-1], str):
            yield changed(state, path, lambda node, key: node.pop(key))
            yield changed(state, path, lambda node, _: node.__setitem__("more", 1))


def played(settings: Mapping[str, Any], samples: int, router: str = "wpl", seed: int = 0) -> tuple[RoutingGame, Router]:
    game = make_game(**{**SMALL, **settings, "seed": seed})
    agent = make_router(router, game.spec, seed=seed)
    if samples:
        agent.play(game, samples)
    return game, agent


def without_addresses(value: object) -> str:
    """The name of a case, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize("kind", KINDS, ids=without_addresses)
@pytest.mark.parametrize("before", [0, 20])
def test_a_game_goes_on_to_the_same_bits_in_a_twin(kind: dict[str, Any], before: int, tmp_path: Path) -> None:
    game, router = played(kind, 31)
    twin, other = played(kind, before, seed=1)
    save_tree(tmp_path / "state", {"game": game.state_dict(), "router": router.state_dict()})
    state = load_tree(tmp_path / "state")
    twin.load_state_dict(state["game"])
    other.load_state_dict(state["router"])
    assert same_state(twin.state_dict(), game.state_dict())
    for world, agent in ((game, router), (twin, other)):
        agent.play(world, 50)
    assert same_state(twin.state_dict(), game.state_dict())
    assert same_state(other.state_dict(), router.state_dict())


@pytest.mark.parametrize("kind", KINDS, ids=without_addresses)
def test_a_game_refuses_every_misfit_and_stays_as_it_was(kind: dict[str, Any]) -> None:
    kind = {"layers": 2, "blocks": 2, **kind}
    good = played(kind, 31)[0].state_dict()
    game, router = played(kind, 20, seed=1)
    state = game.reset()  # a deal under way goes on, too
    state = game.step(router.act(state))
    before = deepcopy(game.state_dict())
    for wrong in misfits(good):
        with pytest.raises(ValueError, match=r"in the state|unknown here|lacks"):
            game.load_state_dict(wrong)
        assert same_state(game.state_dict(), before)
    while state is not None:
        state = game.step(router.act(state))
    assert not same_state(game.state_dict()["network"], before["network"]) or "block_batch" in kind


def other_games() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"data": little_data(classes=(2, 2))}, "sizes|seen|order"),
        ({"data": little_data(classes=(2, 2, 3))}, r"network: .*float32 \[3, 4\] here"),
        ({"data": little_data(per_task=16)}, "sizes"),
        ({"hidden": 5}, r"network: .*in the state, and float32 \[5, 3\] here"),
        ({"blocks": 4}, "average is float32"),
        ({"layers": 2}, "average is float32"),
        ({"batch_size": 9}, r"sizes is \[27, 6, 3\] in the state, and \[27, 9, 3\] here"),
        ({"dealer": "per_task"}, "lacks planned"),
        ({"optimizer": "adam"}, "lacks betas"),
        ({"optimizer": lambda parameters: torch.optim.SGD(list(parameters)[:2])}, "2 here"),
    ]


@pytest.mark.parametrize(("settings", "difference"), other_games(), ids=without_addresses)
def test_the_state_of_another_game_is_refused(settings: dict[str, Any], difference: str) -> None:
    state = played({}, 31)[0].state_dict()
    game = played(settings, 20)[0]
    before = deepcopy(game.state_dict())
    with pytest.raises(ValueError, match=difference):
        game.load_state_dict(state)
    assert same_state(game.state_dict(), before)


@pytest.mark.parametrize("per_task", [(20, 20), (20, 18)])
@pytest.mark.parametrize("dealer", ["shuffled", "endless", "per_task"])
def test_a_game_of_nine_tasks_is_not_one_of_ten(dealer: str, per_task: tuple[int, int]) -> None:
    """Also where the tasks are the only difference: as many samples, blocks and classes."""
    counts = zip((9, 10), per_task, strict=True)
    nine, ten = (
        played(
            {
                "data": little_data(classes=(2,) * tasks, per_task=samples, validation=0.0),
                "dealer": dealer,
                "batch_size": 90,
                "blocks": 3,
            },
            90,
        )[0]
        for tasks, samples in counts
    )
    before = deepcopy(ten.state_dict())
    with pytest.raises(ValueError, match="dealer: "):
        ten.load_state_dict(nine.state_dict())
    assert same_state(ten.state_dict(), before)


def test_a_state_of_the_right_form_with_values_that_cannot_be_is_refused() -> None:
    for dealer, path, value in (
        ("shuffled", "next", 99),
        ("shuffled", "order", torch.full((27,), 27)),
        ("shuffled", "order", torch.arange(5)),
        ("shuffled", "generator", torch.zeros(5056, dtype=torch.uint8)),
        ("endless", "next", -1),
        ("endless", "order", torch.tensor([-1, 3])),
        ("per_task", "planned", torch.full((2, 6), 27)),
        ("per_task", "next", [0, 0, 10**6]),
    ):
        game = played({"dealer": dealer}, 20)[0]
        before = deepcopy(game.dealer.state_dict())
        with pytest.raises(ValueError, match=r"order|position|generator"):
            game.dealer.load_state_dict({**before, path: value})
        assert same_state(game.dealer.state_dict(), before)


def routers() -> list[tuple[str, dict[str, Any]]]:
    plain = [(name, dict[str, Any]()) for name in ROUTERS if name != "oracle"]
    return [*plain, ("wpl", {"topology": "dispatched"}), ("reinforce-approx", {"optimizer": "sgd"})]


@pytest.mark.parametrize(("name", "options"), routers(), ids=str)
def test_a_router_refuses_what_is_not_its_own(name: str, options: dict[str, Any]) -> None:
    def made(data: MultiTaskData, seed: int) -> Router:
        game = make_game(**{**SMALL, "data": data}, seed=seed)
        router = make_router(name, game.spec, seed=seed, **options)
        router.play(game, 20)
        return router

    router, good = made(DATA, 1), made(DATA, 0).state_dict()
    before = deepcopy(router.state_dict())
    wrong = [{**good, "more": 1}, *misfits(good)] if good else [{"more": 1}]
    elsewhere = made(little_data(classes=(2,) * 4), 0).state_dict()
    if not fits(elsewhere, good):
        wrong.append(elsewhere)
    for state in wrong:
        with pytest.raises(ValueError, match=r"."):
            router.load_state_dict(state)
        assert same_state(router.state_dict(), before)
    router.load_state_dict(good)
    assert same_state(router.state_dict(), good)


def fits(state: Any, like: Any) -> bool:
    try:
        check_state(state, like)
    except ValueError:
        return False
    return True


def test_a_router_with_a_wider_table_does_not_take_one_that_would_broadcast() -> None:
    router = played({}, 20)[1]
    state = router.state_dict()
    state["tables"]["policy"] = state["tables"]["policy"][:1]
    with pytest.raises(ValueError, match=r"tables/policy is float32 \[1, 3, 3\] in the state, and float32 \[3, 3, 3\]"):
        router.load_state_dict(state)


PLAIN = {"all-shared", "fixed", "oracle", "random", "random-fixed", "round-robin"}
"""Routers whose state has no axis of agents."""


@pytest.mark.parametrize("topology", [("single", "per_task"), ("per_task", "single")])
@pytest.mark.parametrize("name", sorted(set(ROUTERS) - PLAIN - {"dispatched"}))
def test_one_agent_is_not_an_agent_per_task(name: str, topology: tuple[Any, Any]) -> None:
    game = make_game(**SMALL)
    trained, router = (make_router(name, game.spec, topology=kind) for kind in topology)
    for part in (trained, router):
        part.play(game, 20)
    before = deepcopy(router.state_dict())
    with pytest.raises(ValueError, match=r"in the state, and|lacks|unknown here"):
        router.load_state_dict(trained.state_dict())
    assert same_state(router.state_dict(), before)


@pytest.mark.parametrize("name", ["q-learning", "cross_stitch", "reinforce-approx"])
def test_a_run_is_restored_or_stays_as_it_was(name: str, tmp_path: Path) -> None:
    def run(**settings: Any) -> Run:
        return Run.of({**SMALL, "router": name, "epochs": 1, **settings})

    directory = RunDirectory(tmp_path)
    trained = run()
    directory.write_config(trained.settings)
    trained.train(directory, Display(Console(quiet=True)))
    good = directory.load_checkpoint()
    assert good is not None
    target = run(seed=1)
    target.learner.play(20, lambda: None)

    def everything() -> list[Any]:
        return [deepcopy(target.learner.state_dict()), target.epoch, target.seconds, torch.get_rng_state()]

    before = everything()
    for number, wrong in enumerate(misfits(good)):
        if number % 5:  # one in five will do
            continue
        try:
            directory.save_checkpoint(wrong)
        except TypeError:  # no file can hold it
            continue
        with pytest.raises(ValueError, match="does not fit the run's settings"):
            target.restore(directory)
        assert same_state(everything(), before)
    directory.save_checkpoint(good)
    with pytest.raises(ValueError, match="does not fit the run's settings"):
        run(hidden=5).restore(directory)
    target.restore(directory)
    assert same_state(target.learner.state_dict(), trained.learner.state_dict())


class Stubborn(Router):
    """A router from outside that notices late what it cannot load."""

    def __init__(self) -> None:
        self.net, self.number = nn.Linear(2, 2), 1

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The first legal action."""
        return Decision(state.legal.int().argmax(1))

    def state_dict(self) -> dict[str, Any]:
        """A module and a number."""
        return {"net": self.net.state_dict(), "number": self.number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the module, then stumble over a number of 0."""
        self.net.load_state_dict(state["net"])
        self.number = 1 // state["number"]


def test_parts_that_fail_half_way_are_taken_back() -> None:
    first, second = make_game(**SMALL), Stubborn()
    before = deepcopy([first.state_dict(), second.state_dict()])
    state = {"game": played({}, 20)[0].state_dict(), "router": {"net": nn.Linear(2, 2).state_dict(), "number": 0}}
    with pytest.raises(ValueError, match="router: integer division"):
        restore({"game": first, "router": second}, state)
    assert same_state([first.state_dict(), second.state_dict()], before)


def test_what_may_differ_is_declared() -> None:
    row = torch.zeros(2, 3)
    like = {"a": AnyLength(row), "b": AnyLength([0]), "c": SomeOf({"k": 1}), "d": Exactly((1, "x")), "e": ANYTHING}
    check_state({"a": torch.zeros(9, 3), "b": [1, 2], "c": {}, "d": [1, "x"], "e": object()}, like)
    check_state(1, 0.5)
    for state, like, words in (
        (torch.zeros(9, 4), AnyLength(row), r"the state is float32 \[0, 4\] in the state, and float32 \[0, 3\] here"),
        (torch.zeros(()), AnyLength(row), "a tensor with an axis"),
        ([1, "x"], AnyLength([0]), r"\[1\] is str 'x' in the state, and int 0 here"),
        ({"l": 1}, SomeOf({"k": 1}), "has l, which is unknown here"),
        ((1, "y"), Exactly((1, "x")), r"is \(1, 'y'\) in the state, and \(1, 'x'\) here"),
        (0.5, 1, "float 0.5 in the state, and int 1 here"),
        (True, 1, "bool True in the state, and int 1 here"),
        ({}, {"a": 1, "b": 2}, "the state lacks a, b"),
        ([1], [1, 2], "has 1 entries in the state, and 2 here"),
        (None, {}, "NoneType in the state; it must be a dict"),
    ):
        with pytest.raises(ValueError, match=words):
            check_state(state, like)


def test_an_optimiser_says_what_it_keeps_before_its_first_step() -> None:
    parameter = nn.Parameter(torch.zeros(2, 3))
    for kind, names in ((torch.optim.Adam, {"step", "exp_avg", "exp_avg_sq"}), (torch.optim.SGD, {"momentum_buffer"})):
        options: dict[str, Any] = {"momentum": 0.5} if kind is torch.optim.SGD else {}
        optimizer = kind([parameter], lr=1, **options)
        generator = torch.get_rng_state()
        rows = cast(SomeOf, like_optimizer(optimizer)["state"]).like
        assert set(rows[0]) == names
        assert not optimizer.state
        assert torch.equal(torch.get_rng_state(), generator)
        assert parameter.grad is None
