"""A training step of a baseline, on a CUDA device as a graph where that is possible."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from routing_env.baselines import Baseline
from routing_env.game.captured import CapturedStep, CudaGraph, MakeGraph, is_watched, torch_alone
from routing_env.game.evaluation import Score
from routing_env.game.training import BlockTrainer
from routing_env.game.unattended import Unattended
from routing_env.types import Batch


class BaselineStep:
    """Trains a baseline on a batch.

    Args:
        network: The baseline.
        trainer: Of its parameters.
        score: From outputs to losses.
        device: Where its tensors are.

    Attributes:
        make_graph: Makes the graphs of captured steps; None, the default on all devices but CUDA, captures none.
    """

    def __init__(self, network: Baseline, trainer: BlockTrainer, score: Score, device: torch.device) -> None:
        self._network = network
        self._trainer = trainer
        self._score = score
        self._captured: CapturedStep | None = None
        self.make_graph: MakeGraph | None = CudaGraph if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Train on a batch.

        Returns:
            Its loss, float32 [], and the number of correct answers, int64 [], summed over the lanes.

        Raises:
            FloatingPointError: The loss is not finite.
        """
        if self.make_graph is None or not self.capturable:
            return self._train(batch)
        if self._captured is None:
            self._captured = CapturedStep(self._train_unattended, self._network, [], self.make_graph)
        summed = self._captured(batch.x, batch.task, batch.target, constant=self._trainer.prepare_captured())
        faults = self._captured.unattended.faults
        if faults.any():
            faults.zero_()
            raise self._trainer.divergence(float(summed[0] / len(batch)))
        return summed

    @property
    def capturable(self) -> bool:
        """Whether the next step can be captured, see :mod:`routing_env.game.captured`."""
        network = self._network
        own = bool(vars(type(network)).get("captures"))
        return own and torch_alone(network.stem) and self._trainer.captures and not is_watched()

    def _train_unattended(
        self, unattended: Unattended, x: Tensor, task: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self._train(Batch(x, task, target), unattended)

    def _train(self, batch: Batch, unattended: Unattended | None = None) -> tuple[Tensor, Tensor]:
        loss, correct = self._network.training_loss(batch, self._score)
        self._trainer.step(loss, partial(self._network.backward, loss, batch.task), unattended=unattended)
        return loss.detach().sum(), correct.sum()
