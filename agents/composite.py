"""What routers that consist of other routers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from routing_env.types import Router, Trace


def sum_of_losses(
    routers: Sequence[Router], views: Callable[[Trace], Sequence[Trace]]
) -> Callable[[Trace], Tensor] | None:
    """The sum of the block losses of several routers; None if none of them has one.

    Args:
        routers: The parts of a router.
        views: From a deal to the view that each part has of it.
    """
    losses = [router.block_loss for router in routers]
    if not any(losses):
        return None

    def loss(trace: Trace) -> Tensor:
        pairs = zip(losses, views(trace), strict=True)
        return torch.stack([part_loss(view) for part_loss, view in pairs if part_loss is not None]).sum(0)

    return loss
