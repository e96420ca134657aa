"""What a run came to, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text
from torch import Tensor

from routing_env.data import MultiTaskData
from routing_env.evaluations import Evaluation
from routing_env.names import printable


def task_table(
    evaluation: Evaluation,
    data: MultiTaskData,
    title: str,
    *,
    pass_action: int | None = None,
    references: Mapping[str, Evaluation] | None = None,
) -> Table:
    """One row per task: accuracy, balanced accuracy and route, beside majority guessing and other routers.

    Args:
        evaluation: of the run.
        data: that was evaluated on.
        title: of the table.
        pass_action: index of PASS, if there is one.
        references: of other routers on the same split, by their names.
    """
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold", footer_style="bold")
    table.show_footer = True
    table.caption_justify = "left"
    regression = bool(evaluation.accuracy.isnan().all())
    table.add_column("task", footer="all tasks", overflow="fold", max_width=40)
    columns: list[tuple[str, Tensor, float]] = []

    def add(name: str, evaluation: Evaluation) -> None:
        prefix = f"{name}\n" if name else ""
        if regression:
            columns.append((f"{prefix}loss", evaluation.loss, evaluation.overall_loss))
            return
        if not name:
            columns.append(("accuracy", 100 * evaluation.accuracy, 100 * evaluation.overall_accuracy))
        balanced = 100 * evaluation.balanced_accuracy
        columns.append((f"{prefix}balanced", balanced, 100 * evaluation.overall_balanced_accuracy))

    add("", evaluation)
    if not regression:
        majority = evaluation.majority
        share = float((majority * evaluation.samples).sum() / evaluation.samples.sum())
        columns.append(("majority\naccuracy", 100 * majority, 100 * share))
    for name, other in (references or {}).items():
        add(name, other)
    for name, _, overall in columns:
        table.add_column(name, footer=_number(overall, regression), justify="right")
    routed = evaluation.routes.shape[1] > 0
    notes = [] if regression else ["in %"]
    if routed:
        notes.append("route: the action at depth 1 > 2 > ..., with its share where it is not always the same")
        table.add_column("route", no_wrap=True)
    table.caption = "; ".join(notes) or None
    for task, task_name in enumerate(data.task_names):
        values = [_number(float(column[task]), regression) for _, column, _ in columns]
        table.add_row(
            Text(printable(task_name)),
            *values,
            *([describe_route(evaluation.routes[task], pass_action)] if routed else []),
        )
    return table


def describe_route(counts: Tensor, pass_action: int | None = None) -> str:
    """The most frequent action at each depth, with its share where it is not always taken.

    Args:
        counts: int64 [D, A].
        pass_action: index of PASS, if there is one.
    """
    parts: list[str] = []
    for row in counts:
        total, most = int(row.sum()), int(row.max())
        share = "" if most == total else f" ({100 * most // total} %)"
        action = int(row.argmax())
        parts.append(f"{'PASS' if action == pass_action else action}{share}")
    return " > ".join(parts)


def _number(value: float, regression: bool) -> str:
    return "-" if value != value else (f"{value:.4g}" if regression else f"{value:.1f}")
