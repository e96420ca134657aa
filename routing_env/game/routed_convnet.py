"""The paper's convolutional network with its convolutions routed as well, which the paper leaves in the stem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from routing_env.game.blocks import output_shape
from routing_env.game.dropout import with_dropout
from routing_env.game.network import RoutedNetwork

CONVOLUTIONS = 4


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
    if len(input_shape) not in (2, 3):
        raise ValueError(f"routed_convnet takes images; a sample has shape {tuple(input_shape)}: use mlp instead")
    if not 1 <= layers <= CONVOLUTIONS + 1:
        raise ValueError(f"layers is {layers}; routed_convnet has from 1 to {CONVOLUTIONS + 1} routed layers")
    counts = [blocks] * layers if isinstance(blocks, int) else list(blocks)
    if len(counts) != layers or min(counts) < 1:
        raise ValueError(f"block counts are {counts}; give one number of at least 1, or {layers} of them")
    stem = nn.Sequential() if len(input_shape) == 3 else nn.Sequential(nn.Unflatten(1, (1, input_shape[0])))
    channels = input_shape[0] if len(input_shape) == 3 else 1
    side = min(input_shape[-2:])
    behind = with_dropout(nn.Flatten(), dropout)  # the same for every block of the last convolution
    routed: list[list[nn.Module]] = []
    for number in range(CONVOLUTIONS):
        block = partial(convolution, channels, filters, pool=side >= 2)
        if number == CONVOLUTIONS - 1:
            block = partial(_followed, block, behind)
        place = number + layers - CONVOLUTIONS - 1
        if place < 0:
            stem += block()
        else:
            routed.append([block() for _ in range(counts[place])])
        channels, side = filters, max(1, side // 2)
    if not len(stem):
        stem.append(nn.Identity())
    below = nn.Sequential(stem, *(layer[0] for layer in routed))
    (width,) = output_shape(below, input_shape, "the convolutions")
    routed.append([nn.Linear(width, outputs) for _ in range(counts[-1])])
    network = RoutedNetwork(stem, routed, input_shape, recursive=recursive, pass_action=pass_action, depth=depth)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # quicker, same numbers


def convolution(channels: int, filters: int, *, pool: bool) -> nn.Sequential:
    """A 3x3 convolution with batch norm, 2x2 max-pooling if ``pool`` is set, and ReLU, which commutes with pooling."""
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []), nn.ReLU())


def _followed(block: Callable[[], nn.Sequential], behind: nn.Module) -> nn.Sequential:
    """A new block with a module behind it."""
    return nn.Sequential(*block(), behind)
