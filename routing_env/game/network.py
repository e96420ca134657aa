"""The routed network: a stem, layers of blocks, and which actions are legal where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.game.blocks import BlockBank, output_shape
from routing_env.game.choices import Choice
from routing_env.game.dropout import with_dropout
from routing_env.game.routed_model import RoutedModel, Walk
from routing_env.game.settings import Settings, check
from routing_env.types import GameSpec


class RoutedNetwork(RoutedModel):
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
        given = {"recursive": recursive, "pass_action": pass_action}
        check(given if depth is None else given | {"depth": depth}, Settings)
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
        if len(shape) != 1:
            raise ValueError(f"the last layer must give one vector per sample; it gives {shape}")
        self.output_shape = shape

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

    def spec(
        self, tasks: int, device: torch.device | None = None, input_shape: Sequence[int] | None = None
    ) -> GameSpec:
        """What a router for this network needs to know; here it follows from the layers, without a trial."""
        device = device or self.legal.device
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

    def encode(self, x: Tensor) -> Tensor:
        """The stem's output."""
        return self.stem(x)

    def route(self, x: Tensor, task: Tensor) -> Walk:
        """One decision per depth.

        Args:
            x: the stem's output, float32 [B, ...].
            task: int64 [B].

        Yields:
            Decisions.

        Returns:
            The output float32 [B, O].
        """
        v, shape = x, None  # shape: of each lane, int64 [B]; None where it is the same for all
        for depth in range(self.depth):
            legal, candidates, after = self.legal[depth], self.candidates(depth), self.reachable[depth + 1]
            legal = legal[self.reachable[depth][0]].expand(len(task), -1) if shape is None else legal[shape]
            if shape is None and len(candidates) == 1 and self.pass_action is None:
                bank, first = self.bank(candidates[0]), self.offsets[candidates[0]]
                v = yield Choice(_Numbered(bank, first) if first else bank, v, legal)
                continue
            padded, banks = self.padded(v), _Candidates(self, depth)
            if len(after) == 1:
                padded = yield Choice(banks, padded, legal)
                v, shape = self.narrowed(padded, after[0]), None
            else:
                before = torch.full_like(task, self.reachable[depth][0]) if shape is None else shape
                v, shape = yield Choice(banks, (padded, before), legal, observed=padded)
                if depth + 1 < self.depth:  # a lane that has lost its route may stand where nothing is legal
                    shape = shape.where(self.legal[depth + 1].any(1)[shape], after[0])
        return v

    @property
    def legality_follows_depth(self) -> bool:
        """Whether v has one shape at each depth, so that the legal actions are the same for all lanes."""
        return all(len(shapes) == 1 for shapes in self.reachable)

    def padded(self, v: Tensor) -> Tensor:
        """Flattened to [B, F], padded with zeros."""
        v = v.flatten(1)
        missing = self.features - v.shape[1]
        return F.pad(v, (0, missing)) if missing else v

    def narrowed(self, v: Tensor, shape: int) -> Tensor:
        """The first numbers of each row of [B, F] in the shape with that index."""
        return v[:, : prod(self.shapes[shape])].unflatten(1, self.shapes[shape])

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


class _Numbered:
    """A bank whose blocks are numbered from ``first`` on.

    Args:
        bank: the bank.
        first: the action that names its first block.
    """

    def __init__(self, bank: BlockBank, first: int) -> None:
        self._bank = bank
        self._first = first

    def __len__(self) -> int:
        return self._first + len(self._bank)

    def __call__(self, v: Tensor, choice: Tensor) -> Tensor:
        return self._bank(v, choice - self._first)

    def blank(self, v: Tensor) -> Tensor:
        """Zeros of the form that the blocks return."""
        return self._bank.blank(v)


class _Candidates:
    """All actions of a depth where several layers may apply, or PASS, to representations padded to one width.

    Args:
        network: the network.
        depth: number of decisions taken so far.
    """

    def __init__(self, network: RoutedNetwork, depth: int) -> None:
        self._network = network
        self._depth = depth

    def __len__(self) -> int:
        return self._network.actions

    def __call__(self, v: Tensor | tuple[Tensor, Tensor], choice: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the actions to v float32 [B, F], or to v and the indices of the lanes' shapes."""
        network, depth = self._network, self._depth
        if not isinstance(v, Tensor):
            after = network.follow[depth][v[1], choice]
            return cast(Tensor, self(v[0], choice)), after
        before = v
        for layer in network.candidates(depth):
            bank, block = network.bank(layer), choice - network.offsets[layer]
            own = (block >= 0) & (block < len(bank))
            if bank.at_once:
                inputs = before[:, : prod(bank.in_shape)].unflatten(1, bank.in_shape)
                v = torch.where(own[:, None], network.padded(bank(inputs, block)), v)
            elif len(rows := own.nonzero().squeeze(1)):
                inputs = before[rows, : prod(bank.in_shape)].unflatten(1, bank.in_shape)
                v = v.index_copy(0, rows, network.padded(bank(inputs, block[rows])))
        return v

    def blank(self, v: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """As it is, because the form stays."""
        return v


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
    dropout: float = 0.0,
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
        dropout: share of the sample's features, in [0, 1), that is dropped in training.
    """
    check({"hidden": hidden, "layers": layers}, Settings)
    sizes = [prod(input_shape), *[hidden] * (layers - 1), outputs]
    routed = linear_layers(sizes, blocks)
    stem = with_dropout(nn.Flatten(), dropout)
    return RoutedNetwork(stem, routed, input_shape, recursive=recursive, pass_action=pass_action, depth=depth)
