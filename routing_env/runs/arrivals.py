"""Runs in which tasks arrive in stages: a new agent learns few samples fast while the blocks learn slowly.

Where a stage begins, the router grows by the tasks that arrive, and from the second stage on the learning rate of the
blocks is multiplied by ``arrival_block_rate`` (paper, section 6). If that is less than 1, batch norm then keeps the
statistics of the first stage and normalises by them, since those of few samples of one task would not suit the others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text
from torch import nn

from routing_env.agents import make_router
from routing_env.baselines.base import PerTask
from routing_env.data import MultiTaskData, SplitName
from routing_env.data.arrivals import TaskSequence, arriving, parse_stages
from routing_env.evaluations import Evaluation, Rows, measured_split
from routing_env.names import parse_options, printable
from routing_env.runs.learners import BaselineLearner, Image, Learner, RouterLearner
from routing_env.runs.routers import spec_of_first
from routing_env.runs.settings import RunSettings, measured_splits
from routing_env.runs.transfer import (
    Matrix,
    arrival_stages,
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
)
from routing_env.types import Router, Tick

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS_OF_A_STAGE = 5
"""Measurements of each stage after the first; the first one is measured after every pass."""


@dataclass(frozen=True)
class StagePlan:
    """When which tasks arrive.

    Attributes:
        stages: number of tasks that arrive at each stage.
        epochs: passes of the first stage.
        pass_size: samples of such a pass.
        later: samples of every later stage.
    """

    stages: tuple[int, ...]
    epochs: int
    pass_size: int
    later: int

    @property
    def samples(self) -> list[int]:
        """Training samples dealt at each stage."""
        return [self.epochs * self.pass_size, *([self.later] * (len(self.stages) - 1))]

    def arrived(self, stage: int) -> int:
        """Number of tasks that have arrived at a stage, which counts from 0."""
        return sum(self.stages[: stage + 1])

    def stage_after(self, samples: int) -> int:
        """Stage, from 0, of the deal that follows this many samples."""
        return min(sum(samples >= end for end in accumulate(self.samples)), len(self.stages) - 1)

    def goal(self, epoch: int) -> int:
        """Training samples dealt when this many epochs are complete."""
        if epoch <= self.epochs:
            return epoch * self.pass_size
        return self.epochs * self.pass_size + (epoch - self.epochs) * self.later // EPOCHS_OF_A_STAGE


def later_epochs(arrivals: str) -> int:
    """Epochs after those of the first stage; 0 where no tasks arrive."""
    return EPOCHS_OF_A_STAGE * (len(parse_stages(arrivals)) - 1) if arrivals else 0


class StagedLearner(Learner):
    """What routers and baselines share where tasks arrive; inherit it before their own learner.

    Attributes:
        plan: when which tasks arrive.
        stage: the present one, from 0.
    """

    plan: StagePlan
    stage: int = 0
    _block_rate: float
    _untrained: dict[str, list[float]]

    def _begin(self, settings: RunSettings, plan: StagePlan) -> None:
        """Stand at the first stage of a plan."""
        self.plan = plan
        self.later_epochs = EPOCHS_OF_A_STAGE * (len(plan.stages) - 1)
        self._block_rate = settings.arrival_block_rate
        self._measured = measured_splits(settings)
        self._untrained = {}
        for module in self._network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                module.register_forward_pre_hook(self._hold_statistics)

    @property
    @abstractmethod
    def _network(self) -> nn.Module:
        """What is trained."""
        ...

    def goal(self, epoch: int) -> int:
        """As the plan says."""
        return self.plan.goal(epoch)

    def play(self, samples: int, tick: Tick) -> None:
        """Let tasks arrive where a stage begins, then train."""
        if not self.samples:
            self._untrained = {}
            for split in self._measured:
                if len(getattr(self.data, split)):
                    measured = by_task(self.evaluate(split))
                    self._untrained |= {f"untrained_{name}": values for name, values in measured.items()}
        stage = self.plan.stage_after(self.samples)
        if samples > 0 and stage > self.stage:  # a deal may have gone beyond the goal of this epoch
            self.arrive(stage)
        super().play(samples, tick)  # pyright: ignore[reportAbstractUsage]

    def arrive(self, stage: int) -> None:
        """Begin a stage, counted from 0."""
        self.stage = stage
        self.trainer.slow_down(self._block_rate if stage else 1.0)

    def measures(self) -> dict[str, Any]:
        """As without arrivals, with the stage from 1 and, at first, the accuracies before training."""
        row = super().measures() | {"stage": self.stage + 1} | self._untrained  # pyright: ignore[reportAbstractUsage]
        self._untrained = {}
        return row

    def routing(self, evaluation: Evaluation) -> dict[str, Any]:
        """As without arrivals, with the balanced accuracy of every task."""
        return super().routing(evaluation) | by_task(evaluation)

    def figures(self, rows: Rows, references: Mapping[str, Rows], subject: str) -> dict[str, Figure | Image]:
        """As without arrivals; the learning curve tells the tasks of each stage apart."""
        from routing_env.drawing.arrival_figures import accuracy_matrix, arrival_curve

        drawn = super().figures(rows, references, subject)
        matrix = matrix_of(rows, f"{measured_split(rows)}_task_accuracy")
        if matrix is not None:
            arrival = arrival_stages(self.plan.stages)
            drawn["learning_curve"] = arrival_curve(rows, references, arrival, subject)
            drawn["accuracy_matrix"] = accuracy_matrix(matrix, self.data.task_names, arrival, subject)
        return drawn

    def tables(self, rows: Rows) -> list[Table]:
        """The accuracy matrices of the measured split and what follows from them."""
        tables: list[Table] = []
        shown: Matrix | None = None
        split = measured_split(rows)
        for name in ("accuracy", "balanced accuracy"):
            matrix = matrix_of(rows, f"{split}_task_{name.replace(' ', '_')}")
            if matrix is not None and (shown is None or not np.allclose(matrix, shown)):
                title = f"{name} on the {split} split of {self.data.name}"
                tables.append(matrix_table(matrix, self.data.task_names, self.plan.stages, title))
                shown = matrix
        return tables

    def state_dict(self) -> dict[str, Any]:
        """As without arrivals, with the stage."""
        return {"stage": self.stage, **super().state_dict()}  # pyright: ignore[reportAbstractUsage]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: the state does not fit. Nothing has changed.
        """
        stage = state.get("stage")
        if type(stage) is not int or not 0 <= stage < len(self.plan.stages):
            raise ValueError(f"the stage is {stage!r} in the state; here it is from 0 to {len(self.plan.stages) - 1}")
        before, self.stage = self.stage, stage
        try:
            self._load({name: value for name, value in state.items() if name != "stage"})
        except ValueError:
            self.stage = before
            raise
        self.trainer.slow_down(self._block_rate if stage else 1.0)

    def _load(self, state: Mapping[str, Any]) -> None:
        """Restore everything but the stage, which stands already."""
        super().load_state_dict(state)  # pyright: ignore[reportAbstractUsage]

    def _hold_statistics(self, module: nn.Module, _: object) -> None:
        if self.stage and self._block_rate < 1:
            module.eval()


class StagedRouterLearner(StagedLearner, RouterLearner):
    """A router that grows, and its game.

    Args:
        settings: of the run.
        data: the tasks, on their device.
    """

    def __init__(self, settings: RunSettings, data: MultiTaskData) -> None:
        settings, data, plan = _staged(settings, data)
        self._run = settings
        RouterLearner.__init__(self, settings, data, tasks=plan.stages[0])
        self._begin(settings, plan)

    @property
    def _network(self) -> nn.Module:
        return self.game.network

    def arrive(self, stage: int) -> None:
        """Let the router grow by the tasks that arrive."""
        self._take(self.router.grow(spec_of_first(self.game.spec, self.plan.arrived(stage))))
        super().arrive(stage)

    def evaluate(self, split: SplitName) -> Evaluation:
        """The greedy router on all tasks of a split; it meets those that have not arrived with untrained agents."""
        everyone = self.router.grow(self.game.spec) if self.stage < len(self.plan.stages) - 1 else self.router
        return self.game.evaluate(everyone, split)

    def _load(self, state: Mapping[str, Any]) -> None:
        before, seed, options = self.router, self._run.game.seed, parse_options(self._run.router_options)
        first, now = (spec_of_first(self.game.spec, self.plan.arrived(stage)) for stage in (0, self.stage))
        self._take(make_router(self._run.router, first, seed=seed, **options).grow(now))
        try:
            super()._load(state)
        except ValueError:
            self._take(before)
            raise

    def _take(self, router: Router) -> None:
        self.router = router
        self.monitor.probability = getattr(router, "probability", None)


class StagedBaselineLearner(StagedLearner, BaselineLearner):
    """A baseline whose tasks arrive; what it has for each task by itself, such as heads, is not slowed down.

    Args:
        settings: of the run.
        data: the tasks, on their device.
    """

    def __init__(self, settings: RunSettings, data: MultiTaskData) -> None:
        settings, data, plan = _staged(settings, data)
        BaselineLearner.__init__(self, settings, data)
        self._begin(settings, plan)

    @property
    def _network(self) -> nn.Module:
        return self.network

    def apart(self) -> list[nn.Parameter]:
        """The parameters of modules that exist once for each task."""
        banks = [module for module in self.network.modules() if isinstance(module, PerTask)]
        return [parameter for bank in banks for parameter in bank.parameters()]


def _staged(settings: RunSettings, data: MultiTaskData) -> tuple[RunSettings, MultiTaskData, StagePlan]:
    """The settings with a dealer of stages, the tasks in the order of their arrival, and the plan.

    Raises:
        ValueError: A setting is out of range.
    """
    stages = parse_stages(settings.arrivals)
    if settings.arrival_samples < EPOCHS_OF_A_STAGE:
        raise ValueError(f"arrival_samples is {settings.arrival_samples}; it must be at least {EPOCHS_OF_A_STAGE}")
    if not settings.arrival_block_rate >= 0:
        raise ValueError(f"arrival_block_rate is {settings.arrival_block_rate}; it must be at least 0")
    seed = settings.game.seed
    data = arriving(data, stages, order=settings.arrival_order, shots=settings.shots, seed=seed)
    pass_size = int((data.train.task < stages[0]).sum())
    plan = StagePlan(stages, settings.epochs, pass_size, settings.arrival_samples)
    dealer = partial(TaskSequence, stages=stages, samples=plan.samples, replay=settings.replay)
    return replace(settings, game=replace(settings.game, dealer=dealer)), data, plan


def by_task(evaluation: Evaluation) -> dict[str, list[float]]:
    """Accuracy and balanced accuracy of every task, by their names in the metrics; nothing for regression."""
    if evaluation.accuracy.isnan().any():
        return {}
    return {
        f"{evaluation.split}_task_accuracy": evaluation.accuracy.tolist(),
        f"{evaluation.split}_task_balanced_accuracy": evaluation.balanced_accuracy.tolist(),
    }


def matrix_of(rows: Rows, key: str) -> Matrix | None:
    """The accuracy matrix R of a run, float64 [S + 1, T]: before training, and at the end of each stage.

    Args:
        rows: Metrics of the run.
        key: ``test_task_accuracy``, ``test_task_balanced_accuracy`` or ``validation_task_accuracy``.

    Returns:
        None where the metrics have no such accuracies.
    """
    last = {row["stage"]: row.get(key) for row in rows}
    found = [rows[0].get(f"untrained_{key}"), *last.values()]
    return None if any(row is None for row in found) else np.array(found, dtype=np.float64)


def matrix_table(matrix: Matrix, names: Sequence[str], stages: Sequence[int], title: str) -> Table:
    """The transposed accuracy matrix as a table, with the measures of transfer in its caption.

    Args:
        matrix: R, float64 [S + 1, T].
        names: names of the T tasks.
        stages: number of tasks that arrive at each stage.
        title: of the table.
    """
    arrival = arrival_stages(stages)
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold", footer_style="bold")
    table.show_footer = True
    table.add_column("task", footer="all tasks", overflow="fold", max_width=40)
    table.add_column("arrives", justify="right")
    for stage, row in enumerate(matrix):
        name = f"stage {stage}" if stage else "untrained"
        table.add_column(name, footer=f"{100 * row.mean():.1f}", justify="right")
    for task, name in enumerate(names):
        cells = [f"{100 * value:.1f}" for value in matrix[:, task]]
        for stage in range(1, arrival[task]):
            cells[stage] = f"[dim]{cells[stage]}[/dim]"
        table.add_row(Text(printable(name)), str(arrival[task]), *cells)
    measures = {
        "average accuracy": average_accuracy(matrix),
        "forgetting": forgetting(matrix, arrival),
        "backward transfer": backward_transfer(matrix, arrival),
        "forward transfer": forward_transfer(matrix, arrival),
    }
    said = [f"{name} {100 * value:.1f}" for name, value in measures.items() if value == value]
    table.caption = f"in %; {', '.join(said)}"
    table.caption_justify = "left"
    return table
