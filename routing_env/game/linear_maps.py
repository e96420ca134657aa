"""Several linear maps, one of them for each row, as a single node of autograd's graph.

``routing-env compile`` compiles linear_maps.cpp, which does on the CPU what ``_ChosenMaps`` does here, in less time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from routing_env.game.compiled_maps import compiled_maps

_compiled = compiled_maps()


def chosen_maps(v: Tensor, order: Tensor, rows: list[int], parameters: list[Tensor]) -> Tensor:
    """One linear map per group of rows; the work follows the groups.

    Args:
        v: float [B, F].
        order: int64 [B], sorts the rows by group.
        rows: number of rows of each group.
        parameters: the groups' weights [O, F], then their biases [O] if they have any.

    Returns:
        float [B, O].
    """
    if _compiled is not None and v.is_cpu:
        return _compiled(v, order, rows, parameters)
    return cast(Tensor, _ChosenMaps.apply(v, order, rows, *parameters))


def all_maps(v: Tensor, choice: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """All K linear maps for every row, of which each row keeps the one that it chose.

    The work follows K, and is the same whatever is chosen, so that nothing waits for a device to tell.

    Args:
        v: float [B, F].
        choice: int64 [B].
        parameters: the weights [O, F] of all maps, then their biases [O] if they have any.

    Returns:
        float [B, O].
    """
    return cast(Tensor, _AllMaps.apply(v, choice, *parameters))


class _ChosenMaps(torch.autograd.Function):
    """One linear map per group of rows, as a single node of autograd's graph.

    ``order`` sorts the rows by group, ``rows`` counts each group; parameters are the groups' weights, then biases.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, order: Tensor, rows: list[int], *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(rows)], parameters[len(rows) :]
        inputs = v.index_select(0, order)
        ctx.save_for_backward(inputs, order, *weights)
        ctx.rows, ctx.biased = rows, bool(biases)
        groups = zip(inputs.split_with_sizes(rows), weights, biases or [None] * len(rows), strict=True)
        output = torch.cat([F.linear(part, weight, bias) for part, weight, bias in groups])
        return torch.empty_like(output).index_copy_(0, order, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs, order, *weights = ctx.saved_tensors
        grad = grad_outputs[0].index_select(0, order)
        grads = grad.split_with_sizes(ctx.rows)
        grad_v = None
        if ctx.needs_input_grad[0]:
            grad_inputs = torch.cat([part @ weight for part, weight in zip(grads, weights, strict=True)])
            grad_v = torch.empty_like(inputs).index_copy_(0, order, grad_inputs)
        columns = zip(grad.t().split_with_sizes(ctx.rows, 1), inputs.split_with_sizes(ctx.rows), strict=True)
        grad_weights = [column @ part for column, part in columns]
        grad_biases = [part.sum(0) for part in grads] if ctx.biased else []
        return (grad_v, None, None, *grad_weights, *grad_biases)


class _AllMaps(torch.autograd.Function):
    """``choice`` is int64 [B]; parameters are the K weights [O, F], then as many biases [O], or none."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, choice: Tensor, *parameters: Tensor) -> Tensor:
        biased = parameters[0].dim() == parameters[-1].dim() + 1
        maps = len(parameters) // (2 if biased else 1)
        weights = torch.stack(parameters[:maps])  # [K, O, F]
        every = v @ weights.flatten(0, 1).t()
        index = choice.view(-1, 1, 1).expand(-1, 1, weights.shape[1])
        output = every.unflatten(1, weights.shape[:2]).gather(1, index).squeeze(1)
        ctx.save_for_backward(v, index, weights)
        ctx.biased = biased
        return output + torch.stack(parameters[maps:])[choice] if biased else output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        v, index, weights = ctx.saved_tensors
        maps, outputs, _ = weights.shape
        grad = grad_outputs[0].new_zeros(len(v), maps, outputs).scatter_(1, index, grad_outputs[0].unsqueeze(1))
        every = grad.flatten(1)
        grad_v = every @ weights.flatten(0, 1) if ctx.needs_input_grad[0] else None
        grad_weights = (every.t() @ v).unflatten(0, (maps, outputs)).unbind()
        grad_biases = grad.sum(0).unbind() if ctx.biased else ()
        return (grad_v, None, *grad_weights, *grad_biases)
