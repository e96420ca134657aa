"""What a person sees while a run goes on: a live line in a terminal, one line per epoch anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
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

from routing_env.types import Trace

if TYPE_CHECKING:
    from routing_env.experiment.run import Run

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

    def start(self, run: Run) -> Callable[[Trace], None]:
        """Begin with a run.

        Returns:
            An observer for its game.
        """
        self._name = run.config.router
        self._epochs = run.epochs
        total = run.epochs * run.game.dealer.pass_size
        done = run.game.samples
        progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        bar = progress.add_task(f"{self._name} epoch {run.epoch + 1}/{run.epochs}", total=total, completed=done, note="")
        progress.start()
        self._progress, self._bar = progress, bar
        self._since = time.perf_counter()
        self._began, self._began_at = self._since, done
        header = f"{'epoch':>9}{'samples':>11}{'samples/s':>11}{'left':>8}{'train':>9}{'test':>9}{'balanced':>10}{'entropy':>9}"
        self.console.print(f"[dim]{header}[/dim]", highlight=False)
        game = run.game

        def observe(trace: Trace) -> None:
            now = time.perf_counter()
            if now - self._since > _REFRESH:
                self._since = now
                progress.update(bar, completed=game.samples)

        return observe

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print one evaluation."""
        assert self._progress is not None
        elapsed = time.perf_counter() - self._began
        rate = (row["samples"] - self._began_at) / elapsed
        left = elapsed / (row["samples"] - self._began_at) * row["samples"] / row["epoch"] * (self._epochs - row["epoch"])
        line = (
            f"{row['epoch']:>5}/{self._epochs:<3}{row['samples']:>11,}{rate:>11,.0f}{_clock(left):>8}"
            f"{_percent(row['train_accuracy']):>9}{_percent(row['test_accuracy']):>9}"
            f"{_percent(row['test_balanced_accuracy']):>10}{row['policy_entropy']:>9.3f}"
        )
        self.console.print(line, highlight=False)
        self._progress.update(
            self._bar,
            completed=row["samples"],
            description=f"{self._name} epoch {min(row['epoch'] + 1, self._epochs)}/{self._epochs}",
            note=f"test {_percent(row['test_accuracy'])} %",
        )

    def stop(self) -> None:
        """End with a run."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
