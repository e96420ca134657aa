"""The HTML report of one run: its learning curves beside those of its references, its tasks, and its replay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from routing_env.evaluations import Rows, measured_split
from routing_env.html import charts, page
from routing_env.html.replay import TrainingReplay, replay_of
from routing_env.names import counted
from routing_env.runs.directory import RunDirectory
from routing_env.runs.learners import GameLearner
from routing_env.runs.run import REFERENCES, Run


def replay_of_run(run: Run, rows: Rows) -> TrainingReplay | None:
    """The replay of a run of a router; None for a baseline, which has no routes.

    Args:
        run: As its checkpoint has it.
        rows: Its metrics.
    """
    if not isinstance(run.learner, GameLearner):
        return None
    samples, policies = (part.numpy() for part in run.learner.monitor.history())
    history = {"samples": samples, "policies": policies}
    return replay_of(rows, history, run.learner.game.spec, run.learner.data.task_names)


def save_run_page(run: Run, directory: RunDirectory) -> Path:
    """Write ``report.html`` into the folder of a trained run.

    Args:
        run: As its checkpoint has it.
        directory: Its folder.

    Raises:
        OSError: The file cannot be written.
    """
    rows = directory.read_metrics()
    router = run.settings.router
    runs = {router: rows}
    runs |= {name: other for name in REFERENCES if (other := RunDirectory(directory.references / name).read_metrics())}
    parts = [page.section("Learning curves", "", _learning_curves(runs))]
    if (replay := replay_of_run(run, rows)) is not None:
        parts.append(page.section("Replay of the training", "", replay.html()))
    parts.append(_tasks(run, rows))
    epochs, samples = counted(rows[-1]["epoch"], "epoch"), counted(rows[-1]["samples"], "training sample")
    scale = f"{epochs}, {samples}, seed {run.settings.game.seed}"
    return page.save_page(directory.path / "report.html", f"{router} on {run.ground}", scale, "\n".join(parts))


def _learning_curves(runs: Mapping[str, Rows]) -> str:
    """Accuracy (for regression: loss), balanced accuracy and entropy over the epochs."""
    names = list(runs)
    split = measured_split(next(iter(runs.values())))
    drawn: list[str] = []
    measures = {
        f"{split}_accuracy": (f"accuracy, {split} split", 100, " %"),
        f"{split}_balanced_accuracy": (f"balanced accuracy, {split} split", 100, " %"),
        f"{split}_loss": (f"loss, {split} split", 1, ""),
        "policy_entropy": ("policy entropy", 1, " nats"),
    }
    for key, (title, scale, unit) in measures.items():
        lines = {
            name: charts.Curve(
                [row["epoch"] for row in rows],
                scale * np.array([row[key] for row in rows], dtype=float),
                np.full(len(rows), np.nan),
            )
            for name, rows in runs.items()
            if all(row.get(key) is not None for row in rows)
        }
        if lines:
            axis = f"{title.split(',')[0]}{f' in{unit}' if unit else ''}"
            figure = charts.curves(lines, names, "epoch", axis, unit=unit)
            drawn.append(page.section(title.capitalize(), "", page.chart(figure), level=3))
    return page.charts(charts.line_styles(names), drawn)


def _tasks(run: Run, rows: Rows) -> str:
    """The accuracy of each task after the last epoch."""
    split = measured_split(rows)
    accuracies = rows[-1].get(f"{split}_task_accuracy")
    if accuracies is None:
        return ""
    lines = [
        [page.Cell(name, name), page.Cell(f"{100 * accuracy:.1f}", 100 * accuracy)]
        for name, accuracy in zip(run.learner.data.task_names, accuracies, strict=True)
    ]
    return page.section("Tasks", f"After the last epoch, {split} split.", page.table(["task", "accuracy, %"], lines))
