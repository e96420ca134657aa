"""Plans of little routed networks, and samples, for the tests of baselines."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from routing_env.baselines import Baseline, Plan

B = TypeVar("B", bound=Baseline)

TASKS, BLOCKS = 3, 4


def a_plan(*widths: int, tasks: int = TASKS) -> Plan:
    widths = widths or (5, 7, 6, 2)
    block = sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))
    return Plan(nn.Flatten(), widths, tasks, BLOCKS, hidden=6, parameters=BLOCKS * block)


def lanes(width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(11, width, generator=generator), torch.randint(TASKS, (11,), generator=generator)


def restarted(baseline: B) -> B:
    """Every parameter away from its start, so that no weight hides."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in baseline.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return baseline


def apply(layer: nn.Module, number: int, v: Tensor) -> Tensor:
    """One of a layer's parallel maps on one sample."""
    return v @ layer.weight[number] + layer.bias[number, 0]  # pyright: ignore[reportIndexIssue, reportOperatorIssue]
