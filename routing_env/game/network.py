"""The routed network: a stem, layers of blocks, and which actions are legal where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.game.blocks import BlockBank, output_shape
from routing_env.types import GameSpec, Policy, State


class RoutedNetwork(nn.Module):
    """A stem that always applies, then D routed decisions over layers of blocks.

    In a layered network the blocks of layer i apply at depth i, and an action is the index within the layer. In a
    recursive network (paper, section 7.2 and Table 4, "non-layered") any block of any layer but the last applies before
    the last depth, the last layer, which classifies, applies at the last depth, and actions are numbered through all
    layers. In both an action is legal if and only if its block takes the shape that v has and the last layer can still
    be reached. PASS, where it is enabled, leaves v unchanged and is legal before the last depth under that condition.

    Args:
        stem: the unrouted module before the first decision; ``nn.Flatten()`` if there is none.
        layers: the blocks of each layer; layers may differ in size and kind.
        input_shape: shape of one sample.
        recursive: whether the network is recursive rather than layered.
        pass_action: whether there is a PASS; it is the last action.
        depth: decisions per sample, D; by default the number of layers. Only a recursive network can have another.

    Raises:
        ValueError: the layers do not fit together, or no legal route of this depth ends in the last layer.
    """

    legal: Tensor
    """bool [D, S, A]: legality at each depth for each of the S shapes that v can have."""
    follow: Tensor
    """int64 [D, S, A]: the index of the shape after a legal action."""
    reachable: list[list[int]]
    """For each of the D + 1 depths the indices of the shapes that occur there."""

    def __init__(
        self,
        stem: nn.Module,
        layers: Sequence[Sequence[nn.Module]],
        input_shape: Sequence[int],
        *,
        recursive: bool = False,
        pass_action: bool = False,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        if not layers:
            raise ValueError("a routed network needs at least one layer of blocks; got none")
        if depth is not None and depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        if depth is not None and depth != len(layers) and not recursive:
            raise ValueError(
                f"depth is {depth} but there are {len(layers)} layers; a layered network decides once per layer: "
                "leave depth out or set recursive=True"
            )
        self.stem = stem
        self.input_shape = tuple(input_shape)
        shape = output_shape(stem, self.input_shape, "the stem")
        self.banks = nn.ModuleList()
        for blocks in layers:
            bank = BlockBank(blocks, shape)
            self.banks.append(bank)
            shape = bank.out_shape
        self.recursive = recursive
        self.depth = depth or len(layers)
        self.output_shape = shape
        if len(shape) != 1:
            raise ValueError(f"the last layer must give one vector per sample; it gives {shape}")

        sizes = [len(blocks) for blocks in layers]
        self.offsets = [sum(sizes[:i]) if recursive else 0 for i in range(len(sizes))]
        self.actions = (sum(sizes) if recursive else max(sizes)) + pass_action
        self.pass_action = self.actions - 1 if pass_action else None

        banks = [self.bank(i) for i in range(len(layers))]
        self.shapes = list(dict.fromkeys([banks[0].in_shape, *(bank.out_shape for bank in banks)]))
        self.features = max(prod(shape) for shape in self.shapes)
        legal, follow, self.reachable = self._legality()
        self.register_buffer("legal", legal, persistent=False)
        self.register_buffer("follow", follow, persistent=False)

    def bank(self, layer: int) -> BlockBank:
        """The blocks of one layer."""
        return cast(BlockBank, self.banks[layer])

    def own_actions(self, layer: int) -> list[int]:
        """The actions that name the blocks of one layer."""
        return list(range(self.offsets[layer], self.offsets[layer] + len(self.bank(layer))))

    def spec(self, tasks: int, device: torch.device) -> GameSpec:
        """What a router for this network needs to know."""
        return GameSpec(
            tasks=tasks,
            depth=self.depth,
            actions=self.actions,
            features=self.features,
            legal=self.legal.any(1).to(device),
            layers=self._unrouted(),
            device=device,
            pass_action=self.pass_action,
        )

    def forward(self, x: Tensor, task: Tensor, policy: Policy) -> tuple[Tensor, Tensor]:
        """Algorithm 1: route every sample to the end.

        Args:
            x: float32 [B, *input_shape].
            task: int64 [B].
            policy: from the state at each depth to actions int64 [B].

        Returns:
            The output float32 [B, O] and the actions int64 [B, D].
        """
        route = self.start(x)
        actions: list[Tensor] = []
        for _ in range(self.depth):
            action = policy(route.observe(task))
            route = route.apply(action)
            actions.append(action)
        return route.v, torch.stack(actions, dim=1)

    def start(self, x: Tensor) -> Route:
        """Apply the stem."""
        return Route(self, 0, self.stem(x), None)

    def candidates(self, depth: int) -> list[int]:
        """The layers whose blocks may apply at a depth."""
        last = len(self.banks) - 1
        if not self.recursive:
            return [depth]
        return [last] if depth == self.depth - 1 else list(range(last))

    def _unrouted(self) -> tuple[tuple[int, ...], ...]:
        """For each depth the actions of the layer with that index, or of the nearest legal one, else only PASS."""
        layers: list[tuple[int, ...]] = []
        shape = self.reachable[0][0]
        for depth in range(self.depth):
            nearest = sorted(self.candidates(depth), key=lambda layer: abs(layer - depth))
            choices = [self.own_actions(layer) for layer in nearest]
            if self.pass_action is not None:
                choices.append([self.pass_action])
            own = next(actions for actions in choices if self.legal[depth, shape, actions[0]])
            layers.append(tuple(own))
            shape = int(self.follow[depth, shape, own[0]])
        return tuple(layers)

    def _legality(self) -> tuple[Tensor, Tensor, list[list[int]]]:
        """``legal``, ``follow`` and ``reachable``, by backward reachability from the last layer's output."""
        number = {shape: s for s, shape in enumerate(self.shapes)}
        legal = torch.zeros(self.depth, len(self.shapes), self.actions, dtype=torch.bool)
        follow = torch.zeros(self.depth, len(self.shapes), self.actions, dtype=torch.int64)
        alive = {number[self.output_shape]}
        for depth in reversed(range(self.depth)):
            before: set[int] = set()
            for layer in self.candidates(depth):
                bank, own = self.bank(layer), self.own_actions(layer)
                source, target = number[bank.in_shape], number[bank.out_shape]
                if target in alive:
                    legal[depth, source, own] = True
                    follow[depth, source, own] = target
                    before.add(source)
            if self.pass_action is not None and depth < self.depth - 1:
                for shape in alive:
                    legal[depth, shape, self.pass_action] = True
                    follow[depth, shape, self.pass_action] = shape
                before |= alive
            alive = before
        start = number[self.bank(0).in_shape]
        if start not in alive:
            raise ValueError(
                f"no {self.depth} decisions lead from the stem's output {self.shapes[start]} through the last layer; "
                "change depth or the layers' shapes, or enable PASS"
            )
        reachable = [[start]]
        for depth in range(self.depth):
            unreachable = [s for s in range(len(self.shapes)) if s not in reachable[depth]]
            legal[depth, unreachable] = False
            reachable.append(sorted({int(s) for s in follow[depth][legal[depth]]}))
        return legal, follow, reachable


class Route:
    """The lanes of one deal on their way through a network.

    Args:
        network: the network.
        depth: number of decisions taken so far.
        v: float32 [B, *shape] where every lane has the same shape, else flattened and zero-padded [B, F].
        shape: int64 [B], the index of each lane's shape; None where it is the same for all.
    """

    def __init__(self, network: RoutedNetwork, depth: int, v: Tensor, shape: Tensor | None) -> None:
        self.network = network
        self.depth = depth
        self.v = v
        self.shape = shape

    def observe(self, task: Tensor, *, attached: bool = False) -> State:
        """The state at this depth, detached from the graph unless ``attached``."""
        network, legal = self.network, self.network.legal[self.depth]
        if self.shape is None:
            legal = legal[network.reachable[self.depth][0]].expand(len(task), -1)
        else:
            legal = legal[self.shape]
        return State(self._padded(self.v if attached else self.v.detach()), task, self.depth, legal)

    def apply(self, action: Tensor, *, playing: Tensor | None = None, gate: Tensor | None = None) -> Route:
        """Apply one block per lane, or PASS.

        Args:
            action: int64 [B], legal in every playing lane.
            playing: bool [B], the lanes that have not forfeited their route; the others keep their v. None: all.
            gate: float32 [B] of value 1, see :class:`~routing_env.types.Decision`.
        """
        network, depth = self.network, self.depth
        candidates = network.candidates(depth)
        everyone_takes_a_block = playing is None and network.pass_action is None
        shape = None
        if self.shape is None and len(candidates) == 1 and everyone_takes_a_block:
            v = network.bank(candidates[0])(self.v, action - network.offsets[candidates[0]])
        else:
            v = self._padded(self.v)
            for layer in candidates:
                bank, choice = network.bank(layer), action - network.offsets[layer]
                here = (choice >= 0) & (choice < len(bank))
                rows = (here if playing is None else here & playing).nonzero().squeeze(1)
                if len(rows):
                    inputs = v[rows, : prod(bank.in_shape)].unflatten(1, bank.in_shape)
                    v = v.index_copy(0, rows, self._padded(bank(inputs, choice[rows])))
            after = network.reachable[depth + 1]
            if len(after) == 1:
                uniform = network.shapes[after[0]]
                v = v[:, : prod(uniform)].unflatten(1, uniform)
            else:
                before = network.reachable[depth][0] if self.shape is None else self.shape
                shape = network.follow[depth][before, action]
                if playing is not None:
                    shape = shape.where(playing, after[0])
        if gate is not None:
            v = v * gate.view(-1, *[1] * (v.dim() - 1))
        return Route(network, depth + 1, v, shape)

    def _padded(self, v: Tensor) -> Tensor:
        """Flattened to [B, F], padded with zeros."""
        v = v.flatten(1)
        missing = self.network.features - v.shape[1]
        return F.pad(v, (0, missing)) if missing else v


def linear_layers(
    sizes: Sequence[int], blocks: int | Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
) -> list[list[nn.Module]]:
    """Routed fully connected layers.

    Args:
        sizes: widths before, between and after the layers: n + 1 for n layers.
        blocks: blocks per layer, one number for all layers or one for each.
        activation: after every layer but the last.
    """
    layers = len(sizes) - 1
    counts = [blocks] * layers if isinstance(blocks, int) else list(blocks)
    if len(counts) != layers:
        raise ValueError(f"{len(counts)} block counts for {layers} layers; give one number, or one for each layer")
    if min(counts) < 1:
        raise ValueError(f"block counts are {counts}; each must be at least 1")

    def block(layer: int) -> nn.Module:
        linear = nn.Linear(sizes[layer], sizes[layer + 1])
        return linear if layer == layers - 1 else nn.Sequential(linear, activation())

    return [[block(layer) for _ in range(count)] for layer, count in enumerate(counts)]


def mlp(
    input_shape: Sequence[int],
    outputs: int,
    blocks: int | Sequence[int],
    *,
    hidden: int = 64,
    layers: int = 3,
    recursive: bool = False,
    pass_action: bool = False,
    depth: int | None = None,
) -> RoutedNetwork:
    """Fully connected layers over the flattened sample, all of them routed; there is no trained stem.

    Args:
        input_shape: shape of one sample.
        outputs: O, width of the last layer.
        blocks: blocks per layer, one number for all layers or one for each.
        hidden: width between layers.
        layers: number of layers.
        recursive: see :class:`RoutedNetwork`.
        pass_action: see :class:`RoutedNetwork`.
        depth: see :class:`RoutedNetwork`.
    """
    sizes = [prod(input_shape), *[hidden] * (layers - 1), outputs]
    routed = linear_layers(sizes, blocks)
    return RoutedNetwork(nn.Flatten(), routed, input_shape, recursive=recursive, pass_action=pass_action, depth=depth)


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
    """
    if len(input_shape) not in (2, 3):
        raise ValueError(f"simple_convnet takes images; a sample has shape {tuple(input_shape)}: use mlp instead")
    channels = input_shape[0] if len(input_shape) == 3 else 1
    side = min(input_shape[-2:])
    stem = nn.Sequential() if len(input_shape) == 3 else nn.Sequential(nn.Unflatten(1, (1, input_shape[0])))
    for _ in range(4):
        stem += nn.Sequential(nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters))
        if side >= 2:
            stem.append(nn.MaxPool2d(2))
            side //= 2
        stem.append(nn.ReLU())  # behind the pooling, which it commutes with: a quarter of the work
        channels = filters
    stem.append(nn.Flatten())
    stem.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # quicker convolutions, same numbers
    width = prod(output_shape(stem, input_shape, "the stem"))
    routed = linear_layers([width, *[hidden] * (layers - 1), outputs], blocks)
    return RoutedNetwork(stem, routed, input_shape, recursive=recursive, pass_action=pass_action, depth=depth)
