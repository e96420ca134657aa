"""Legality against brute force, and routed outputs against the plain composition of the chosen blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from worlds import Blueprint, blueprints, legal_routes, noise, playable

from routing_env.game.convnets import simple_convnet
from routing_env.game.network import RoutedNetwork, linear_layers, mlp
from routing_env.types import Decision


@given(blueprint=blueprints())
def test_an_action_is_legal_iff_some_route_continues_with_it(blueprint: Blueprint) -> None:
    routes = blueprint.routes
    if not routes:
        with pytest.raises(ValueError, match="lead from the stem's output"):
            blueprint.network()
        return
    network = blueprint.network()
    assert network.actions == blueprint.actions
    spec = network.spec(tasks=2, device=torch.device("cpu"))
    lanes = torch.tensor(routes)
    route = network.start(torch.zeros(len(routes), blueprint.widths[0]), torch.zeros(len(routes), dtype=torch.int64))
    for depth in range(blueprint.depth):
        expected = [{other[depth] for other in routes if other[:depth] == mine[:depth]} for mine in routes]
        legal = route.observe().legal
        assert [set(row.nonzero().flatten().tolist()) for row in legal] == expected
        assert set(spec.legal[depth].nonzero().flatten().tolist()) == {route[depth] for route in routes}
        route.apply(Decision(lanes[:, depth]))


@given(blueprint=playable(), data=st.data())
def test_a_route_is_the_plain_composition_of_its_blocks(blueprint: Blueprint, data: st.DataObject) -> None:
    network = blueprint.network(seed=data.draw(st.integers(0, 99))).double()
    routes = data.draw(legal_routes(blueprint, data.draw(st.integers(1, 7))))
    x, task = noise(len(routes), blueprint.widths[0]), torch.arange(len(routes)) % 3
    plain = blueprint.compose(network, x, routes)
    features = max(blueprint.widths)

    route = network.start(x, task)
    for depth, actions in enumerate(zip(*routes, strict=True)):
        state = route.observe()
        assert state.v.shape == (len(routes), features)
        assert not state.v.requires_grad
        for lane, history in enumerate(plain):
            width = history[depth].shape[1]
            torch.testing.assert_close(state.v[lane, :width], history[depth][0], rtol=1e-12, atol=1e-12)
            assert not state.v[lane, width:].any(), "behind the representation there are zeros"
        route.apply(Decision(torch.tensor(actions)))
        if depth < blueprint.depth - 1:
            passes = torch.tensor([blueprint.is_pass(action) for action in actions])
            assert torch.equal(route.observe().v[passes], state.v[passes]), "PASS leaves v bitwise alone"
    torch.testing.assert_close(route.output, torch.cat([history[-1] for history in plain]), rtol=1e-12, atol=1e-12)

    taken = torch.tensor(routes)
    output, taken_route = network(x, task, lambda state: taken[:, state.depth])
    assert torch.equal(output, route.output)
    assert torch.equal(taken_route.actions, taken)


def test_legality_by_hand() -> None:
    """Widths 4, 3, 3, 2; blocks 0 and 1: 4 to 3; block 2: 3 to 3; blocks 3 and 4: 3 to 2; PASS is 5."""
    network = Blueprint((4, 3, 3, 2), (2, 1, 2), depth=4, recursive=True, pass_action=True).network()
    spec = network.spec(tasks=1, device=torch.device("cpu"))
    assert spec.legal.int().tolist() == [
        [1, 1, 0, 0, 0, 1],
        [1, 1, 1, 0, 0, 1],
        [1, 1, 1, 0, 0, 1],
        [0, 0, 0, 1, 1, 0],
    ]
    route = network.start(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    route.apply(Decision(torch.tensor([5, 0])))
    route.apply(Decision(torch.tensor([5, 5])))
    assert route.observe().legal.int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 1],
    ]


@given(blueprint=playable())
def test_the_unrouted_networks_actions_are_a_legal_route(blueprint: Blueprint) -> None:
    network = blueprint.network()
    spec = network.spec(tasks=1, device=torch.device("cpu"))
    route = [layer[0] for layer in spec.layers]
    assert tuple(route) in blueprint.routes
    if not blueprint.recursive:
        assert [len(layer) for layer in spec.layers] == list(blueprint.counts)


def test_representations_of_more_dimensions_keep_their_shape_from_block_to_block() -> None:
    torch.manual_seed(0)
    layers: list[list[nn.Module]] = [
        [nn.Conv2d(2, 2, 3, padding=1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh())],
        [nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), nn.Sequential(nn.Flatten(), nn.Linear(32, 8))],
        [nn.Linear(8, 3)],
    ]
    network = RoutedNetwork(nn.Identity(), layers, (2, 4, 4), recursive=True, depth=4).double()
    routes = torch.tensor([[0, 1, 2, 4], [1, 1, 3, 4], [0, 0, 2, 4]])
    x = noise(3, 2, 4, 4)
    output, _ = network(x, torch.zeros(3, dtype=torch.int64), lambda state: routes[:, state.depth])
    flat = [block for layer in layers for block in layer]
    for lane, route in enumerate(routes.tolist()):
        plain = nn.Sequential(*[flat[action] for action in route])(x[lane : lane + 1])
        torch.testing.assert_close(output[lane : lane + 1], plain)
    assert network.features == 32


def test_the_gate_scales_the_output_and_carries_its_gradient() -> None:
    network = Blueprint((2, 3, 2), (2, 2), depth=2).network().double()
    x = noise(2, 2)
    gate = torch.ones(2, dtype=torch.float64, requires_grad=True)
    first = torch.tensor([0, 1])
    second = Decision(torch.zeros_like(first))
    plain, gated = (network.start(x, torch.zeros_like(first)) for _ in range(2))
    plain.apply(Decision(first))
    gated.apply(Decision(first, gate=gate))
    assert torch.equal(gated.observe().v, plain.observe().v)
    plain.apply(second)
    gated.apply(second)
    assert torch.equal(gated.output, plain.output)
    gated.output.sum().backward()
    hidden = plain.states[1].v.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network.bank(1).blocks[0](hidden).sum(), hidden)
    torch.testing.assert_close(gate.grad, (slope * hidden).sum(1))


def test_the_papers_network_has_128_features_for_cifar() -> None:
    network = simple_convnet((3, 32, 32), 5, 20)
    assert network.features == 128
    assert [len(network.bank(layer)) for layer in range(3)] == [20, 20, 20]
    assert sum(isinstance(module, nn.Conv2d) for module in network.stem.modules()) == 4
    output, _ = network(torch.zeros(2, 3, 32, 32), torch.zeros(2).long(), lambda state: torch.tensor([0, 19]))
    assert output.shape == (2, 5)


def test_images_without_channels_and_maps_too_small_to_pool() -> None:
    network = simple_convnet((4, 4), 2, 1, hidden=8, filters=6)
    assert network.bank(0).in_shape == (6,)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RoutedNetwork(nn.Identity(), [], (2,)), "at least one layer"),
        (lambda: mlp((2,), 2, 1, depth=2), "depth is 2 but there are 3 layers"),
        (lambda: mlp((2,), 2, 1, depth=0), "depth is 0; it must be at least 1"),
        (lambda: mlp((2,), 2, 1, recursive=True, depth=0), "depth is 0; it must be at least 1"),
        (lambda: mlp((2,), 2, 1, hidden=3, layers=2, recursive=True, depth=3), "no 3 decisions lead"),
        (lambda: linear_layers([2, 2], [1, 1]), "2 block counts for 1 layers"),
        (lambda: linear_layers([2, 2], 0), "each must be at least 1"),
        (lambda: simple_convnet((5,), 2, 1), "takes images"),
        (lambda: RoutedNetwork(nn.Linear(3, 3), [[nn.Linear(3, 2)]], (2,)), "the stem .* does not take samples"),
        (lambda: RoutedNetwork(nn.Identity(), [[nn.Conv1d(1, 1, 1)]], (1, 2)), "one vector per sample"),
    ],
)
def test_networks_that_cannot_be(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
