"""Figures of tasks that arrive: the accuracy matrix, and accuracy over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from routing_env.drawing.style import line_colour, plain, shown
from routing_env.evaluations import Rows, measured_split


def accuracy_matrix(
    matrix: NDArray[np.floating[Any]], names: Sequence[str], arrival: NDArray[np.int64], subject: str
) -> Figure:
    """Draw the accuracy on every task before training and after each stage; a frame marks the stage of its arrival.

    Args:
        matrix: float [S + 1, T], in [0, 1].
        names: Names of the T tasks.
        arrival: int64 [T], the stage at which each task arrives, from 1.
        subject: What was trained, for the title.
    """
    stages, tasks = matrix.shape
    figure = Figure(figsize=(2.6 + 0.55 * tasks, 2.6 + 0.42 * stages), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * matrix, cmap="viridis", aspect="auto", vmin=100 * float(np.min(matrix)), vmax=100)
    middle = (100 * float(np.min(matrix)) + 100) / 2
    for stage in range(stages):
        for task in range(tasks):
            value = 100 * matrix[stage, task]
            colour = "white" if value < middle else "black"
            axes.text(task, stage, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    for task in range(tasks):
        frame = Rectangle(
            (task - 0.5, arrival[task] - 0.5), 1, 1, fill=False, edgecolor="C3", linewidth=1.8, clip_on=False
        )
        axes.add_patch(frame)
    axes.set_xticks(range(tasks), [shown(name, 24) for name in names], rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(stages), ["untrained", *(f"after stage {stage}" for stage in range(1, stages))], fontsize=8)
    axes.set_title(f"Test accuracy in %, framed where a task arrives: {shown(subject)}", loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="%", fraction=0.03)
    return figure


def arrival_curve(rows: Rows, references: Mapping[str, Rows], arrival: NDArray[np.int64], subject: str) -> Figure:
    """Draw the mean test accuracy of the tasks of each stage over the training samples.

    Args:
        rows: Metrics of the run, one per epoch, with ``test_task_accuracy`` or that of validation.
        references: Metrics of routers to compare with on the same stages, by their names; drawn dashed and dotted, some
            may be empty.
        arrival: int64 [T], the stage at which each task arrives, from 1.
        subject: What was trained, for the title.
    """
    split = measured_split(rows)
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    styles = zip(references.items(), cycle(("--", "-.")), strict=False)
    others = [(runs, style, 0.45, f"{name}: ") for (name, runs), style in styles]
    for runs, style, alpha, prefix in ((rows, "-", 1.0, ""), *others):
        for stage in range(1, int(arrival.max()) + 1):
            accuracies = [100 * np.array(row[f"{split}_task_accuracy"])[arrival == stage].mean() for row in runs]
            if runs:
                label = f"{prefix}tasks of stage {stage}"
                samples = [row["samples"] for row in runs]
                axes.plot(
                    samples, accuracies, style, alpha=alpha, color=line_colour(stage - 1), label=label, marker="."
                )
    for before, row in pairwise(rows):
        if row["stage"] > before["stage"]:
            axes.axvline(before["samples"], color="grey", lw=0.8, ls=":")
    axes.set_ylabel(f"{split} accuracy in %")
    axes.set_xlabel("training samples; dotted where tasks arrive")
    axes.set_title(f"Tasks that arrive: {shown(subject)}", loc="left")
    axes.legend(frameon=False, fontsize=8)
    plain(axes)
    return figure
