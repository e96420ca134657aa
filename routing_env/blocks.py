"""A set of blocks, one chosen per row of the batch.

The cost of a call follows the rows and the blocks that were chosen, not the blocks there are: rows are sorted by block
once, each chosen block is applied once to its rows, and a block that nobody chose is never touched. Its parameters
receive no gradient at all, which is what makes every optimiser leave them bitwise alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class BlockBank(nn.Module):
    """Blocks of one input and one output shape.

    Blocks may be any modules. Where all of them are ``nn.Linear``, or all are ``nn.Sequential(nn.Linear, activation)``
    with the same element-wise activation, float32 rows of a width in multiples of 4 go through the chosen ones as one
    grouped product, which spares the work per call and autograd's per block.

    Args:
        blocks: the K modules.
        in_shape: shape of one sample's representation before the block.

    Raises:
        ValueError: no blocks, a block that cannot take ``in_shape``, or blocks whose output shapes differ.
    """

    def __init__(self, blocks: Sequence[nn.Module], in_shape: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.in_shape = tuple(in_shape)
        self.out_shape = _common_output_shape(blocks, self.in_shape)
        grouped = len(self.in_shape) == 1 and self.in_shape[0] % _ALIGNED == 0
        self._linears = _as_linears(blocks) if grouped else None
        first = blocks[0]
        self._activation = first[1] if self._linears and isinstance(first, nn.Sequential) and len(first) == 2 else None

    def __len__(self) -> int:
        return len(self.blocks)

    def forward(self, v: Tensor, choice: Tensor) -> Tensor:
        """Apply ``blocks[choice[b]]`` to row b.

        Args:
            v: float [B, *in_shape].
            choice: int64 [B], each in [0, K).

        Returns:
            float [B, *out_shape].
        """
        order = torch.argsort(choice, stable=True)
        counts = torch.bincount(choice, minlength=len(self)).tolist()
        chosen = [k for k, count in enumerate(counts) if count]
        rows = [counts[k] for k in chosen]
        if self._linears is None or v.dtype != torch.float32:
            parts = v[order].split(rows)
            output = torch.cat([self.blocks[k](part) for k, part in zip(chosen, parts, strict=True)])
            return output[torch.argsort(order)]
        linears = [self._linears[k] for k in chosen]
        weights = [linear["weight"] for linear in linears]
        biases = [linear["bias"] for linear in linears if linear["bias"] is not None]
        groups = torch.tensor(rows, device=v.device)
        output = cast(Tensor, _GroupedLinear.apply(v, order, groups, *weights, *biases))
        return output if self._activation is None else self._activation(output)


class _GroupedLinear(torch.autograd.Function):
    """One linear map per group of rows, as a single node of the graph and a single product each way.

    ``order`` sorts the rows by group, ``groups`` counts each group's; parameters are the groups' weights, then biases.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, order: Tensor, groups: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(groups)], parameters[len(groups) :]
        width = len(weights[0])
        ends, group = groups.cumsum(0, dtype=torch.int32), torch.repeat_interleave(groups, output_size=len(v))
        inputs, weight = v.index_select(0, order), _padded(torch.stack(weights), 1)
        output = F.grouped_mm(inputs, weight.transpose(1, 2), offs=ends)[:, :width]
        if biases:
            output = output + torch.stack(biases).index_select(0, group)
        ctx.save_for_backward(inputs, weight, order, ends, group)
        ctx.biased = bool(biases)
        return v.new_empty(len(v), width).index_copy_(0, order, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs, weight, order, ends, group = ctx.saved_tensors
        grad = grad_outputs[0].index_select(0, order)
        width, padded = grad.shape[1], _padded(grad, 1)
        grad_v = None
        if ctx.needs_input_grad[0]:
            grad_v = torch.empty_like(inputs).index_copy_(0, order, F.grouped_mm(padded, weight, offs=ends))
        grad_weight = F.grouped_mm(padded.t(), inputs, offs=ends)[:, :width]
        grad_bias = grad.new_zeros(len(ends), width).index_add_(0, group, grad).unbind() if ctx.biased else ()
        return (grad_v, None, None, *grad_weight.unbind(), *grad_bias)


_ALIGNED = 4
"""Widths that the grouped product takes are multiples of this: of 16 bytes."""


def _padded(tensor: Tensor, dimension: int) -> Tensor:
    """Zeros behind a dimension, up to the next width that the grouped product takes."""
    missing = -tensor.shape[dimension] % _ALIGNED
    return F.pad(tensor, (0, 0) * (tensor.dim() - 1 - dimension) + (0, missing)) if missing else tensor


_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.ELU, nn.LeakyReLU)


def _as_linears(blocks: Sequence[nn.Module]) -> list[dict[str, nn.Parameter | None]] | None:
    """The linear maps of blocks that are all ``Linear`` or all ``Linear, activation``; None where they are not.

    Of each map the dictionary that holds its weight and bias: a module's own look-up takes seven times as long.
    """
    linears: list[dict[str, nn.Parameter | None]] = []
    kinds: set[tuple[bool, str]] = set()
    for block in blocks:
        linear, *rest = list(block) if type(block) is nn.Sequential and len(block) else [block]
        if type(linear) is not nn.Linear or len(rest) > 1 or (rest and type(rest[0]) not in _ELEMENTWISE):
            return None
        linears.append(linear._parameters)  # pyright: ignore[reportPrivateUsage]
        # A module with its default attributes is described completely by its repr.
        kinds.add((cast(Tensor | None, linear.bias) is None, repr(rest)))
    return linears if len(kinds) == 1 else None


def _common_output_shape(blocks: Sequence[nn.Module], in_shape: tuple[int, ...]) -> tuple[int, ...]:
    if not blocks:
        raise ValueError("a layer needs at least one block; got none")
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
    training = [part for part in module.modules() if part.training]
    parameter = next(module.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            output = module.eval()(parameter.new_zeros(2, *in_shape))
        return tuple(output.shape[1:])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{name} ({module}) does not take samples of shape {tuple(in_shape)}: {error}") from error
    finally:
        for part in training:
            part.training = True
