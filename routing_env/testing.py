"""What every router must do, as a check that a third party can run on its own.

For example::

    from routing_env.testing import check_router


    def test_my_router():
        check_router(MyRouter)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from routing_env.data import MultiTaskData, Split, make_data
from routing_env.game.build import make_game
from routing_env.game.checks import check_decision, check_learned
from routing_env.game.network import RoutedNetwork, mlp
from routing_env.game.routing_game import RoutingGame
from routing_env.names import check_call
from routing_env.types import Batch, Decision, Router, State, Trace

RouterFactory = Callable[..., Router]
"""Called as ``factory(spec, seed=seed)``: a router's class, or a function that fills in its options."""

_SAMPLES = 24
"""Three deals."""


def check_router(factory: RouterFactory, *, device: str = "cpu") -> None:
    """Play a router on small games, layered and recursive with PASS, and check all that the package relies on.

    Every decision is legal and its probabilities are a distribution over legal actions that could have drawn it, in
    batches of all tasks, of some, and of one lane; a greedy choice repeats itself and changes nothing, also in the
    middle of a deal; ``learn`` returns numbers and leaves the trace as it was; equal seeds play equally; a checkpoint
    holds plain values and tensors, and continues to the same bits in a router of another seed.

    Args:
        factory: the router's class, or a function like it.
        device: where to play.

    Raises:
        AssertionError: what the router got wrong, in words.
    """
    spec = _small_game(False, device).spec
    _as_assertion("", partial(check_call, "a router", factory, "Class(spec, seed=seed)", spec, seed=0))
    for recursive in (False, True):

        def new_game(recursive: bool = recursive) -> RoutingGame:
            return _small_game(recursive, device)

        _check_decisions(factory, new_game())
        _check_seed(factory, new_game)  # first, as the checks below compare routers that began alike
        _check_greedy(factory, new_game)
        _check_checkpoint(factory, new_game)


def _small_game(recursive: bool, device: str) -> RoutingGame:
    """Three tasks on noise; layers of 4, 2 and 3 blocks, so that some actions are illegal."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 5, generator=generator)
    task = torch.arange(3).repeat_interleave(16)
    samples = Split(torch.arange(16).repeat(3), task, torch.randint(2, (48,), generator=generator))
    names = ["first", "second", "third"]
    data = make_data("noise", inputs, samples, samples, names, [2, 2, 2], validation=0.0)

    def network(data: MultiTaskData) -> RoutedNetwork:
        return mlp(data.input_shape, data.outputs, [4, 2, 3], hidden=5, recursive=recursive, pass_action=recursive)

    return make_game(data=data, network=network, batch_size=8, rho=0.3, learning_rate=0.1, device=device)


def _check_decisions(factory: RouterFactory, game: RoutingGame) -> None:
    """Legality and distributions, whatever the batch, and what learning returns."""
    router = factory(game.spec, seed=0)
    game.counterfactuals = router.needs_counterfactuals
    everything = game.data.gather(game.data.train)
    lanes = torch.arange(len(everything), device=game.spec.device)
    batches = {
        "all tasks": lanes % 2 == 0,
        "one task": everything.task == 1,
        "two of three tasks": everything.task != 1,
        "one lane": lanes == 5,
    }
    for name, rows in batches.items():
        batch = Batch(everything.x[rows], everything.task[rows], everything.target[rows])
        trace = _deal(router, game, batch, name)
        before = deepcopy(_contents(trace))
        _as_assertion(f"{name}: ", check_learned, router.learn(trace))
        _must(_same(before, _contents(trace)), f"{name}: learn changed the trace")


def _deal(router: Router, game: RoutingGame, batch: Batch, name: str) -> Trace:
    state: State | None = game.reset(batch)
    while state is not None:
        where = f"{name}, depth {state.depth + 1}"
        seen = deepcopy((state.v, state.task, state.legal))
        greedy = router.act(state, greedy=True)
        _check_decision(greedy, state, f"{where}, greedy")
        decision = router.act(state)
        _check_decision(decision, state, where)
        _must(_same(list(seen), [state.v, state.task, state.legal]), f"{where}: act changed the state")
        state = game.step(decision)
    return game.trace


def _check_decision(decision: Decision, state: State, where: str) -> None:
    _as_assertion(f"{where}: ", check_decision, decision, state)
    probability = decision.probability
    _must(probability is None or not probability.requires_grad, f"{where}: the probability must be detached")
    gate = decision.gate
    _must(gate is None or bool((gate == 1).all()), f"{where}: a gate must have value 1; it is {gate}")


def _must(holds: bool, message: str) -> None:
    """As ``assert``, which Python leaves out under -O."""
    if not holds:
        raise AssertionError(message)


def _as_assertion(where: str, check: Callable[..., object], *arguments: object) -> None:
    """Call a check whose ValueErrors are what a router got wrong."""
    try:
        check(*arguments)
    except ValueError as error:
        raise AssertionError(f"{where}{error}") from error


def _check_greedy(factory: RouterFactory, new_game: Callable[[], RoutingGame]) -> None:
    """Greedy choices repeat themselves, and evaluating in the middle of a deal changes nothing."""
    games = new_game(), new_game()
    routers = [factory(game.spec, seed=0) for game in games]
    for game, router in zip(games, routers, strict=True):
        router.play(game, _SAMPLES)
        game.counterfactuals = router.needs_counterfactuals
    states: list[State | None] = [game.reset() for game in games]
    while states[0] is not None:
        first, second = (_evaluate(games[0], routers[0]) for _ in range(2))
        _must(torch.equal(first, second), "two greedy evaluations in a row route differently")
        for i, (game, router) in enumerate(zip(games, routers, strict=True)):
            state = states[i]
            assert state is not None  # both games are equally deep
            states[i] = game.step(router.act(state))
    for game, router in zip(games, routers, strict=True):
        router.learn(game.trace)
    actions = [game.trace.actions for game in games]
    same = torch.equal(*actions) and _same(routers[0].state_dict(), routers[1].state_dict())
    _must(same, "an evaluation in the middle of a deal changed the router")


def _evaluate(game: RoutingGame, router: Router) -> Tensor:
    return game.evaluate(router, "train", batch_size=20).routes


def _check_seed(factory: RouterFactory, new_game: Callable[[], RoutingGame]) -> None:
    """Equal seeds play alike, to the bit, and what they have learned is plain."""
    games = new_game(), new_game()
    routers = [factory(game.spec, seed=3) for game in games]
    played = [_play(router, game) for router, game in zip(routers, games, strict=True)]
    _check_plain(routers[0].state_dict(), "state_dict()")
    _must(
        _same(played[0], played[1]),
        "two routers of one seed played differently; draw from a torch.Generator of your own, seeded with seed",
    )


def _check_checkpoint(factory: RouterFactory, new_game: Callable[[], RoutingGame]) -> None:
    """A checkpoint continues to the same bits."""
    game = new_game()
    router = factory(game.spec, seed=0)
    router.play(game, _SAMPLES)
    checkpoint = deepcopy((router.state_dict(), game.state_dict()))
    expected = _play(router, game)
    resumed_game = new_game()
    resumed = factory(resumed_game.spec, seed=1)
    resumed.load_state_dict(checkpoint[0])
    resumed_game.load_state_dict(checkpoint[1])
    _must(_same(checkpoint[0], resumed.state_dict()), "state_dict() is not what load_state_dict() was given")
    _must(_same(expected, _play(resumed, resumed_game)), "a router loaded from a checkpoint plays on differently")


def _play(router: Router, game: RoutingGame) -> list[Any]:
    """Everything that came of playing on."""
    traces: list[Any] = []
    game.observers.append(lambda trace: traces.append(trace.actions))
    router.play(game, _SAMPLES)
    game.observers.pop()
    return [traces, router.state_dict(), game.network.state_dict()]


def _check_plain(value: object, where: str) -> None:
    """Only what any file format can hold."""
    if isinstance(value, Mapping):
        for key, entry in cast(Mapping[object, object], value).items():
            _must(isinstance(key, str), f"{where}: keys must be strings; got {key!r}")
            _check_plain(entry, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for i, entry in enumerate(cast(list[object], value)):
            _check_plain(entry, f"{where}[{i}]")
    else:
        plain = isinstance(value, Tensor | bool | int | float | str)
        _must(plain, f"{where} is a {type(value).__name__}; it must be a tensor, number, string, list or dict")


def _contents(trace: Trace) -> list[Tensor]:
    return [trace.actions, trace.action_rewards, trace.final_reward, *(state.v for state in trace.states)]


def _same(one: Any, other: Any) -> bool:
    """Bitwise equality of nested values."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
