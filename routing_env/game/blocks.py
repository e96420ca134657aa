"""A set of blocks, one chosen per row of the batch.

The cost of a call follows the rows and the blocks that were chosen, not the blocks there are: rows are sorted by block
once, each chosen block is applied once to its rows, and a block that nobody chose is never touched. Its parameters
receive no gradient at all, which is what makes every optimiser leave them bitwise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from routing_env.game.linear_maps import all_maps, chosen_maps

Representation = Any
"""A tensor whose first axis are the lanes, or a tuple of representations, such as the input and the state of a cell."""


def tensors_of(v: Representation) -> list[Tensor]:
    """The tensors of a representation."""
    return [v] if isinstance(v, Tensor) else [tensor for part in v for tensor in tensors_of(part)]


def map_tensors(function: Callable[..., Tensor], v: Representation, *others: Representation) -> Representation:
    """A function of each tensor of representations of one form."""
    if isinstance(v, Tensor):
        return function(v, *others)
    return tuple(map_tensors(function, *parts) for parts in zip(v, *others, strict=True))


def in_rows(v: Representation, rows: Tensor) -> Representation:
    """Some rows, int64 [n], of a representation."""
    return map_tensors(lambda part: part.index_select(0, rows), v)


class BlockBank(nn.Module):
    """Blocks with the same form of input and of output.

    Blocks may be any modules. If all of them are ``nn.Linear``, or all are ``nn.Sequential(nn.Linear, activation)``
    with the same element-wise activation, they take a path that saves autograd's work per block, except while a chosen
    block has hooks, is reparametrised, or has been replaced.

    Blocks of several arguments take a tuple as ``v``, such as ``(x, (h, c))`` for ``nn.LSTMCell``.

    Args:
        blocks: the K modules.
        in_shape: shape of one sample's representation before the block, if the blocks are to be tried on it.

    Attributes:
        at_once: whether all linear blocks are applied to all rows, each of which keeps the output of its own block.
            That costs K times the products, but the host need not wait for a device to learn which blocks were chosen.
            Blocks that nobody chose then get gradients of zeros rather than none.
        chosen: bool [K], the blocks chosen in calls with ``at_once`` and gradients since it was set to None.

    Raises:
        ValueError: no blocks, a block that cannot take ``in_shape``, or blocks whose output shapes differ.
    """

    def __init__(self, blocks: Iterable[nn.Module], in_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        blocks = list(blocks)
        if not blocks:
            raise ValueError("a layer needs at least one block; got none")
        self.blocks = nn.ModuleList(blocks)
        self.at_once = False
        self.chosen: Tensor | None = None
        self.in_shape = () if in_shape is None else tuple(in_shape)
        self.out_shape = () if in_shape is None else _common_output_shape(blocks, self.in_shape)
        self._linears = _as_linears(blocks)
        self._has_batch_norm = any(isinstance(part, _BatchNorm) for part in self.modules())
        first = blocks[0]
        self._activation = first[1] if self._linears and isinstance(first, nn.Sequential) and len(first) == 2 else None

    def __len__(self) -> int:
        return len(self.blocks)

    def forward(self, v: Representation, choice: Tensor) -> Representation:
        """Apply ``blocks[choice[b]]`` to row b.

        Args:
            v: float [B, *in_shape], or a tuple of arguments.
            choice: int64 [B], each in [0, K). With ``at_once`` a row may choose another number, and gets the output of
                some block, which must not be used.

        Returns:
            float [B, *out_shape], or what the blocks return.
        """
        if self.at_once and (linears := self._linear_maps(list(range(len(self))), v)) is not None:
            self._note(choice)
            return self._activated(all_maps(v, choice.clamp(0, len(self) - 1), _weights_and_biases(linears)))
        order = torch.argsort(choice, stable=True)
        counts = torch.bincount(choice, minlength=len(self)).tolist()
        chosen = [k for k, count in enumerate(counts) if count]
        rows = [counts[k] for k in chosen]
        linears = self._linear_maps(chosen, v)
        if linears is None:
            if len(chosen) == 1:
                return self._apply_block(chosen[0], v)
            parts = [in_rows(v, lanes) for lanes in order.split(rows)]
            outputs = [self._apply_block(k, part) for k, part in zip(chosen, parts, strict=True)]
            back = torch.argsort(order)
            return map_tensors(lambda *tensors: torch.cat(tensors)[back], *outputs)
        return self._activated(chosen_maps(v, order, rows, _weights_and_biases(linears)))

    @property
    def is_linear(self) -> bool:
        """Whether all blocks were linear maps, with or without an activation, when the bank was built."""
        return self._linears is not None

    def _note(self, choice: Tensor) -> None:
        if torch.is_grad_enabled():
            blocks = torch.arange(len(self), device=choice.device)
            chosen = (choice[:, None] == blocks).any(0)
            self.chosen = chosen if self.chosen is None else self.chosen | chosen

    def _activated(self, output: Tensor) -> Tensor:
        return output if self._activation is None else self._activation(output)

    def blank(self, v: Representation) -> Representation:
        """Zeros of the form that the blocks return for all rows of ``v``; the state of the blocks is left alone."""
        two = map_tensors(lambda part: part.new_zeros(2, *part.shape[1:]), v)
        lanes = len(tensors_of(v)[0])
        with tried(self.blocks[0]) as block:
            return map_tensors(lambda part: part.new_zeros(lanes, *part.shape[1:]), _called(block, two))

    def _apply_block(self, k: int, rows: Representation) -> Representation:
        """Apply one block to the rows that chose it."""
        if not self._has_batch_norm or len(tensors_of(rows)[0]) > 1:
            return _called(self.blocks[k], rows)
        with _running_statistics(self.blocks[k]):
            return _called(self.blocks[k], rows)

    def _linear_maps(self, chosen: list[int], v: Representation) -> list[_Parameters] | None:
        """The parameters of the chosen blocks, where they are still the linear maps that they were; None otherwise."""
        if self._linears is None or not isinstance(v, Tensor) or v.dim() != 2:
            return None
        if torch.is_autocast_enabled(v.device.type):
            return None
        maps: list[_Parameters] = []
        blocks = self.blocks._modules  # pyright: ignore[reportPrivateUsage]
        for k in chosen:
            name, block, parameters, hooks = self._linears[k]
            if blocks[name] is not block or any(hooks) or "weight" not in parameters or "bias" not in parameters:
                return None
            maps.append(parameters)
        return maps


@contextmanager
def _running_statistics(block: nn.Module) -> Generator[None]:
    """Inside, batch norms that train and are given one value per channel normalise as in evaluation mode."""

    def evaluate_if_single(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        norm.training = args[0].numel() > args[0].shape[1]

    training = [part for part in block.modules() if isinstance(part, _BatchNorm) and part.training]
    handles = [norm.register_forward_pre_hook(evaluate_if_single) for norm in training]
    try:
        yield
    finally:
        for norm, handle in zip(training, handles, strict=True):
            handle.remove()
            norm.training = True


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.ELU, nn.LeakyReLU)


_Parameters = dict[str, nn.Parameter | None]
"""The dictionary that holds a module's weight and bias: a module's own look-up takes seven times as long."""

_Linear = tuple[str, nn.Module, _Parameters, tuple[dict[int, Any], ...]]
"""A block that is a linear map: its name in the list, itself, its parameters, and what holds the hooks of its parts."""


def _weights_and_biases(linears: Sequence[_Parameters]) -> list[Tensor]:
    """The weights, and behind them the biases where there are any."""
    return [one for name in ("weight", "bias") for linear in linears if (one := linear[name]) is not None]


def _as_linears(blocks: Sequence[nn.Module]) -> list[_Linear] | None:
    """Blocks that are all ``Linear`` or all ``Linear, activation``; None where they are not."""
    linears: list[_Linear] = []
    kinds: set[tuple[bool, str]] = set()
    for k, block in enumerate(blocks):
        linear, *rest = list(block) if type(block) is nn.Sequential and len(block) else [block]
        if type(linear) is not nn.Linear or len(rest) > 1 or (rest and type(rest[0]) not in _ELEMENTWISE):
            return None
        hooks = tuple(getattr(part, kind) for part in (block, linear, *rest) for kind in _HOOKS)
        linears.append((str(k), block, linear._parameters, hooks))  # pyright: ignore[reportPrivateUsage]
        # A module with its default attributes is described completely by its repr.
        kinds.add((cast(Tensor | None, linear.bias) is None, repr(rest)))
    return linears if len(kinds) == 1 else None


def _called(block: nn.Module, v: Representation) -> Representation:
    return block(*v) if isinstance(v, tuple) else block(v)


@contextmanager
def tried(module: nn.Module) -> Generator[nn.Module]:
    """A module in evaluation mode and without gradients; its mode is restored."""
    training = [part for part in module.modules() if part.training]
    try:
        with torch.no_grad():
            yield module.eval()
    finally:
        for part in training:
            part.training = True


def _common_output_shape(blocks: Sequence[nn.Module], in_shape: tuple[int, ...]) -> tuple[int, ...]:
    shapes = [output_shape(block, in_shape, f"block {k}") for k, block in enumerate(blocks)]
    if len(set(shapes)) > 1:
        described = ", ".join(f"block {k}: {shape}" for k, shape in enumerate(shapes))
        raise ValueError(f"the blocks of one layer must have one output shape; got {described}")
    return shapes[0]


def output_shape(module: nn.Module, in_shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Shape of one sample behind a module, found by trying it on two samples of zeros; its state is left alone.

    Args:
        module: to be tried, in evaluation mode.
        in_shape: of one sample.
        name: of the module, for the error.

    Raises:
        ValueError: the module does not take the samples.
    """
    parameter = next(module.parameters(), torch.empty(0))
    try:
        with tried(module):
            return tuple(module(parameter.new_zeros(2, *in_shape)).shape[1:])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{name} ({module}) does not take samples of shape {tuple(in_shape)}: {error}") from error
