"""Task grouping by inter-task affinity: TAG (Fifty, Amid, Zhao, Yu, Anil & Finn, NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.baselines.base import Baseline, Plan, fully_connected, per_task
from routing_env.game.blocks import BlockBank
from routing_env.game.evaluation import Score
from routing_env.names import as_integer, is_number, require
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Batch

EXACT_TASKS = 9
"""Largest number of tasks whose partitions are all tried; there are at most 21,147."""


class TaskGrouping(Baseline):
    """Task grouping: all tasks share layers at first; then they are split into groups by how much they help each other.

    During the first deals all tasks share the fully connected layers before the heads. On each of these deals the
    affinity of every task i to every task j of the deal is measured: 1 - L_j(after) / L_j(before), where L_j is the
    mean loss of j's lanes and a step of the shared layers down the gradient of L_i lies in between (Fifty et al.,
    equation 1). The step is a trial: the network, its gradients and its optimiser are left alone. It does not move the
    stem, which the groups share as well, so a trial computes no convolutions.

    Then :func:`best_partition` of the mean affinities groups the tasks, and from there on each group has its own copy
    of the layers, which continues from the shared ones. The original method trains the groups again from the start
    instead (``restart``), and lets its groups overlap; here each task is in one group.

    All copies exist from the beginning, with ``groups`` times the parameters of the shared layers of
    ``task_specific_1_fc``, and as many heads. Copies without tasks are never touched. Affinities, the count of deals
    and the groups are buffers, so a resumed run ends with the same bits. If the routed network has a single layer,
    there is one hidden layer to share. Measuring a deal costs a further forward and backward pass through these layers
    for each of its tasks.

    Args:
        plan: The plan of the routed network.
        groups: Largest number of groups.
        measure: Number of deals before the tasks are grouped; a quarter of those of a run is a good value. (It is not a
            share of the run, which can be resumed with more epochs.)
        step: Learning rate of the trial steps. Affinities are nearly proportional to it, so the groups hardly depend on
            it as long as it is small.
        restart: Whether the layers and heads start anew when the tasks are grouped.

    Attributes:
        group: int64 [T], the group of each task; all 0 until they are grouped.
        affinity: float32 [T, T], sum of the measured affinities of row to column.
        measured: int64 [T, T], how often each was measured.
        deals: int64 [], the number of deals trained on.

    Raises:
        ValueError: An option is out of range.
    """

    space: ClassVar[SearchSpace] = {"groups": Choices((2, 3))}

    group: Tensor
    affinity: Tensor
    measured: Tensor
    deals: Tensor

    def __init__(
        self, plan: Plan, *, groups: int = 3, measure: int = 300, step: float = 0.1, restart: bool = False
    ) -> None:
        super().__init__(plan)
        for name, value in (("groups", groups), ("measure", measure)):
            require(name, value, (as_integer(value) or 0) >= 1, "an integer of at least 1")
        require("step", step, is_number(step, "above 0"), "above 0")
        require("restart", restart, restart in (False, True), "true or false")
        self._measure, self._step, self._restart = measure, step, restart
        *hidden, _ = widths = plan.resized(depth=max(2, plan.depth)).widths
        self.layers = nn.ModuleList(_copies(groups, *pair) for pair in pairwise(hidden))
        self.heads = per_task(plan.tasks, *widths[-2:])
        self.register_buffer("group", torch.zeros(plan.tasks, dtype=torch.int64))
        self.register_buffer("affinity", torch.zeros(plan.tasks, plan.tasks))
        self.register_buffer("measured", torch.zeros(plan.tasks, plan.tasks, dtype=torch.int64))
        self.register_buffer("deals", torch.zeros((), dtype=torch.int64))

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the layers of the task's group, then the task's head."""
        group = self.group[task]
        for layer in self.layers:
            v = layer(v, group)
        return self.heads(v, task)

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """The usual loss; beside it affinities are measured or, when there are enough, the tasks are grouped.

        Args:
            batch: Samples to train on.
            score: From outputs and the batch to predictions, losses and correctness.

        Returns:
            float32 [B] and bool [B].
        """
        deal = int(self.deals)
        if deal == self._measure:
            mean = self.affinity / self.measured.clamp_min(1)
            self.split(best_partition(mean.tolist(), len(cast(BlockBank, self.layers[0]))))
        self.deals += 1
        v = self.stem(batch.x)
        if deal < self._measure:
            self.measure(v.detach(), batch, score)
        _, loss, correct = score(self.head(v, batch.task), batch)
        return loss, correct

    @torch.no_grad()
    def split(self, groups: Sequence[int]) -> None:
        """Give each group its own copy of the layers that all tasks have shared.

        Args:
            groups: Group of each task.
        """
        self.group.copy_(torch.tensor(groups))
        for bank in self.layers:
            shared, *others = cast(BlockBank, bank).blocks
            for block in others:
                block.load_state_dict(shared.state_dict())
        if self._restart:
            for module in [*self.layers.modules(), *self.heads.modules()]:
                if isinstance(module, nn.Linear):
                    module.reset_parameters()

    def measure(self, v: Tensor, batch: Batch, score: Score) -> None:
        """Add the affinities of the tasks in a deal.

        Args:
            v: float32 [B, F], the stem's output, without a graph.
            batch: The deal.
            score: From outputs and the batch to predictions, losses and correctness.
        """
        shared = [cast(nn.Linear, cast(nn.Sequential, bank.blocks[0])[0]) for bank in self._banks()]
        parameters = [part.detach().requires_grad_() for linear in shared for part in (linear.weight, linear.bias)]
        present, index, lanes = batch.task.unique(return_inverse=True, return_counts=True)

        def losses(parameters: Sequence[Tensor]) -> Tensor:
            """The mean loss of each task of the deal, float32 [m], if the shared layers had these parameters."""
            features = v
            for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
                features = F.linear(features, weight, bias).relu()
            _, loss, _ = score(self.heads(features, batch.task), batch)
            return loss.new_zeros(len(present)).index_add(0, index, loss) / lanes

        with torch.enable_grad():
            before = losses(parameters)
            gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in before]
        with torch.no_grad():
            for i, gradient in zip(present, gradients, strict=True):
                after = losses([part - self._step * slope for part, slope in zip(parameters, gradient, strict=True)])
                self.affinity[i, present] += torch.where(before > 0, 1 - after / before, 0.0)
                self.measured[i, present] += 1

    def _banks(self) -> Iterator[BlockBank]:
        for bank in self.layers:
            yield cast(BlockBank, bank)


def _copies(groups: int, inputs: int, outputs: int) -> BlockBank:
    """A layer that exists once for each group."""
    return BlockBank([fully_connected((inputs, outputs)) for _ in range(groups)], (inputs,))


def best_partition(affinity: Sequence[Sequence[float]], groups: int) -> list[int]:
    """Partition tasks so that the sum over tasks of their group's mean affinity to them is largest.

    A task's term is the mean over the other tasks i of its group of the affinity of i to it; a task alone has 0. All
    partitions are tried for up to ``EXACT_TASKS`` tasks. Beyond, average-linkage clustering of the symmetric affinities
    is improved by moving single tasks to other groups, the best move first, for as long as that helps.

    Args:
        affinity: [T, T], of row to column.
        groups: Largest number of groups.

    Returns:
        The group of each task; groups are numbered in the order of their first tasks.
    """
    tasks = len(affinity)

    def gain(partition: Sequence[int]) -> float:
        members: dict[int, list[int]] = {}
        for task, group in enumerate(partition):
            members.setdefault(group, []).append(task)
        total = 0.0
        for group in members.values():
            if len(group) > 1:
                total += sum(affinity[i][j] for i in group for j in group if i != j) / (len(group) - 1)
        return total

    if tasks <= EXACT_TASKS:
        return max(_partitions(tasks, groups), key=gain)
    best = _clusters(affinity, groups)
    while True:
        moves = [[*best[:task], group, *best[task + 1 :]] for task in range(tasks) for group in range(groups)]
        move = max(moves, key=gain)
        if gain(move) <= gain(best) + 1e-12:
            return _renumbered(best)
        best = move


def _partitions(tasks: int, groups: int) -> Iterator[list[int]]:
    """All partitions into at most this many groups, which are numbered in the order of their first tasks."""
    if not tasks:
        yield []
        return
    for partition in _partitions(tasks - 1, groups):
        for group in range(min(max(partition, default=-1) + 2, groups)):
            yield [*partition, group]


def _clusters(affinity: Sequence[Sequence[float]], groups: int) -> list[int]:
    """Average-linkage clusters, from 0."""
    matrix = torch.tensor(affinity, dtype=torch.float64)
    distance = matrix.max() - (matrix + matrix.T) / 2
    tree = linkage(squareform(distance.fill_diagonal_(0).numpy(), checks=False), method="average")
    return [int(cluster) - 1 for cluster in fcluster(tree, groups, criterion="maxclust")]


def _renumbered(partition: Sequence[int]) -> list[int]:
    order = list(dict.fromkeys(partition))
    return [order.index(group) for group in partition]
