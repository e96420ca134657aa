"""What an evaluation of a split returns, and the rows of a run that keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from routing_env.names import counted

Rows = Sequence[Mapping[str, Any]]
"""The metrics of a run, a row for each epoch."""


def measured_split(rows: Rows) -> str:
    """The split that figures and tables of a run show: test, or validation where the test split was not measured."""
    return "test" if "test_accuracy" in rows[-1] else "validation"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The evaluation of one split; nothing is trained.

    Attributes:
        split: name of the split.
        task_names: of the T tasks.
        samples: int64 [T].
        accuracy: float64 [T]; NaN for regression.
        balanced_accuracy: float64 [T], the mean recall of the classes that occur; NaN for regression.
        majority: float64 [T], the accuracy of always predicting the split's most frequent class.
        loss: float64 [T], the mean loss.
        routes: int64 [T, D, A], how often each task took each action.
    """

    split: str
    task_names: tuple[str, ...]
    samples: Tensor
    accuracy: Tensor
    balanced_accuracy: Tensor
    majority: Tensor
    loss: Tensor
    routes: Tensor

    @property
    def overall_accuracy(self) -> float:
        """Accuracy over all samples, in [0, 1]."""
        return float((self.accuracy * self.samples).sum() / self.samples.sum())

    @property
    def overall_balanced_accuracy(self) -> float:
        """Mean over tasks of the balanced accuracy, in [0, 1]."""
        return float(self.balanced_accuracy.mean())

    @property
    def overall_loss(self) -> float:
        """Mean loss over all samples."""
        return float((self.loss * self.samples).sum() / self.samples.sum())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for JSON or a data frame.

        ``pandas.DataFrame(evaluation.to_dict()["tasks"])`` has a row per task.
        """
        of_tasks = ("samples", "accuracy", "balanced_accuracy", "majority", "loss", "routes")
        lists = {name: getattr(self, name).tolist() for name in of_tasks}
        return {
            "split": self.split,
            "accuracy": self.overall_accuracy,
            "balanced_accuracy": self.overall_balanced_accuracy,
            "loss": self.overall_loss,
            "tasks": [
                {"task": task, **{name: values[number] for name, values in lists.items()}}
                for number, task in enumerate(self.task_names)
            ],
        }

    def __repr__(self) -> str:
        tasks = f"{counted(len(self.task_names), 'task')}, {counted(int(self.samples.sum()), 'sample')}"
        if bool(self.accuracy.isnan().all()):
            return f"Evaluation({self.split}: {tasks}, loss {self.overall_loss:.4f})"
        worst = int(self.accuracy.argmin())
        return (
            f"Evaluation({self.split}: {tasks}, accuracy {self.overall_accuracy:.2%}, "
            f"balanced {self.overall_balanced_accuracy:.2%}, loss {self.overall_loss:.4f}, "
            f"worst task {self.task_names[worst]!r} {float(self.accuracy[worst]):.2%})"
        )
