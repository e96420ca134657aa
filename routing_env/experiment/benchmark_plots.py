"""The benchmark's figures: learning curves with the paper's numbers, routing, cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from routing_env.experiment.benchmark import Job
from routing_env.experiment.paper import EPOCHS, TABLE_2
from routing_env.experiment.plots import save_figures as save_run_figures
from routing_env.experiment.results import RunDirectory
from routing_env.experiment.run import Run
from routing_env.experiment.statistics import mean_interval


def save_figures(jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Draw every arena's learning curves and how its routers route, and the cost where tasks are added."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    done = [job for job in jobs if job.epochs_done() >= job.epochs]
    for arena in dict.fromkeys(job.arena.name for job in done):
        own = [job for job in done if job.arena.name == arena]
        name = arena.replace(", ", "-").replace(" ", "-")
        paths.append(folder / f"{name}.png")
        learning_curves(own).savefig(paths[-1], dpi=130)
        routed = [job for job in own if "test_routes" in job.rows()[-1]]
        if routed:
            paths.append(folder / f"{name}-routing.png")
            routing(routed).savefig(paths[-1], dpi=130)
    if len({job.arena.game.get("tasks") for job in done}) > 1:
        paths.append(folder / "tasks.png")
        over_tasks(done).savefig(paths[-1], dpi=130)
    return paths


def learning_curves(jobs: Sequence[Job]) -> Figure:
    """Mean test accuracy of every entrant of one arena with its 95 % t-interval over seeds; crosses are the paper's."""
    arena = jobs[0].arena
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.subplots()
    printed = TABLE_2.get(arena.figure or "", {})
    for number, name in enumerate(dict.fromkeys(job.entrant.name for job in jobs)):
        own = [job for job in jobs if job.entrant.name == name]
        epochs = np.arange(1, own[0].epochs + 1)
        curves = [[row["test_accuracy"] for row in job.rows()[: len(epochs)]] for job in own]
        mean, half = mean_interval(100 * np.array(curves))
        color = f"C{number}" if number < 10 else f"{0.1 * (number % 10)}"
        axes.plot(epochs, mean, color=color, label=name, marker="." if len(epochs) == 1 else "")
        axes.fill_between(epochs, mean - half, np.minimum(mean + half, 100), color=color, alpha=0.15, lw=0)
        shown = [
            (epoch, value)
            for epoch, value in zip(EPOCHS, printed.get(name, ()), strict=False)
            if epoch <= own[0].epochs
        ]
        if shown:
            axes.plot(*zip(*shown, strict=True), color=color, marker="x", ls=":", alpha=0.7, label=f"{name}, the paper")
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy in %")
    axes.set_title(f"{arena.name}: {len({job.config.game.seed for job in jobs})} seeds, 95 % intervals", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def routing(jobs: Sequence[Job]) -> Figure:
    """How routers route over the epochs, means over seeds: entropy of the policy, blocks in use, tasks' blocks."""
    measures = {
        "policy_entropy": "policy entropy (nats)",
        "effective_blocks": "effective number of blocks",
        "mutual_information": "mutual information of task and block (nats)",
    }
    figure = Figure(figsize=(12.0, 3.8), layout="constrained")
    panels = figure.subplots(1, len(measures))
    for axes, (key, label) in zip(panels, measures.items(), strict=True):
        for name in dict.fromkeys(job.entrant.name for job in jobs):
            own = [job for job in jobs if job.entrant.name == name]
            curves = np.array([[row[key] for row in job.rows()[: own[0].epochs]] for job in own], dtype=float)
            axes.plot(np.arange(1, own[0].epochs + 1), curves.mean(0), label=name, marker=".")
        axes.set_xlabel("epoch")
        axes.set_title(label, fontsize=10, loc="left")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def policies(jobs: Sequence[Job]) -> list[Path]:
    """The paper's Figures 9, 10 and 11 of every router's first finished run, into that run's folder.

    Raises:
        FileNotFoundError: files of the data set are missing.
    """
    first = {(job.arena.name, job.entrant.name): job for job in reversed(jobs) if job.epochs_done() >= job.epochs}
    paths: list[Path] = []
    for job in reversed(list(first.values())):
        if "test_routes" in job.rows()[-1]:
            directory = RunDirectory(job.path)
            run = Run(job.config)
            run.restore(directory)
            paths.extend(save_run_figures(directory, run))
    return paths


def over_tasks(jobs: Sequence[Job]) -> Figure:
    """Accuracy (the paper's Figure 15) and seconds per epoch and task (Figure 13) as tasks and blocks are added."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(job.entrant.name for job in jobs):
        points: dict[int, list[tuple[float, float]]] = {}
        for job in jobs:
            tasks = job.arena.game.get("tasks")
            if job.entrant.name == name and tasks is not None:
                last = job.rows()[job.epochs - 1]
                cost = last["seconds"] / job.epochs / tasks
                points.setdefault(tasks, []).append((100 * last["test_accuracy"], cost))
        counts = sorted(points)
        means = np.array([np.mean(points[count], axis=0) for count in counts])
        left.plot(counts, means[:, 0], marker="o", label=name)
        right.plot(counts, means[:, 1], marker="o", label=name)
    left.set_ylabel("test accuracy in %")
    right.set_ylabel("seconds per epoch and task")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("tasks, with a block per task in each layer")
        _plain(axes)
    left.legend(frameon=False, fontsize=8)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
