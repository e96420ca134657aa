"""Plans of little routed networks, samples, and the check of a resumed run, for the tests of baselines."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from torch import Tensor, nn

from routing_env.baselines import Baseline, Plan
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run

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


def check_resumption(given: dict[str, Any], folder: Path) -> None:
    """A run on planted, cut after its first epoch and resumed, has the weights and metrics of an uninterrupted one."""
    quiet = Display(Console(quiet=True))
    given = {"data": "planted", "data_options": ("samples=60",), **given}
    whole = Run.of(given)
    whole.train(RunDirectory(folder), quiet)
    (folder / "cut").mkdir()
    cut = RunDirectory(folder / "cut")
    Run.of({**given, "epochs": 1}).train(cut, quiet)
    resumed = Run.of(given)
    resumed.train(cut, quiet)
    assert isinstance(whole.learner, BaselineLearner)
    assert isinstance(resumed.learner, BaselineLearner)
    for key, value in whole.learner.network.state_dict().items():
        assert torch.equal(value, resumed.learner.network.state_dict()[key]), key
    first, second = (RunDirectory(path).read_metrics() for path in (folder, folder / "cut"))
    assert [{**row, "seconds": 0} for row in first] == [{**row, "seconds": 0} for row in second]
