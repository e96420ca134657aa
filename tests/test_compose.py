"""``compose``: its labels follow from its programs, a network can be exactly right, and the oracle plays that route."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from worlds import layered

from routing_env.agents import make_router
from routing_env.data import MultiTaskData, first_tasks, load
from routing_env.data.compose import HiddenFunctions, compose, hidden_functions, program_score
from routing_env.data.cuts import seeded
from routing_env.evaluations import Evaluation
from routing_env.game.build import make_game
from routing_env.game.routing_game import RoutingGame

SMALL: dict[str, Any] = {"tasks": 6, "samples": 24, "features": 6, "classes": 4}


def programs_of(data: MultiTaskData) -> tuple[tuple[int, ...], ...]:
    assert data.programs is not None
    return data.programs


def splits(data: MultiTaskData) -> list[Any]:
    return [split for split in (data.train, data.validation, data.test) if len(split)]


def recomputed(hidden: HiddenFunctions, program: tuple[int, ...], x: NDArray[np.float32]) -> NDArray[np.int64]:
    """The labels by NumPy, one sample and one function at a time."""
    labels: list[int] = []
    for sample in x:
        v = sample.astype(np.float64)
        for k in program:
            v = np.maximum(hidden.weight[k].numpy() @ v, 0)
        labels.append(int(np.argmax(hidden.readout.numpy() @ v)))
    return np.array(labels)


@settings(max_examples=15, deadline=None)
@given(
    functions=st.integers(2, 4),
    longest=st.integers(2, 4),
    tasks=st.integers(1, 4),
    features=st.integers(5, 9),
    classes=st.integers(2, 3),
    data_seed=st.integers(0, 1000),
)
def test_labels_follow_from_the_programs(data_seed: int, **sizes: int) -> None:
    data = compose(samples=6 * sizes["classes"], data_seed=data_seed, validation=0, **sizes)
    hidden = hidden_functions(sizes["functions"], sizes["features"], sizes["classes"], seeded(data_seed))
    programs = programs_of(data)
    assert len(set(programs)) == len(programs) == data.tasks == sizes["tasks"]
    assert all(2 <= len(program) <= sizes["longest"] for program in programs)
    assert {k for program in programs for k in program} <= set(range(sizes["functions"]))
    for split in splits(data):
        x = data.gather(split).x.numpy()
        for task, program in enumerate(programs):
            here = split.task.numpy() == task
            assert (recomputed(hidden, program, x[here]) == split.target.numpy()[here]).all()


def test_classes_are_balanced_and_no_input_serves_twice() -> None:
    data = compose(**SMALL, validation=0)
    for split, count in ((data.train, 6), (data.test, 25)):
        assert (torch.bincount(4 * split.task + split.target, minlength=24) == count).all()
    assert len(torch.cat([split.index for split in splits(data)]).unique()) == len(data.inputs)
    assert data.programs is not None
    assert data.task_names == tuple(" ".join(f"f{k}" for k in program) for program in data.programs)


def test_functions_neither_commute_nor_add_up_to_a_linear_map() -> None:
    hidden = hidden_functions(3, 12, 8, seeded(0))
    x = torch.randn(4000, 12, generator=seeded(1))
    one_way, other_way = (hidden.scores(program, x).argmax(1) for program in ((0, 1), (1, 0)))
    assert (one_way == other_way).float().mean() < 0.3
    v = hidden.apply((0, 1), x)
    features = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    residual = v - features @ torch.linalg.lstsq(features, v).solution
    assert residual.var(0).mean() > 0.3 * v.var(0).mean()


def test_vectors_keep_their_magnitude_through_long_programs() -> None:
    hidden = hidden_functions(2, 32, 8, seeded(0))
    v = hidden.apply((0, 1) * 4, torch.randn(2000, 32, generator=seeded(1)))
    assert 0.5 < v.var(0).mean() < 2


def test_the_tasks_depend_on_their_own_seed_alone() -> None:
    one, same, other, elsewhere = compose(seed=0), compose(seed=0), compose(seed=1), compose(data_seed=1)
    assert one.fingerprint == same.fingerprint
    assert torch.equal(one.inputs, other.inputs)
    assert one.programs == other.programs != elsewhere.programs
    assert one.fingerprint["test"] == other.fingerprint["test"] != elsewhere.fingerprint["test"]
    assert one.fingerprint["train"] != other.fingerprint["train"]


def test_by_name_it_has_the_usual_settings_of_its_sizes() -> None:
    data, drawn = load("compose", seed=3), compose(seed=3)
    assert data.fingerprint == drawn.fingerprint
    assert data.usual == drawn.usual
    wider = compose(functions=4, longest=4, features=9, classes=3, samples=6, validation=0).usual
    assert (wider["blocks"], wider["depth"], wider["hidden"]) == (4, 5, 9)
    assert programs_of(first_tasks(data, 5)) == programs_of(data)[:5]


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ({"functions": 0}, "functions is 0; it must be at least 1"),
        ({"longest": 1}, "longest is 1; it must be at least 2"),
        ({"tasks": 0}, "tasks is 0; it must be at least 1"),
        ({"tasks": 37}, "tasks is 37, but there are only 36 programs; raise functions or longest"),
        ({"classes": 1}, "classes is 1; it must be at least 2"),
        ({"classes": 12}, "features is 12; it must be at least 13"),
        ({"samples": 0}, "samples is 0; it must be at least 8"),
        ({"samples": 401}, "samples is 401; it must be a multiple of the 8 classes"),
        ({"data_seed": -1}, "seed is -1"),
        ({"validation": 1}, "validation is 1"),
    ],
)
def test_knobs_out_of_range_are_refused_by_name(knob: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compose(**knob)


def test_a_class_that_never_occurs_is_named() -> None:
    with pytest.raises(ValueError, match="program f0 f0 f0 f0 f0 hardly ever gives class 0"):
        compose(functions=1, longest=12, tasks=11, samples=4, features=3, classes=2, data_seed=0)


def exact_game(data: MultiTaskData, hidden: HiddenFunctions, **given: Any) -> RoutingGame:
    """The game on some data whose blocks are the hidden functions, in the first and the last layer."""
    game = make_game(data=data, **given)
    network = layered(game.network)
    first, last = network.bank(0), network.bank(len(network.banks) - 1)
    with torch.no_grad():
        for parameter in game.network.parameters():
            parameter.zero_()
        for k, weight in enumerate(hidden.weight):
            linear = first.blocks[k].get_submodule("0")
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(weight)
        last.blocks[0].get_parameter("weight").copy_(hidden.readout)
    return game


@pytest.mark.parametrize("given", [{}, {"depth": 6}, {"blocks": 5}, {"layers": 3}])
def test_the_oracle_is_exactly_right_with_the_hidden_functions_as_blocks(given: dict[str, Any]) -> None:
    data, hidden = load("compose"), hidden_functions(3, 12, 8, seeded(2018))
    game = exact_game(data, hidden, **given)
    oracle = make_router("oracle", game.spec)
    assert game.evaluate(oracle, "train").accuracy.tolist() == [1.0] * data.tasks
    assert game.evaluate(oracle, "test").accuracy.tolist() == [1.0] * data.tasks

    batch, program = data.gather(data.test), programs_of(data)
    route = game.network.start(batch.x, batch.task)
    while route.depth < game.spec.depth - 1:
        route.apply(oracle.act(route.observe()))
    for task in range(data.tasks):
        here = batch.task == task
        expected = hidden.apply(program[task], batch.x[here]).float()
        torch.testing.assert_close(route.observe().v[here], expected, rtol=1e-4, atol=1e-5)


def test_another_program_is_wrong_where_the_oracle_is_right() -> None:
    data, hidden = load("compose"), hidden_functions(3, 12, 8, seeded(2018))
    game = exact_game(data, hidden)
    reverse = tuple(program[::-1] for program in programs_of(data))
    palindrome = torch.tensor([program == back for program, back in zip(programs_of(data), reverse, strict=True)])
    evaluation = game.evaluate(make_router("oracle", replace(game.spec, programs=reverse)), "test")
    assert (evaluation.accuracy[palindrome] == 1).all()
    assert evaluation.accuracy[~palindrome].mean() < 0.4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"depth": 3}, "depth is 3; raise it to 4 for programs of 3 functions"),
        ({"recursive": False, "layers": 4, "pass_action": False}, "set recursive=True"),
        ({"recursive": False, "layers": 4}, "set recursive=True"),
        ({"pass_action": False}, "set pass_action=True"),
        ({"blocks": 2}, "2 blocks for 3 functions; raise blocks"),
    ],
)
def test_the_oracle_refuses_networks_that_cannot_represent_the_programs(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_router("oracle", make_game(data="compose", **given).spec)


def test_blocks_that_cannot_follow_each_other_are_refused_in_play() -> None:
    game = make_game(data="compose", hidden=5)
    with pytest.raises(ValueError, match="is illegal at depth 2"):
        game.evaluate(make_router("oracle", game.spec), "test")


def test_programs_of_one_length_need_no_pass() -> None:
    data = compose(longest=2, tasks=9, samples=8, validation=0)
    game = exact_game(data, hidden_functions(3, 12, 8, seeded(2018)), pass_action=False)
    assert game.evaluate(make_router("oracle", game.spec), "test").overall_accuracy == 1


def test_the_score_of_routes_worked_out_by_hand() -> None:
    def routes(*actions: tuple[int, ...]) -> torch.Tensor:
        counts = torch.zeros(len(actions), 4, 6, dtype=torch.int64)
        for task, route in enumerate(actions):
            for depth, action in enumerate(route):
                counts[task, depth, action] = 9
                counts[task, depth, (action + 1) % 6] = 4  # now and then they stray
        return counts

    programs = ((0, 1), (1, 1, 0))
    renamed = routes((2, 5, 0, 3), (0, 0, 2, 4))  # block 2 for function 0, block 0 for function 1, 5 is PASS
    assert program_score(renamed, programs, pass_action=5) == 1.0
    assert program_score(renamed, programs) == pytest.approx(4 / 6)  # PASS as a block: only 2 and 0 agree, in 6 steps
    constant = routes((1, 1, 1, 3), (1, 1, 1, 3))  # block 1 for function 1: 1 of 3 steps, then 2 of 3
    assert program_score(constant, programs, pass_action=5) == pytest.approx(3 / 6)


def play(router: str, epochs: int) -> tuple[Evaluation, RoutingGame]:
    game = make_game(data="compose")
    player = make_router(router, game.spec, seed=0)
    player.play(game, epochs * len(game.data.train))
    return game.evaluate(player, "test"), game


def test_the_oracle_learns_the_functions(long: bool) -> None:
    if not long:
        pytest.skip("36 epochs: the oracle begins with a plateau of 15 to 25; --long plays them")
    oracle, game = play("oracle", 36)
    assert oracle.overall_accuracy > 0.7
    assert program_score(oracle.routes, programs_of(game.data), pass_action=game.spec.pass_action) == 1
    shared, _ = play("all-shared", 5)
    assert shared.overall_accuracy < 0.5
    assert program_score(shared.routes, programs_of(game.data), pass_action=game.spec.pass_action) < 0.6


def test_wpl_finds_the_programs_when_the_blocks_are_the_hidden_functions() -> None:
    data, hidden = load("compose"), hidden_functions(3, 12, 8, seeded(2018))
    game = exact_game(data, hidden, learning_rate=1e-12)
    with torch.no_grad():
        for block in layered(game.network).bank(1).blocks:
            block.get_parameter("weight").copy_(hidden.readout)
    router = make_router("wpl", game.spec, seed=0, rule="full-vector")
    router.play(game, 5 * len(data.train))
    found = game.evaluate(router, "validation")
    assert found.overall_accuracy > 0.85
    assert program_score(found.routes, programs_of(data), pass_action=game.spec.pass_action) > 0.85
