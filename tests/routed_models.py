"""Routed models of different kinds for tests, and a plain way through them, one lane at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from routing_env.data import MultiTaskData
from routing_env.game.blocks import BlockBank
from routing_env.game.choices import Choice
from routing_env.game.routed_model import RoutedModel, Walk

WIDTH = 4
KINDS = ("linear", "relu", "residual", "norm", "branch", "cell", "single", "pass", "until", "convolution", "legal")


def linears(blocks: int, inputs: int, outputs: int) -> BlockBank:
    return BlockBank(nn.Linear(inputs, outputs) for _ in range(blocks))


class Mixed(RoutedModel):
    """A route through parts of any kinds.

    Args:
        inputs: features of a sample.
        outputs: of the network.
        kinds: of the parts, one after the other.
        blocks: of every bank.
        most: decisions; None where they do not depend on the data.
    """

    def __init__(
        self, inputs: int, outputs: int, kinds: Sequence[str], blocks: int = 3, most: int | None = None
    ) -> None:
        super().__init__()
        self.kinds = list(kinds)
        self.stem = nn.Linear(inputs, WIDTH)
        self.parts = nn.ModuleList()
        for kind in kinds:
            if kind == "norm":
                self.parts.append(nn.LayerNorm(WIDTH))
            elif kind == "cell":
                self.parts.append(BlockBank(nn.LSTMCell(WIDTH, WIDTH) for _ in range(blocks)))
            elif kind == "convolution":
                self.parts.append(BlockBank(nn.Conv1d(1, 2, 3) for _ in range(blocks)))
            elif kind == "relu":
                self.parts.append(BlockBank(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(blocks)))
            else:
                self.parts.append(linears(1 if kind == "single" else blocks, WIDTH, WIDTH))
        self.head = linears(2, WIDTH, outputs)
        self.max_depth = most

    def route(self, x: Tensor, task: Tensor) -> Walk:
        """One part after the other."""
        v = self.stem(x)
        h = c = torch.zeros_like(v)
        for kind, part in zip(self.kinds, self.parts, strict=True):
            if kind == "norm":
                v = part(v)
                continue
            assert isinstance(part, BlockBank)
            if kind == "residual":
                v = v + (yield Choice(part, v))
            elif kind == "branch":
                v = yield Choice(part, v, active=task % 2 == 0)
            elif kind == "until":
                v = yield Choice(part, v, active=v[:, 0].detach() > 0)
            elif kind == "pass":
                v = yield Choice(part, v, may_pass=True)
            elif kind == "cell":
                h, c = yield Choice(part, (v, (h, c)), active=task != 1, otherwise=(h, c))
                v = v + h
            elif kind == "convolution":
                v = (yield Choice(part, v[:, None])).flatten(1)
            elif kind == "legal":
                v = yield Choice(
                    part, v, torch.arange(len(part), device=v.device) != (task % len(part))[:, None], observed=x
                )
            else:
                v = yield Choice(part, v)
        return (yield Choice(self.head, v))


class Transformer(RoutedModel):
    """A small transformer over four tokens; attention and MLP blocks are both chosen."""

    def __init__(self, inputs: int, outputs: int, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, 4 * width)
        self.width = width
        self.attention = BlockBank(Attention(width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mlp = BlockBank(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(3)
        )
        self.head = nn.Linear(width, outputs)

    def route(self, x: Tensor, task: Tensor) -> Walk:
        """Pre-norm attention and MLP, each with a residual connection."""
        v = self.embed(x.flatten(1)).unflatten(1, (4, self.width))
        v = v + (yield Choice(self.attention, self.norms[0](v)))
        v = v + (yield Choice(self.mlp, self.norms[1](v)))
        return self.head(v.mean(1))


class Attention(nn.Module):
    """Self-attention as a module of one argument."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, v: Tensor) -> Tensor:
        """Attend."""
        return self.attention(v, v, v, need_weights=False)[0]


class Unrolled(RoutedModel):
    """A cell per feature, for as long as features are left: routes end at different depths."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.cells = BlockBank(nn.GRUCell(1, 6) for _ in range(3))
        self.head = nn.Linear(6, outputs)
        self.max_depth = inputs

    def route(self, x: Tensor, task: Tensor) -> Walk:
        """Task t reads the first t + 1 features."""
        h = x.new_zeros(len(x), 6)
        for i in range(int(task.max()) + 1):
            h = yield Choice(self.cells, (x[:, i : i + 1], h), active=task >= i, otherwise=h)
        return self.head(h)


def mixed(data: MultiTaskData) -> RoutedModel:
    """Branches, tuple states, a PASS."""
    return Mixed(*sizes(data), ["relu", "branch", "cell", "residual", "pass"])


def ending(data: MultiTaskData) -> RoutedModel:
    """Lanes that end early."""
    return Unrolled(*sizes(data))


def transformer(data: MultiTaskData) -> RoutedModel:
    """Attention and MLP blocks."""
    return Transformer(*sizes(data))


def convolutional(data: MultiTaskData) -> RoutedModel:
    """Routed convolutions, and a bank of one block in between."""
    return Mixed(*sizes(data), ["convolution", "single", "linear"])


def masked(data: MultiTaskData) -> RoutedModel:
    """Which blocks are legal depends on the task, who takes part on the data."""
    return Mixed(*sizes(data), ["legal", "until", "norm", "linear"])


MODELS: dict[str, Callable[[MultiTaskData], RoutedModel]] = {
    "mixed": mixed,
    "ending": ending,
    "transformer": transformer,
    "convolutional": convolutional,
    "masked": masked,
}


def sizes(data: MultiTaskData) -> tuple[int, int]:
    return data.input_shape[0], data.outputs


def one_lane(model: RoutedModel, x: Tensor, task: Tensor, actions: Sequence[int]) -> Tensor:
    """The output of a lane alone, float [1, O]: blocks are called one by one, as one would without routing."""
    walk, left = model.route(x[None], task[None]), list(actions)
    try:
        choice = next(walk)
        while True:
            bank = choice.bank
            assert isinstance(bank, BlockBank)
            decides = len(bank) > 1 or choice.may_pass or choice.legal is not None
            action = left.pop(0) if decides else 0
            if (choice.active is None or bool(choice.active)) and action < len(bank):
                v = choice.v if isinstance(choice.v, tuple) else (choice.v,)
                choice = walk.send(bank.blocks[action](*v))
            else:
                choice = walk.send(choice.v if choice.otherwise is None else choice.otherwise)
    except StopIteration as end:
        return end.value
