"""Recurrent networks with routed cells, beside torch's own, and as games."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test, parallel_seed_test
from rich.console import Console
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from worlds import bits, noise

from routing_env import Decision, MultiTaskData, State, make_game, parallel_env
from routing_env.agents import make_router
from routing_env.data import first_tasks, load
from routing_env.data.sequences import DIGITS, OPERATIONS, PROGRAMS, compose_sequences
from routing_env.envs.single import RoutingEnv
from routing_env.game.recurrent import RoutedGRU, RoutedLSTM, RoutedRecurrentNetwork, sequence_lengths
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import RouterLearner
from routing_env.runs.run import Run

STEPS, FEATURES, HIDDEN, OUTPUTS = 5, 3, 4, 2
KINDS: dict[str, type[RoutedRecurrentNetwork]] = {"lstm": RoutedLSTM, "gru": RoutedGRU}
FORMS: list[dict[str, Any]] = [{}, {"separate_maps": True}, {"decide": "sequence"}]
DATA = compose_sequences(steps=4, samples=30)


def model(kind: str, blocks: int, *, layers: int = 1, seed: int = 0, **form: Any) -> RoutedRecurrentNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = KINDS[kind]((STEPS, FEATURES), OUTPUTS, blocks, hidden=HIDDEN, layers=layers, **form)
        return made.double()


def padded(lengths: list[int], seed: int = 0) -> Tensor:
    """Sequences float64 [B, STEPS, FEATURES], zero behind their ends."""
    there = torch.arange(STEPS) < torch.tensor(lengths)[:, None]
    return noise(len(lengths), STEPS, FEATURES, seed=seed) * there[:, :, None]


def pack(x: Tensor, lengths: list[int]) -> PackedSequence:
    """Sequences without their padding."""
    return pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)


def first(state: State) -> Tensor:
    """The first legal action of each lane."""
    return state.legal.int().argmax(1)


def pairs(ours: RoutedRecurrentNetwork, theirs: nn.RNNBase) -> Iterator[tuple[Tensor, Tensor]]:
    """Every parameter of the first cells, and the same parameter of torch's network."""
    parameters = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        what, part, layer = *name.split("_")[:2], name[-1]
        if ours.separate_maps:
            maps = {"ih": "input_maps", "hh": "hidden_maps"}[part]
            yield parameters[f"{maps}.{layer}.blocks.0.{what}"], parameter
        elif ours.decide == "step":
            yield parameters[f"cells.{layer}.blocks.0.{what}_{part}"], parameter
        else:
            yield parameters[f"cells.{layer}.blocks.0.network.{what}_{part}_l0"], parameter


LENGTHS = st.lists(st.integers(1, STEPS), min_size=1, max_size=6)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(lengths=LENGTHS, layers=st.integers(1, 3), packed=st.booleans(), seed=st.integers(0, 99))
def test_with_one_cell_it_is_torchs_network(
    kind: str, form: dict[str, Any], lengths: list[int], layers: int, packed: bool, seed: int
) -> None:
    ours = model(kind, 1, layers=layers, **form)
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](FEATURES, HIDDEN, layers, batch_first=True).double()
    with torch.no_grad():
        for mine, parameter in pairs(ours, theirs):
            parameter.copy_(mine)
    x = padded(lengths, seed).requires_grad_()
    _, last = theirs(pack(x, lengths))
    expected = nn.functional.linear((last[0] if kind == "lstm" else last)[-1], ours.head.weight, ours.head.bias)

    output, route = ours(pack(x, lengths) if packed else x, torch.zeros(len(lengths), dtype=torch.int64), first)

    assert route.depth == (layers if form.get("decide") else layers * STEPS * (1 + ours.separate_maps))
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
    weight = noise(*expected.shape, seed=seed + 1)
    (of_x, *mine) = torch.autograd.grad((output * weight).sum(), [x, *(own for own, _ in pairs(ours, theirs))])
    (their_x, *their) = torch.autograd.grad((expected * weight).sum(), [x, *theirs.parameters()])
    torch.testing.assert_close([of_x, *mine], [their_x, *their], rtol=1e-9, atol=1e-12)


def by_hand(net: RoutedRecurrentNetwork, x: Tensor, length: int, cells: list[list[int]]) -> Tensor:
    """One sequence [steps, features] through the cells that were chosen for it, cells[step][layer]."""
    empty = x.new_zeros(1, HIDDEN)
    states: list[Any] = [(empty, empty) if isinstance(net, RoutedLSTM) else empty for _ in range(net.layers)]
    v = empty
    for step in range(length):
        v = x[None, step]
        for layer in range(net.layers):
            bank: Any = net.cells[layer]
            states[layer] = bank.blocks[cells[step][layer]](v, states[layer])
            v = states[layer][0] if isinstance(net, RoutedLSTM) else states[layer]
    return net.head(v)[0]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(lengths=LENGTHS, layers=st.integers(1, 2), seed=st.integers(0, 99))
def test_each_lane_goes_through_the_cells_that_were_chosen_for_it(
    kind: str, lengths: list[int], layers: int, seed: int
) -> None:
    net = model(kind, 3, layers=layers)
    plain, x = deepcopy(net), padded(lengths, seed)
    cells = torch.randint(3, (len(lengths), STEPS, layers), generator=torch.Generator().manual_seed(seed))

    def policy(state: State) -> Tensor:
        wanted = cells.flatten(1)[:, state.depth]
        ended = torch.tensor(lengths) <= state.depth // layers
        assert state.legal.tolist() == [[not over] * 3 + [over] for over in ended.tolist()]
        return wanted.where(~ended, 3)

    output, _ = net(x, torch.zeros(len(lengths), dtype=torch.int64), policy)
    lanes = zip(x, lengths, cells.tolist(), strict=True)
    expected = torch.stack([by_hand(plain, *lane) for lane in lanes])
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
    output.square().sum().backward()
    expected.square().sum().backward()
    for (name, ours), theirs in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@given(lengths=LENGTHS, padding=st.floats(-9, 9), seed=st.integers(0, 99))
def test_padding_has_no_influence(
    kind: str, form: dict[str, Any], lengths: list[int], padding: float, seed: int
) -> None:
    """Whatever value padding has after standardisation, and however much of it there is, no bit depends on it."""
    net, x = model(kind, 2, layers=2, **form), padded(lengths, seed)
    there = torch.arange(STEPS) < torch.tensor(lengths)[:, None]
    task = torch.zeros(len(lengths), dtype=torch.int64)
    plain, route = net(x[:, : max(lengths)], task, first)
    other, other_route = net(x.where(there[:, :, None], padding), task, first)
    assert torch.equal(plain, other)
    assert torch.equal(route.actions, other_route.actions)
    for ours, theirs in zip(route.states, other_route.states, strict=True):
        assert torch.equal(ours.v, theirs.v)
        assert torch.equal(ours.legal, theirs.legal)


def test_lengths_are_read_from_the_padding() -> None:
    x = torch.zeros(4, 5, 2)
    x[0, 2, 1] = x[1, 4, 0] = x[2, 0, 0] = 1  # steps of zeros in front of the last digit are no padding
    assert sequence_lengths(x).tolist() == [3, 5, 1, 1]
    assert sequence_lengths((x - x.mean()) / x.std()).tolist() == [3, 5, 1, 1]
    assert sequence_lengths(x[:, :, :1]).tolist() == [5] * 4


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"optimizer": "adam", "weight_decay": 0.01},
    "AdamW": {"optimizer": lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.01)},
}


@pytest.mark.parametrize("depth", [1, 4, 8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["routed_lstm", "routed_gru"])
def test_cells_that_nobody_chose_are_bitwise_unchanged(network: str, optimizer: str, depth: int) -> None:
    given: dict[str, Any] = {"learning_rate": 0.01} if optimizer != "AdamW" else {}
    game = make_game(data=DATA, network=network, blocks=3, hidden=4, depth=depth, **given | OPTIMIZERS[optimizer])

    def play(cell: Callable[[State], Tensor]) -> None:
        state: State | None = game.reset()
        while state is not None:
            chosen = cell(state)
            chosen = chosen.where(state.legal.gather(1, chosen[:, None])[:, 0], state.legal.shape[1] - 1)
            state = game.step(Decision(chosen))

    play(lambda state: (torch.arange(len(state.task)) + state.depth) % 3)  # momentum for all of them
    before = bits(dict(game.network.named_parameters()))
    play(lambda state: state.task % 2)
    after = bits(dict(game.network.named_parameters()))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if ".blocks.2." not in name}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recursive": True}, "recursive is True; RoutedLSTM has no such variant"),
        ({"pass_action": True}, "pass_action is True; RoutedLSTM has no such variant"),
        ({"depth": 3}, r"decides 4 times \(per step, the default\), 1 \(per sequence\) or 8"),
        ({"layers": 2, "depth": 4}, r"decides 8 times \(per step, the default\), 2 \(per sequence\) or 16"),
        ({"hidden": 0}, "hidden is 0; it must be at least 1"),
        ({"data": "planted", "network": "routed_gru"}, r"a sample has shape \(128,\): use mlp instead"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_game(**{"data": DATA, "network": "routed_lstm"} | given)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RoutedLSTM((3, 8, 8), 2, 2), "images of one channel"),
        (lambda: RoutedLSTM((4, 2), 2, 0), "blocks is 0"),
        (lambda: model("gru", 2, decide="twice"), "decide is 'twice'; it must be 'step' or 'sequence'"),
        (lambda: RoutedGRU((4, 2), 2, 2, decide="sequence", separate_maps=True), "separate_maps needs decide='step'"),
        (lambda: model("gru", 2)(torch.ones(1, STEPS + 1, FEATURES), torch.zeros(1).long(), first), "at most 5 steps"),
    ],
)
def test_misuse_is_refused_in_words(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_settings_follow_from_the_data_and_describe_the_network() -> None:
    for chosen, depth, form in (
        ({}, 4, ("step", False)),
        ({"layers": 2}, 8, ("step", False)),
        ({"depth": 1}, 1, ("sequence", False)),
        ({"depth": 8}, 8, ("step", True)),
    ):
        game = make_game(data=DATA, network="routed_gru", hidden=4, **chosen)
        network = game.network
        assert isinstance(network, RoutedGRU)
        assert game.settings is not None
        assert (game.settings.depth, game.spec.depth, game.settings.layers) == (depth, depth, chosen.get("layers", 1))
        assert (network.decide, network.separate_maps) == form
    assert make_game(data=DATA, network="mlp").spec.depth == 3


def test_images_are_sequences_of_their_rows() -> None:
    game = make_game(data="digits", network="routed_gru", hidden=8, blocks=2)
    make_router("wpl", game.spec, seed=0).play(game, 64)
    assert game.spec.depth == 8
    assert game.samples >= 64
    inputs = np.random.default_rng(0).normal(size=(60, 7, 2)).astype(np.float32)
    with pytest.warns(UserWarning, match="channel axis"):
        data = MultiTaskData.from_arrays({"a": (inputs, np.arange(60) % 2)}, validation=0)
    assert make_game(data=data, network="routed_lstm", hidden=8, blocks=2).spec.depth == 7


# Remarks about any environment with unbounded or masked observations, and ours about seeds that the checks give.
@pytest.mark.filterwarnings(
    "ignore:.*infinity.*",
    "ignore:Observation is not a NumPy array",
    "ignore:Observation space for each agent probably",
    "ignore:.*heed the action mask",
    "ignore:.*all zeros",
    "ignore:.*all-zero",
    "ignore:.*discards what its blocks have learned",
    "ignore:a second world of the same data and settings",
    "ignore:No agents present but not all possible_agents",
    "ignore:.*A Box observation space",
    "ignore:.*not be able to render",
)
@pytest.mark.parametrize("depth", [1, 4, 8])
@pytest.mark.parametrize("network", ["routed_lstm", "routed_gru"])
def test_conforms_to_pettingzoo_gymnasium_and_stable_baselines3(network: str, depth: int) -> None:
    given: dict[str, Any] = {"data": DATA, "network": network, "depth": depth, "hidden": 4, "blocks": 3}
    for topology in ("per_task", "single", "dispatched"):
        parallel_api_test(parallel_env(topology=topology, **given), num_cycles=20)
        parallel_seed_test(lambda topology=topology: parallel_env(topology=topology, **given), num_cycles=20)
    with closing(RoutingEnv(render_mode="ansi", **given)) as env:
        check_env(env)
    with closing(RoutingEnv(**given)) as env:
        check_env_for_sb3(env)


def train(folder: Path, **given: Any) -> RouterLearner:
    directory = RunDirectory(folder)
    run = Run.of({"data": DATA, "hidden": 4, "blocks": 3, "optimizer": "sgd", "momentum": 0.9, "rho": 0.2} | given)
    directory.write_config(run.settings)
    run.train(directory, Display(Console(quiet=True)))
    assert isinstance(run.learner, RouterLearner)
    return run.learner


@pytest.mark.parametrize("depth", [1, 4, 8])
@pytest.mark.parametrize("network", ["routed_lstm", "routed_gru"])
def test_a_run_resumes_to_the_same_bits_and_draws_its_figures(network: str, depth: int, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", network=network, depth=depth, epochs=2)
    train(tmp_path / "parts", network=network, depth=depth, epochs=1)
    parts = train(tmp_path / "parts", network=network, depth=depth, epochs=2)
    for part in ("router", "monitor"):
        assert repr(parts.state_dict()[part]) == repr(whole.state_dict()[part])
    assert bits(parts.game.network.state_dict()) == bits(whole.game.network.state_dict())
    figures = whole.figures(RunDirectory(tmp_path / "whole").read_metrics(), {}, "wpl")
    assert set(figures) == {"learning_curve", "policy_over_time", "block_probability", "routing_map"}


@pytest.mark.parametrize("network", ["routed_lstm", "routed_gru"])
def test_it_learns(network: str) -> None:
    game = make_game(data="sequences", network=network)
    router = make_router("wpl", game.spec, seed=0)
    router.play(game, 6 * len(game.data.train))
    evaluation = game.evaluate(router, "test")
    assert (evaluation.majority - 1 / 3).abs().max() < 1e-9
    assert evaluation.overall_accuracy > 0.72


def test_a_baseline_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="RoutedLSTM has none: choose another network"):
        Run.of({"data": DATA, "network": "routed_lstm", "router": "mmoe"})


# The data set


def test_labels_are_what_the_programs_compute() -> None:
    rules = {"add": lambda s, d: (s + d) % 3, "max": max, "take": lambda _, d: d}
    assert list(rules) == list(OPERATIONS)
    data = load("sequences")
    assert [name.split("/") for name in data.task_names] == [list(program) for program in PROGRAMS]
    for split in (data.train, data.validation, data.test):
        for index, task, target in zip(split.index.tolist(), split.task.tolist(), split.target.tolist(), strict=True):
            digits = [row.index(1.0) for row in data.inputs[index].tolist() if 1.0 in row]
            state = 0
            for step, digit in enumerate(digits):
                state = rules[PROGRAMS[task][step % 2]](state, digit)
            assert state == target


def test_classes_are_balanced_and_lengths_survive_standardisation() -> None:
    data = load("sequences", validation=0)
    for split, number in ((data.train, 450), (data.test, 150)):
        counts = torch.bincount(split.label, minlength=len(PROGRAMS) * DIGITS)
        assert counts.tolist() == [number // DIGITS] * len(PROGRAMS) * DIGITS
    assert not set(data.train.index.tolist()) & set(data.test.index.tolist())
    lengths = data.inputs.sum((1, 2)).long()
    assert sorted(set(lengths.tolist())) == [2, 3, 4, 5, 6]
    assert torch.equal(sequence_lengths(data.gather(data.train).x), lengths[data.train.index])
    fewer = first_tasks(data, 2)
    assert torch.equal(sequence_lengths(fewer.gather(fewer.train).x), lengths[fewer.train.index])


def test_the_data_seed_draws_the_sequences_and_the_seed_only_cuts_them() -> None:
    assert torch.equal(compose_sequences(seed=1).inputs, compose_sequences(seed=2).inputs)
    assert not torch.equal(compose_sequences(data_seed=1).inputs, compose_sequences(data_seed=2).inputs)
    for wrong, message in (({"steps": 1}, "steps is 1"), ({"samples": 100}, "samples is 100")):
        with pytest.raises(ValueError, match=message):
            compose_sequences(**wrong)
