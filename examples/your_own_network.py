"""Your own network: routed convolutions, and blocks of different kinds in one layer.

``RoutedNetwork(stem, layers, input_shape)`` is all that is needed: ``layers`` is a list of layers, a layer is a list of
blocks, and a block is any module. The blocks of one layer must have the same output shape.

Run it: ``python examples/your_own_network.py``
"""

from __future__ import annotations

import torch
from torch import nn

from routing_env import MultiTaskData, RoutedNetwork, make_game
from routing_env.agents import make_router
from routing_env.data import load
from routing_env.game.network import linear_layers


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Module:
    """A block that keeps the size of the feature map."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def network(data: MultiTaskData) -> RoutedNetwork:
    """One convolution shared by all tasks, then two routed layers of convolutions, then routed classifiers."""
    channels, height, width = data.input_shape
    stem = convolution(channels, 8)
    layers: list[list[nn.Module]] = [
        [convolution(8, 8), convolution(8, 8, kernel=5), convolution(8, 8, kernel=1), nn.Identity()],  # four kinds
        [nn.Sequential(convolution(8, 8), nn.MaxPool2d(2), nn.Flatten()) for _ in range(4)],
        *linear_layers([8 * (height // 2) * (width // 2), data.outputs], blocks=4),
    ]
    return RoutedNetwork(stem, layers, data.input_shape)


def main(epochs: int = 2) -> None:
    """Train on digits and print what each task chose in the first layer."""
    torch.set_num_threads(1)
    data = load("digits")
    game = make_game(learning_rate=0.1, batch_size=32, data=data, network=network)
    router = make_router("wpl", game.spec, rule="full-vector")
    router.play(game, samples=epochs * len(data.train))
    result = game.evaluate(router, "validation")
    kinds = ("3x3 convolution", "5x5 convolution", "1x1 convolution", "identity")
    for task, name in enumerate(data.task_names):
        kind = kinds[int(result.routes[task, 0].argmax())]
        print(f"{name}: balanced accuracy {result.balanced_accuracy[task]:.0%}, first block: {kind}")
    print(f"all: balanced accuracy {result.overall_balanced_accuracy:.0%} after {epochs} epochs")


if __name__ == "__main__":
    main()
