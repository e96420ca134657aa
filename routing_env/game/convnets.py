"""The paper's convolutional network, and the same with its convolutions routed as well."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from routing_env.game.blocks import output_shape
from routing_env.game.dropout import with_dropout
from routing_env.game.network import RoutedNetwork, linear_layers

CONVOLUTIONS = 4
"""Convolutions of the paper's SimpleConvNet."""


def simple_convnet(
    input_shape: Sequence[int],
    outputs: int,
    blocks: int | Sequence[int],
    *,
    hidden: int = 128,
    layers: int = 3,
    filters: int = 32,
    recursive: bool = False,
    pass_action: bool = False,
    depth: int | None = None,
    dropout: float = 0.0,
) -> RoutedNetwork:
    """SimpleConvNet of the paper's section 4: four convolutions as the stem, routed fully connected layers on top.

    Each convolution is 3x3 with batch norm and ReLU, followed by 2x2 max-pooling while the map is at least 2x2. The
    paper does not mention the pooling; with it 3 x 32 x 32 images give 128 features, the width that the paper states.

    Args:
        input_shape: [channels, height, width]; two dimensions mean one channel.
        outputs: O, width of the last layer.
        blocks: blocks per layer, one number for all layers or one for each.
        hidden: width between routed layers.
        layers: number of routed layers.
        filters: of each convolution.
        recursive: see :class:`RoutedNetwork`.
        pass_action: see :class:`RoutedNetwork`.
        depth: see :class:`RoutedNetwork`.
        dropout: share of the stem's features, in [0, 1), that is dropped in training.
    """
    stem, places = convolutions(input_shape, filters, [1] * CONVOLUTIONS, "simple_convnet")
    for (block,) in places:
        stem += block
    stem.append(nn.Flatten())
    stem.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # quicker convolutions, same numbers
    width = prod(output_shape(stem, input_shape, "the stem"))
    routed = linear_layers([width, *[hidden] * (layers - 1), outputs], blocks)
    stem = with_dropout(stem, dropout)
    return RoutedNetwork(stem, routed, input_shape, recursive=recursive, pass_action=pass_action, depth=depth)


def routed_convnet(
    input_shape: Sequence[int],
    outputs: int,
    blocks: int | Sequence[int],
    *,
    layers: int = 3,
    filters: int = 32,
    dropout: float = 0.0,
    recursive: bool = False,
    pass_action: bool = False,
    depth: int | None = None,
) -> RoutedNetwork:
    """The convolutions of SimpleConvNet (paper, section 4) and one linear layer, of which the last ones are routed.

    The blocks of the last layer are linear maps to the outputs, those before are convolutions with batch norm, pooling
    and ReLU. What is not routed is the stem.

    Args:
        input_shape: [channels, height, width]; two dimensions mean one channel.
        outputs: O, width of the last layer.
        blocks: blocks per layer, one number for all layers or one for each.
        layers: number of routed layers, from 1 (the linear layer alone) to 5 (all convolutions as well).
        filters: of each convolution.
        dropout: share of the features dropped in front of the linear layer, in training.
        recursive: see :class:`RoutedNetwork`.
        pass_action: see :class:`RoutedNetwork`.
        depth: see :class:`RoutedNetwork`.

    Raises:
        ValueError: a number of layers or blocks out of range, or samples that are not images.
    """
    if not 1 <= layers <= CONVOLUTIONS + 1:
        raise ValueError(f"layers is {layers}; routed_convnet has from 1 to {CONVOLUTIONS + 1} routed layers")
    counts = [blocks] * layers if isinstance(blocks, int) else list(blocks)
    if len(counts) != layers or min(counts) < 1:
        raise ValueError(f"block counts are {counts}; give one number of at least 1, or {layers} of them")
    unrouted = CONVOLUTIONS + 1 - layers
    stem, places = convolutions(input_shape, filters, [*[1] * unrouted, *counts[:-1]], "routed_convnet")
    behind = with_dropout(nn.Flatten(), dropout)  # the same for every block of the last convolution
    for block in places[-1]:
        block.append(behind)
    for (block,) in places[:unrouted]:
        stem += block
    if not len(stem):
        stem.append(nn.Identity())
    routed = places[unrouted:]
    below = nn.Sequential(stem, *(layer[0] for layer in routed))
    (width,) = output_shape(below, input_shape, "the convolutions")
    linear = [nn.Linear(width, outputs) for _ in range(counts[-1])]
    network = RoutedNetwork(
        stem, [*routed, linear], input_shape, recursive=recursive, pass_action=pass_action, depth=depth
    )
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # quicker, same numbers


def convolutions(
    input_shape: Sequence[int], filters: int, counts: Sequence[int], network: str
) -> tuple[nn.Sequential, list[list[nn.Sequential]]]:
    """The convolutions of the paper's section 4, each as often as asked for, and what brings samples into their form.

    Each is 3x3 with batch norm and ReLU, and with 2x2 max-pooling while the map is at least 2x2.

    Args:
        input_shape: [channels, height, width]; two dimensions mean one channel.
        filters: of each convolution.
        counts: how many equal convolutions stand side by side in each place.
        network: name of the network, for the error.

    Raises:
        ValueError: samples that are not images.
    """
    if len(input_shape) not in (2, 3):
        raise ValueError(f"{network} takes images; a sample has shape {tuple(input_shape)}: use mlp instead")
    channels = input_shape[0] if len(input_shape) == 3 else 1
    side = min(input_shape[-2:])
    start = nn.Sequential() if len(input_shape) == 3 else nn.Sequential(nn.Unflatten(1, (1, input_shape[0])))

    def convolution() -> nn.Sequential:
        block = nn.Sequential(nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters))
        if side >= 2:
            block.append(nn.MaxPool2d(2))
        return block.append(nn.ReLU())  # behind the pooling, which it commutes with: a quarter of the work

    places: list[list[nn.Sequential]] = []
    for count in counts:
        places.append([convolution() for _ in range(count)])
        channels, side = filters, max(1, side // 2)
    return start, places
