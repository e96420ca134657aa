"""Uncertainty weighting (Kendall, Gal & Cipolla, CVPR 2018): each task's loss is weighted by its learned noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from routing_env.baselines.base import PerTask, Plan
from routing_env.baselines.task_specific_1_fc import TaskSpecific1FC
from routing_env.game.evaluation import Score
from routing_env.types import Batch


class UncertaintyWeighting(TaskSpecific1FC):
    """The network ``task_specific_1_fc``, with each task's loss divided by its noise, which is learned.

    With the loss L of a lane and s = log sigma^2 of its task, training minimises the mean of exp(-s) L + s / 2 for
    classification, where the output is divided by a temperature sigma^2 (Kendall et al., equation 10, by their
    approximation), and of exp(-s) L / 2 + s / 2 for regression (their equation 7). All s start at 0, where
    classification has the gradient of the mean loss. The s of a task without lanes stays as it was. The reported
    training loss is that without weights, so that it can be compared.

    Args:
        plan: The plan of the routed network.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.log_variances = PerTask([_LogVariance() for _ in range(plan.tasks)])
        self._factor = 1.0

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """The loss without weights; whether the targets are classes or numbers decides on the weights.

        Args:
            batch: Samples to train on.
            score: From outputs and the batch to predictions, losses and correctness.

        Returns:
            float32 [B] and bool [B].
        """
        self._factor = 0.5 if batch.target.is_floating_point() else 1.0
        return super().training_loss(batch, score)

    def backward(self, loss: Tensor, task: Tensor) -> None:
        """Give every parameter the gradient of the mean weighted loss.

        Args:
            loss: float32 [B], as :meth:`training_loss` returned it last.
            task: int64 [B].
        """
        log_variance = self.log_variances(loss.detach(), task)
        (self._factor * (-log_variance).exp() * loss + log_variance / 2).mean().backward()


class _LogVariance(nn.Module):
    """s = log sigma^2 of a task."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def forward(self, lanes: Tensor) -> Tensor:
        """The value for each of the lanes, float32 [B] for any tensor of B rows."""
        return self.value.expand(len(lanes))
