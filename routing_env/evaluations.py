"""What an evaluation of a split returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one split; nothing is trained.

    Attributes:
        split: name of the split.
        samples: int64 [T].
        accuracy: float64 [T]; NaN for regression.
        balanced_accuracy: float64 [T], the mean recall of the classes that occur; NaN for regression.
        majority: float64 [T], the accuracy of always naming the split's most frequent class.
        loss: float64 [T], the mean loss.
        routes: int64 [T, D, A], how often each task took each action.
    """

    split: str
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
