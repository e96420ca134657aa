"""Figures of one training run: its learning curve, and its policy over time as in the paper's Figures 9 and 10.

Pure functions of arrays. Axes: N snapshots, T tasks, D depths, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from routing_env.drawing.style import legend_beside, plain, shown, spread, task_colours
from routing_env.evaluations import Rows, measured_split


def learning_curve(rows: Rows, references: Mapping[str, Rows], subject: str) -> Figure:
    """Draw accuracy per epoch (for regression: loss), and below it the entropy of the policy if there is one.

    Args:
        rows: Evaluations of the run, one per epoch.
        references: Evaluations of routers to compare with on the same data, by their names; drawn dashed and dotted,
            some may be empty.
        subject: What was trained, for the title.
    """
    routed = any(row["policy_entropy"] is not None for row in rows)
    figure = Figure(figsize=(7.5, 5.6), layout="constrained")
    panels = figure.subplots(1 + routed, 1, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + routed])[:, 0]
    upper = panels[0]
    split = measured_split(rows)
    regression = all(row[f"{split}_accuracy"] is None for row in rows)
    measures = (
        [(f"{split}_loss", f"{split} loss", "C0", "-"), ("train_loss", "training loss, exploring", "C0", ":")]
        if regression
        else [
            (f"{split}_accuracy", f"{split} accuracy", "C0", "-"),
            (f"{split}_balanced_accuracy", f"{split} balanced accuracy", "C2", "-"),
            ("train_accuracy", "training accuracy, exploring", "C0", ":"),
        ]
    )
    scale, marker = 1 if regression else 100, "." if len(rows) < 3 else ""
    if not regression and all(abs(row[f"{split}_balanced_accuracy"] - row[f"{split}_accuracy"]) < 1e-6 for row in rows):
        del measures[1]  # both curves coincide, and one would hide the other
    tested = [measure for measure in measures if measure[0].startswith(split)]
    styles = zip(references.items(), cycle(("--", "-.")), strict=False)
    others = [(runs, style, 0.45, f"{name}: ") for (name, runs), style in styles]
    for runs, style, alpha, prefix in ((rows, None, 1.0, ""), *others):
        for key, label, color, line in measures if style is None else tested:
            if runs:
                values = [np.nan if row[key] is None else scale * row[key] for row in runs]
                epochs = [row["epoch"] for row in runs]
                upper.plot(epochs, values, style or line, color=color, alpha=alpha, label=prefix + label, marker=marker)
    upper.set_ylabel("loss" if regression else "%")
    upper.set_title(f"Learning curve: {shown(subject)}", loc="left")
    upper.legend(frameon=False, fontsize=8)
    if routed:
        panels[1].plot(
            [row["epoch"] for row in rows], [row["policy_entropy"] for row in rows], color="C3", marker=marker
        )
        panels[1].set_ylabel("policy entropy\n(nats)")
        panels[1].set_ylim(bottom=0)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    for axes in panels:
        plain(axes)
    return figure


def policy_over_time(
    samples: NDArray[np.int64],
    policies: NDArray[np.floating[Any]],
    names: Sequence[str],
    subject: str,
    legal: NDArray[np.bool_],
) -> Figure:
    """Draw the paper's Figure 9: for each task and depth a strip whose columns are the policy over time.

    Dark means probable.

    Args:
        samples: int64 [N], training samples seen at each snapshot.
        policies: [N, T, D, A], probabilities.
        names: Names of the T tasks.
        subject: What was trained, for the title.
        legal: bool [D, A]; actions that are never legal at a depth are left out of its strips.
    """
    _, tasks, depths, _ = policies.shape
    title = f"Policy over time, dark = probable: {shown(subject)}"
    width = max(1.2 + 3.4 * depths, 0.09 * len(title))  # a title is as wide as its letters
    figure = Figure(figsize=(width, 1.1 + 0.42 * tasks), layout="constrained")
    grid = figure.subplots(tasks, depths, squeeze=False, sharex=True, gridspec_kw={"hspace": 0.08, "wspace": 0.03})
    for task in range(tasks):
        for depth in range(depths):
            axes = grid[task][depth]
            actions = np.flatnonzero(legal[depth])
            axes.pcolormesh(
                samples / tasks,
                np.arange(len(actions) + 1),
                policies[:-1, task, depth, actions].T,
                cmap="Greys",
                norm=PowerNorm(0.5, 0, 1),  # makes small probabilities visible while policies are still mixed
                rasterized=True,
            )
            axes.invert_yaxis()
            axes.set_xlim(0, settled(samples, policies) / tasks)
            axes.set_yticks([])
            axes.tick_params(labelsize=7)
            if depth == 0:
                axes.set_ylabel(shown(names[task], 30), rotation=0, ha="right", va="center", fontsize=8)
            if task == 0:
                axes.set_title(f"depth {depth + 1}: {len(actions)} actions, top to bottom", fontsize=9)
    figure.supxlabel("training samples per task", fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def block_probability(
    samples: NDArray[np.int64], policies: NDArray[np.floating[Any]], names: Sequence[str], subject: str
) -> Figure:
    """Draw the paper's Figure 10: each agent's probability of the most contested block over time, a panel per depth.

    The most contested block is the one whose probability moves most, summed over agents and snapshots.

    Args:
        samples: int64 [N], training samples seen at each snapshot.
        policies: [N, T, D, A], probabilities.
        names: Names of the T tasks.
        subject: What was trained, for the title.
    """
    _, tasks, depths, _ = policies.shape
    figure = Figure(figsize=(8.5, 1.0 + 2.1 * depths), layout="constrained")
    panels = figure.subplots(depths, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    colors = task_colours(tasks)
    for depth, axes in enumerate(panels):
        block = int(np.abs(np.diff(policies[:, :, depth], axis=0)).sum((0, 1)).argmax())
        for task in range(tasks):
            axes.plot(
                samples / tasks,
                policies[:, task, depth, block],
                color=colors[task],
                lw=1.3,
                label=shown(names[task], 30),
            )
        axes.set_ylabel(f"depth {depth + 1}\nP(block {block})")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(0, settled(samples, policies) / tasks)
        plain(axes)
    panels[-1].set_xlabel("training samples per task")
    panels[0].set_title(f"Probability of each depth's most contested block: {shown(subject)}", loc="left")
    kept = spread(tasks, max(10, int((figure.get_figheight() - 0.6) / 0.18)))
    some = f" ({len(kept)} of {tasks})" if len(kept) < tasks else ""
    legend_beside(figure, [panels[0].lines[task] for task in kept], f"agent of task{some}")
    return figure


def settled(samples: NDArray[np.int64], policies: NDArray[np.floating[Any]]) -> float:
    """Number of training samples to show: up to shortly after the last visible change of any policy.

    Args:
        samples: int64 [N], training samples seen at each snapshot.
        policies: [N, T, D, A], probabilities.
    """
    moves = np.abs(np.diff(policies, axis=0)).max((1, 2, 3)) > 0.05
    last = int(samples[1:][moves][-1]) if moves.any() else 0
    return float(samples[-1] if last > 0.7 * samples[-1] or not last else 1.25 * last)
