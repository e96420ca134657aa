"""What a person sees while a run goes on: a live line in a terminal, one line per epoch anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from routing_env.data import SplitName
from routing_env.names import printable

if TYPE_CHECKING:
    from routing_env.runs.run import Run

_REFRESH = 0.2
"""Seconds between two updates of the live line."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Samples per second."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} samples/s", style="cyan")


class Display:
    """Progress of one run after another.

    Args:
        console: to print on.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._since = 0.0

    def start(self, run: Run) -> Callable[[], None]:
        """Begin with a run.

        Returns:
            What to call after every deal.
        """
        self._run = run
        self._began, self._dealt = time.perf_counter(), run.learner.samples
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        total = run.epochs * run.learner.pass_size
        self._bar = self._progress.add_task(self._description(), total=total, completed=run.learner.samples)
        self._progress.start()
        self._shown = _shown(run.reported)
        named = ((name, 9) for name, _, _ in self._shown)
        columns = ("epoch", 8), ("samples", 10), ("samples/s", 10), ("left", 7), *named
        self.console.print(
            "".join(f"{name:>{width}}" for name, width in columns), style="dim", highlight=False, soft_wrap=True
        )
        return self._tick

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print one evaluation."""
        elapsed = time.perf_counter() - self._began
        rate = (row["samples"] - self._dealt) / elapsed
        left = (self._run.epochs / row["epoch"] - 1) * row["samples"] / rate if rate else 0.0
        counted = f"{row['epoch']:>4}/{self._run.epochs:<3}{row['samples']:>10,}{rate:>10,.0f}{clock(left):>7}"
        measured = "".join(f"{show(row[key]):>9}" for _, key, show in self._shown)
        self.console.print(counted + measured, highlight=False, soft_wrap=True)
        if self._progress is not None:
            self._progress.update(self._bar, completed=row["samples"], description=self._description())

    def stop(self) -> None:
        """End with a run."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _tick(self) -> None:
        now = time.perf_counter()
        if self._progress is not None and now - self._since > _REFRESH:
            self._since = now
            self._progress.update(self._bar, completed=self._run.learner.samples)

    def _description(self) -> str:
        router = escape(printable(self._run.settings.router))
        return f"{router} epoch {min(self._run.epoch + 1, self._run.epochs)}/{self._run.epochs}"


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f}"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _shown(split: SplitName) -> tuple[tuple[str, str, Callable[[float], str]], ...]:
    """The columns: name, key of the metrics, and how a value is written."""
    return (
        ("train %", "train_accuracy", _percent),
        ("test %" if split == "test" else "valid. %", f"{split}_accuracy", _percent),
        ("balanced", f"{split}_balanced_accuracy", _percent),
        ("loss", f"{split}_loss", _number),
        ("entropy", "policy_entropy", _number),
    )
