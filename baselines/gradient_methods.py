"""What PCGrad, CAGrad, MGDA and Nash-MTL share: a gradient of each task for the shared layers, to be combined."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from routing_env.baselines import make_baseline
from routing_env.baselines.base import Baseline, PerTask, Plan
from routing_env.game.evaluation import Score
from routing_env.types import Batch


class GradientMethod(Baseline):
    """Shared layers that follow a combination of the tasks' gradients, and a head per task.

    The shared layers are the stem and the layers before the heads. The gradient of task t is that of the mean loss of
    its lanes. Only the tasks of a deal take part, and each method is scaled so that its step corresponds to that of
    the mean loss over all lanes. The heads get exactly the gradient of the mean loss, and the head of a task without
    lanes gets none.

    The Jacobian of the shared layers takes one backward pass per task of the deal. The pass through the heads is made
    only once: a lane belongs to a single task, so the gradients of the tasks with respect to the last shared features
    are the rows of one gradient.

    Args:
        plan: The plan of the routed network.
        of: Name of the baseline whose network is trained; it must consist of the stem, shared layers ``trunk`` and
            ``heads``, and train on the usual loss, as ``task_specific_1_fc``, ``shared_trunk`` and ``dense`` do.

    Raises:
        ImportError: torchjd is not installed.
        ValueError: The named baseline does not exist, or does not consist of these parts.
    """

    def __init__(self, plan: Plan, *, of: str = "task_specific_1_fc") -> None:
        super().__init__(plan)
        try:
            import torchjd  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs torchjd; install it with: pip install 'routing-env[torchjd]'"
            ) from error
        network = make_baseline(of, plan)
        trunk, heads = getattr(network, "trunk", None), getattr(network, "heads", None)
        plain = type(network).training_loss is Baseline.training_loss
        if not isinstance(trunk, nn.Module) or not isinstance(heads, PerTask) or not plain:
            raise ValueError(
                f"of is {of!r}; it must be a baseline with shared layers `trunk`, a linear map per task `heads` and "
                "the usual loss, such as task_specific_1_fc, shared_trunk or dense"
            )
        self.trunk, self.heads = trunk, heads
        self._features: tuple[Tensor, Tensor] | None = None
        if not self.shared():
            self.warning = (
                f"{type(self).__name__} has no shared layer here, since the routed network has a single layer and the "
                f"stem has no parameters: it is the same network as {of}; give depth=2 or more, or of=shared_trunk"
            )

    @abstractmethod
    def combine(self, gradients: Tensor, share: Tensor) -> Tensor:
        """Combine the gradients of the tasks in a deal.

        Args:
            gradients: float32 [m, P], of the mean loss of each task with respect to the P shared parameters.
            share: float32 [m], each task's share of the lanes; they sum to 1.

        Returns:
            float32 [P].
        """
        ...

    def shared(self) -> list[nn.Parameter]:
        """The parameters whose gradient is combined."""
        parameters = [*self.stem.parameters(), *self.trunk.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the shared layers, then the task's head."""
        return self.heads(self.trunk(v), task)

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """The loss of the heads on the shared features, which :meth:`backward` goes on from.

        Args:
            batch: Samples to train on.
            score: From outputs and the batch to predictions, losses and correctness.

        Returns:
            float32 [B] and bool [B].
        """
        features = cast(Tensor, self.trunk(self.stem(batch.x)))
        cut = features.detach().requires_grad_()
        self._features = features, cut
        _, loss, correct = score(self.heads(cut, batch.task), batch)
        return loss, correct

    def backward(self, loss: Tensor, task: Tensor) -> None:
        """Give the heads the gradient of the mean loss, and the shared parameters the combined gradient.

        Args:
            loss: float32 [B], as :meth:`training_loss` returned it last.
            task: int64 [B].
        """
        from torchjd.autojac import jac

        assert self._features is not None, "backward follows training_loss"
        (features, cut), self._features = self._features, None
        loss.mean().backward()
        shared = self.shared()
        if not shared:
            return
        assert cut.grad is not None
        present, lanes = task.unique(return_counts=True)
        share = lanes / len(task)
        weight = (task == present[:, None]) / share[:, None]  # [m, B], of each lane in the mean loss of each task
        rows = weight.view(*weight.shape, *[1] * (cut.dim() - 1)) * cut.grad
        jacobians = jac(features, shared, jac_outputs=rows, parallel_chunk_size=1)
        combined = self.combine(torch.cat([part.flatten(1) for part in jacobians], dim=1), share)
        sizes = [parameter.numel() for parameter in shared]
        for parameter, gradient in zip(shared, combined.split(sizes), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))  # in its memory format
