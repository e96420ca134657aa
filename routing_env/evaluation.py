"""A greedy pass over a split, measured per task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from routing_env.checks import check_legal
from routing_env.data import MultiTaskData, SplitName
from routing_env.network import RoutedNetwork
from routing_env.types import Batch, Evaluation, Policy, State

Score = Callable[[Tensor, Batch], tuple[Tensor, Tensor, Tensor]]
"""From the output [B, O] of a batch to prediction, loss float32 [B] and correct bool [B]."""


def evaluate(
    network: RoutedNetwork, data: MultiTaskData, score: Score, policy: Policy, split: SplitName, batch_size: int
) -> Evaluation:
    """Route a whole split; the network's mode is the caller's matter.

    Args:
        network: to route through.
        data: whose split.
        score: of an output.
        policy: from a state to legal actions int64 [B].
        split: "train", "validation" or "test".
        batch_size: samples routed together.

    Raises:
        ValueError: an empty split, or an illegal action.
    """
    regression = data.classes is None
    outputs = 1 if regression else data.outputs
    seen, hits = (torch.zeros(data.tasks * outputs, dtype=torch.float64, device=data.device) for _ in range(2))
    losses = torch.zeros(data.tasks, dtype=torch.float64, device=data.device)
    routes = torch.zeros(network.depth, data.tasks * network.actions, dtype=torch.int64, device=data.device)

    def legal_policy(state: State) -> Tensor:
        action = policy(state)
        check_legal(action, state)
        return action

    for batch in data.batches(split, batch_size):
        output, actions = network(batch.x, batch.task, legal_policy)
        _, loss, correct = score(output, batch)
        cell = batch.task * outputs + (0 if regression else batch.target)
        seen += torch.bincount(cell, minlength=len(seen))
        hits += torch.bincount(cell, weights=correct.to(torch.float64), minlength=len(seen))
        losses += torch.bincount(batch.task, weights=loss.to(torch.float64), minlength=data.tasks)
        for depth in range(network.depth):
            taken = batch.task * network.actions + actions[:, depth]
            routes[depth] += torch.bincount(taken, minlength=routes.shape[1])
    seen, hits = seen.view(data.tasks, outputs), hits.view(data.tasks, outputs)
    samples = seen.sum(1)
    unknown = torch.full_like(samples, torch.nan)
    return Evaluation(
        split=split,
        samples=samples.to(torch.int64).cpu(),
        accuracy=(unknown if regression else hits.sum(1) / samples).cpu(),
        balanced_accuracy=(unknown if regression else (hits / seen).nanmean(1)).cpu(),
        majority=(unknown if regression else seen.max(1).values / samples).cpu(),
        loss=(losses / samples).cpu(),
        routes=routes.view(network.depth, data.tasks, network.actions).transpose(0, 1).cpu(),
    )
