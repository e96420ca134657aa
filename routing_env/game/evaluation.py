"""Scoring of outputs, and the evaluation of a whole split, per task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from routing_env.data import MultiTaskData, SplitName
from routing_env.evaluations import Evaluation
from routing_env.game.own_parts import own_values
from routing_env.game.training import LOSSES, Loss, cross_entropy, squared_error
from routing_env.types import Batch, Outcome

Forward = Callable[[Batch], tuple[Tensor, Tensor]]
"""From a batch to the output float32 [B, O] and the actions int64 [B, D] that led to it."""


class Score:
    """Prediction, loss and correctness per lane, the same for every kind of network.

    Args:
        data: the tasks; outputs that are not classes of a lane's task are masked: the loss gets -inf for them.
        loss: per lane; by default cross-entropy, for regression the squared error.
    """

    def __init__(self, data: MultiTaskData, loss: Loss | None = None) -> None:
        self._regression = data.classes is None
        self._loss = loss or (squared_error if self._regression else cross_entropy)
        self._own_loss = self._loss not in LOSSES.values()
        self._no_class = _classes_that_do_not_exist(data)

    def __call__(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Score the output float [B, O] of a batch.

        Returns:
            Prediction int64 [B] (for regression float32 [B, O]), loss float32 [B], correct bool [B]; floats are of the
            inputs' type.

        Raises:
            ValueError: a loss of your own that is not float [B], or has no gradient where the output has one.
        """
        output = self._masked(output.to(batch.x.dtype), batch)
        loss = self._loss(output, batch.target)
        if self._own_loss:
            loss = own_values("loss", loss, batch.task.shape).to(output.dtype)
            if output.requires_grad and not loss.requires_grad:
                raise ValueError(
                    "loss has no gradient, so that nothing would learn; compute it from the output by torch"
                )
        if self._regression:
            return output.detach(), loss, torch.zeros_like(batch.task, dtype=torch.bool)
        prediction = output.detach().argmax(1)
        return prediction, loss, prediction == batch.target

    def outcome(self, output: Tensor, batch: Batch, playing: Tensor | None = None) -> tuple[Outcome, Tensor]:
        """The outcome of a batch, and the loss float32 [B] with its graph; ``playing``, bool [B], has not forfeited."""
        output = output.to(batch.x.dtype)
        prediction, loss, correct = self(output, batch)
        forfeited = torch.zeros_like(correct) if playing is None else ~playing
        outcome = Outcome(
            task=batch.task,
            output=output.detach(),
            prediction=prediction,
            target=batch.target,
            loss=loss.detach(),
            correct=correct & ~forfeited,
            forfeited=forfeited,
        )
        return outcome, loss

    def average(self, outputs: Tensor, weights: Tensor, batch: Batch) -> Tensor:
        """What several routes answer together: the logarithm of their mean probability; for regression their mean.

        Args:
            outputs: float32 [k, B, O], of the routes.
            weights: float32 [k, B].
            batch: the samples.

        Returns:
            float32 [B, O].
        """
        if self._regression:
            return (outputs * weights[..., None]).sum(0)
        answers = torch.stack([self._masked(output, batch).log_softmax(1) for output in outputs])
        return (answers + weights.log()[..., None]).logsumexp(0)

    def _masked(self, output: Tensor, batch: Batch) -> Tensor:
        """Without the outputs that are no classes of the lane's task."""
        return output if self._no_class is None else output.masked_fill(self._no_class[batch.task], -torch.inf)


def evaluate(
    forward: Forward,
    data: MultiTaskData,
    score: Score,
    split: SplitName,
    *,
    depth: int = 0,
    actions: int = 0,
    batch_size: int = 1024,
) -> Evaluation:
    """Evaluate a whole split; the caller sets the mode of the network.

    Args:
        forward: the network.
        data: whose split.
        score: of an output.
        split: "train", "validation" or "test".
        depth: D of the routes; 0 if nothing is routed.
        actions: A.
        batch_size: samples at a time.

    Raises:
        ValueError: an empty split.
    """
    regression = data.classes is None
    outputs = 1 if regression else data.outputs
    seen, hits = (torch.zeros(data.tasks * outputs, dtype=torch.float64, device=data.device) for _ in range(2))
    losses = torch.zeros(data.tasks, dtype=torch.float64, device=data.device)
    routes = torch.zeros(depth, data.tasks * actions, dtype=torch.int64, device=data.device)
    for batch in data.batches(split, batch_size):
        output, taken = forward(batch)
        _, loss, correct = score(output, batch)
        cell = batch.task * outputs + (0 if regression else batch.target)
        seen += torch.bincount(cell, minlength=len(seen))
        hits += torch.bincount(cell, weights=correct.to(torch.float64), minlength=len(seen))
        losses += torch.bincount(batch.task, weights=loss.to(torch.float64), minlength=data.tasks)
        for i in range(depth):
            routes[i] += torch.bincount(batch.task * actions + taken[:, i], minlength=routes.shape[1])
    seen, hits = seen.view(data.tasks, outputs), hits.view(data.tasks, outputs)
    samples = seen.sum(1)
    unknown = torch.full_like(samples, torch.nan)
    return Evaluation(
        split=split,
        task_names=data.task_names,
        samples=samples.to(torch.int64).cpu(),
        accuracy=(unknown if regression else hits.sum(1) / samples).cpu(),
        balanced_accuracy=(unknown if regression else (hits / seen).nanmean(1)).cpu(),
        majority=(unknown if regression else seen.max(1).values / samples).cpu(),
        loss=(losses / samples).cpu(),
        routes=routes.view(depth, data.tasks, actions).transpose(0, 1).cpu(),
    )


def _classes_that_do_not_exist(data: MultiTaskData) -> Tensor | None:
    """Mask of the outputs that a task does not use, bool [T, O]; None where every task uses all of them."""
    if data.classes is None or min(data.classes) == data.outputs:
        return None
    return torch.arange(data.outputs, device=data.device) >= torch.tensor(data.classes, device=data.device)[:, None]
