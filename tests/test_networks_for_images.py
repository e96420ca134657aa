"""Networks over images: the paper's for every size of picture, routed convolutions, blocks of different kinds."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from routing_env.game.convnets import simple_convnet
from routing_env.game.network import RoutedNetwork, linear_layers
from routing_env.types import Policy, State


def along(routes: Tensor) -> Policy:
    """A policy that takes given routes, int64 [B, D]."""

    def policy(state: State) -> Tensor:
        return routes[:, state.depth]

    return policy


def random_routes(sizes: Sequence[int], lanes: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(size, (lanes,), generator=generator) for size in sizes], dim=1)


def composed(network: RoutedNetwork, x: Tensor, routes: Tensor) -> Tensor:
    """The stem, then one block after the other, lane by lane; in evaluation mode lanes are independent."""
    rows: list[Tensor] = []
    for lane, route in zip(x, routes.tolist(), strict=True):
        v = network.stem(lane.unsqueeze(0))
        for layer, block in enumerate(route):
            v = network.bank(layer).blocks[block](v)
        rows.append(v)
    return torch.cat(rows)


def conv_block(channels: int, filters: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2), nn.BatchNorm2d(filters), nn.ReLU()
    )


def routed_convolutions() -> RoutedNetwork:
    """Two layers of convolutions, the second one halving the map, then a layer of classifiers."""
    torch.manual_seed(0)
    layers: list[list[nn.Module]] = [
        [conv_block(4, 4) for _ in range(3)],
        [conv_block(4, 6, stride=2) for _ in range(2)],
        [nn.Sequential(nn.Flatten(), nn.Linear(6 * 4 * 4, 5)) for _ in range(3)],
    ]
    return RoutedNetwork(conv_block(3, 4), layers, (3, 8, 8))


@pytest.mark.parametrize(
    ("shape", "features"),
    [((1, 8, 8), 32), ((8, 8), 32), ((1, 28, 28), 32), ((3, 32, 32), 128), ((3, 84, 84), 800), ((3, 84, 20), 160)],
)
def test_the_papers_network_takes_every_size_of_picture(shape: tuple[int, ...], features: int) -> None:
    torch.manual_seed(0)
    network = simple_convnet(shape, outputs=5, blocks=4)
    assert network.bank(0).in_shape == (features,)
    convolutions = [module for module in network.stem.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [32] * 4
    assert [(bank.in_shape, bank.out_shape, len(bank)) for bank in map(network.bank, range(3))] == [
        ((features,), (128,), 4),
        ((128,), (128,), 4),
        ((128,), (5,), 4),
    ]
    x, routes = torch.randn(6, *shape), random_routes([4, 4, 4], 6)
    network.eval()
    output, route = network(x, torch.zeros(6, dtype=torch.int64), along(routes))
    assert torch.equal(route.actions, routes)
    torch.testing.assert_close(output, composed(network, x, routes))


def test_routed_convolutions_equal_the_plain_composition() -> None:
    network = routed_convolutions().eval()
    x, routes = torch.randn(9, 3, 8, 8), random_routes([3, 2, 3], 9)
    output, _ = network(x, torch.zeros(9, dtype=torch.int64), along(routes))
    torch.testing.assert_close(output, composed(network, x, routes))


def test_routed_convolutions_train_on_the_routes_taken_alone() -> None:
    """In training, too, a convolution's batch norm sees its own rows and nobody else's."""
    network = routed_convolutions()
    routes = torch.tensor([[0, 1, 2]] * 4 + [[2, 1, 0]] * 4)
    x = torch.randn(8, 3, 8, 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    output, _ = network(x, torch.zeros(8, dtype=torch.int64), along(routes))
    stem = network.stem(x)
    first = torch.cat([network.bank(0).blocks[0](stem[:4]), network.bank(0).blocks[2](stem[4:])])
    second = network.bank(1).blocks[1](first)
    expected = torch.cat([network.bank(2).blocks[2](second[:4]), network.bank(2).blocks[0](second[4:])])
    torch.testing.assert_close(output, expected)

    output.square().sum().backward()
    taken = {"banks.0.blocks.0", "banks.0.blocks.2", "banks.1.blocks.1", "banks.2.blocks.0", "banks.2.blocks.2"}
    with_gradient = {name.rsplit(".", 2)[0] for name, p in network.named_parameters() if p.grad is not None}
    assert {name for name in with_gradient if name.startswith("banks")} == taken
    for name, value in network.state_dict().items():
        if name.startswith("banks") and not any(name.startswith(block + ".") for block in taken):
            assert torch.equal(value, before[name])


def test_blocks_of_different_kinds_in_one_layer_equal_the_plain_composition() -> None:
    torch.manual_seed(0)
    layers: list[list[nn.Module]] = [
        [conv_block(4, 4), conv_block(4, 4, kernel=5), nn.Identity(), nn.AvgPool2d(3, 1, padding=1)],
        [
            nn.Sequential(nn.Flatten(), nn.Linear(64, 7)),
            nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 7)),
        ],
        [*linear_layers([7, 5], 2)[0], nn.Sequential(nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 5))],
    ]
    network = RoutedNetwork(conv_block(1, 4), layers, (1, 4, 4)).eval()
    x, routes = torch.randn(20, 1, 4, 4), random_routes([4, 2, 3], 20)
    output, _ = network(x, torch.zeros(20, dtype=torch.int64), along(routes))
    torch.testing.assert_close(output, composed(network, x, routes))


def test_a_recursive_network_repeats_convolutions_of_one_shape() -> None:
    torch.manual_seed(0)
    layers: list[list[nn.Module]] = [
        [conv_block(2, 2), conv_block(2, 2)],
        [nn.Sequential(nn.Flatten(), nn.Linear(32, 3))],
    ]
    network = RoutedNetwork(nn.Identity(), layers, (2, 4, 4), recursive=True, depth=4).eval()
    x, routes = torch.randn(5, 2, 4, 4), torch.cat([random_routes([2, 2, 2], 5), torch.full((5, 1), 2)], dim=1)
    output, _ = network(x, torch.zeros(5, dtype=torch.int64), along(routes))
    convolve, classify = network.bank(0).blocks, network.bank(1).blocks[0]
    for lane, (a, b, c, _) in enumerate(routes.tolist()):
        expected = classify(convolve[c](convolve[b](convolve[a](x[lane : lane + 1]))))
        torch.testing.assert_close(output[lane : lane + 1], expected)


def test_convolutions_that_do_not_fit_are_refused() -> None:
    layers = [[conv_block(4, 4)], [nn.Linear(3, 2)]]
    with pytest.raises(ValueError, match=r"does not take samples of shape \(4, 8, 8\)"):
        RoutedNetwork(conv_block(3, 4), layers, (3, 8, 8))
    with pytest.raises(ValueError, match="must give one vector per sample"):
        RoutedNetwork(conv_block(3, 4), [[conv_block(4, 4)]], (3, 8, 8))
