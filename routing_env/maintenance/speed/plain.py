"""The plain network, the speed limit: the routed network's stem and layers with a single block each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.baselines import Baseline, Plan
from routing_env.baselines.base import fully_connected
from routing_env.data import MultiTaskData
from routing_env.data.dealers import Dealer
from routing_env.game.network import RoutedNetwork
from routing_env.game.routed_model import RoutedModel
from routing_env.types import Batch


def plain_network(network: RoutedModel) -> nn.Sequential:
    """Chain the stem and the first block of each layer, as one would without a router; the modules are not copied."""
    assert isinstance(network, RoutedNetwork)
    return nn.Sequential(network.stem, *(network.bank(layer).blocks[0] for layer in range(len(network.banks))))


class Plain(Baseline):
    """The plain network as a baseline: one network for all tasks, which cannot tell them apart.

    ``routing-env train --router routing_env.maintenance.speed.plain:Plain`` trains it. It exists to be timed.

    Args:
        plan: Sizes of the routed network.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.layers = fully_connected(plan.widths[:-1]).append(nn.Linear(plan.widths[-2], plan.widths[-1]))

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the layers in order."""
        return self.layers(v)


def ordinary_step(
    network: nn.Module, forward: Callable[[Batch], Tensor], dealer: Dealer, *, learning_rate: float
) -> Callable[[], None]:
    """Make a training step as in PyTorch's own examples: zero_grad, forward, backward, and a step of SGD.

    Args:
        network: Network to train.
        forward: Computes the network's output float32 [B, O] from a batch.
        dealer: Deals the batches.
        learning_rate: Learning rate of SGD.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)

    def step() -> None:
        batch = dealer.next_batch()
        optimizer.zero_grad()
        F.cross_entropy(forward(batch), batch.target).backward()
        optimizer.step()

    return step


def ordinary_evaluation(network: nn.Module, data: MultiTaskData, batch_size: int) -> Callable[[], float]:
    """Make an evaluation pass as in PyTorch's own examples; it returns the accuracy on the test split."""

    def evaluate() -> float:
        network.eval()
        correct = 0
        with torch.no_grad():
            for batch in data.batches("test", batch_size):
                correct += int((network(batch.x).argmax(1) == batch.target).sum())
        return correct / len(data.test)

    return evaluate
