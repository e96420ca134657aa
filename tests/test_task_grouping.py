"""Task grouping: affinities against real steps, partitions known in advance, and a planted world."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from plans import a_plan
from rich.console import Console
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn import functional as F

from routing_env.baselines.task_grouping import TaskGrouping, best_partition
from routing_env.game.evaluation import Score
from routing_env.game.training import BlockTrainer
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run
from routing_env.types import Batch


def score(output: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    prediction = output.argmax(1)
    return prediction, F.cross_entropy(output, batch.target, reduction="none"), prediction == batch.target


SCORE = cast(Score, score)


def a_deal(seed: int, *tasks: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x, target = torch.randn(len(tasks), 5, generator=generator), torch.randint(2, (len(tasks),), generator=generator)
    return Batch(x, torch.tensor(tasks), target)


def trainer_of(network: TaskGrouping) -> BlockTrainer:
    return BlockTrainer(network.parameters(), learning_rate=0.1, momentum=0.9, weight_decay=0.1)


def train(network: TaskGrouping, trainer: BlockTrainer, batch: Batch) -> None:
    loss, _ = network.training_loss(batch, SCORE)
    trainer.step(loss, partial(network.backward, loss, batch.task))


def test_the_partition_of_a_small_matrix_is_the_best_one() -> None:
    """Together 0 and 1 get 0.5 + 0.1, 0 and 2 get 0.2 + 0.3, and all three (0.5 + 0.1 + 0.2 + 0.3) / 2 = 0.55."""
    affinity = [[9.0, 0.5, 0.2], [0.1, 9.0, 0.0], [0.3, 0.0, 9.0]]
    assert best_partition(affinity, 2) == best_partition(affinity, 3) == [0, 0, 1]
    assert best_partition(affinity, 1) == [0, 0, 0]
    assert best_partition([[-0.1] * 3] * 3, 3) == [0, 1, 2], "tasks that harm each other are apart"
    assert best_partition([[1.0]], 3) == [0]


@pytest.mark.parametrize("tasks", [6, 9, 10, 20])
def test_groups_that_help_each_other_are_found(tasks: int) -> None:
    """By trying all partitions and, for many tasks, by clustering and moves; the affinities are noisy."""
    groups = [0, *torch.randint(3, (tasks - 1,), generator=torch.Generator().manual_seed(tasks)).tolist()]
    same = torch.tensor(groups)[:, None] == torch.tensor(groups)
    noise = torch.randn(tasks, tasks, generator=torch.Generator().manual_seed(1))
    found = best_partition((same.float() - 0.3 + 0.2 * noise).tolist(), 3)
    assert adjusted_rand_score(groups, found) == 1
    assert list(dict.fromkeys(found)) == list(range(max(found) + 1)), "numbered in the order of their first tasks"


def test_affinities_are_those_of_real_steps() -> None:
    """Sum over two deals of 1 - L_j(after) / L_j(before); nothing but the affinities has changed."""
    network = TaskGrouping(a_plan(), step=0.7)
    expected, times = torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.int64)
    for batch in (a_deal(1, 0, 1, 1, 2, 0), a_deal(2, 2, 0, 2, 0)):
        for i in batch.task.unique().tolist():
            stepped = deepcopy(network)
            _, before, _ = score(stepped(batch.x, batch.task), batch)
            before[batch.task == i].mean().backward()
            torch.optim.SGD(stepped.layers.parameters(), lr=0.7).step()
            _, after, _ = score(stepped(batch.x, batch.task), batch)
            for j in batch.task.unique().tolist():
                own = batch.task == j
                expected[i, j] += (1 - after[own].mean() / before[own].mean()).detach()
                times[i, j] += 1
    weights = {key: value.clone() for key, value in network.named_parameters()}
    for batch in (a_deal(1, 0, 1, 1, 2, 0), a_deal(2, 2, 0, 2, 0)):
        network.training_loss(batch, SCORE)
    torch.testing.assert_close(network.affinity, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(network.measured, times)
    assert network.deals == 2
    for key, parameter in network.named_parameters():
        assert torch.equal(parameter, weights[key])
        assert parameter.grad is None


def test_measuring_does_not_disturb_training() -> None:
    """The same bits as a network that is never measured, since all its tasks are in the first group from the start."""
    torch.manual_seed(0)
    network = TaskGrouping(a_plan(), measure=100)
    plain = deepcopy(network)
    plain.deals.fill_(101)
    trainers = trainer_of(network), trainer_of(plain)
    others = {key: value.clone() for key, value in network.layers.named_parameters() if ".blocks.0." not in key}
    for seed in range(4):
        train(network, trainers[0], a_deal(seed, 0, 1, 2, 1))
        train(plain, trainers[1], a_deal(seed, 0, 1, 2, 1))
    for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    now = dict(network.layers.named_parameters())
    assert all(torch.equal(value, now[key]) for key, value in others.items()), "copies that wait stay as they were"


def test_groups_continue_from_the_shared_layers() -> None:
    torch.manual_seed(0)
    network, batch = TaskGrouping(a_plan()), a_deal(3, 0, 1, 2, 2)
    output = network(batch.x, batch.task)
    network.split([0, 1, 0])
    assert torch.equal(network(batch.x, batch.task), output)
    trainer = trainer_of(network)
    before = {key: value.clone() for key, value in network.named_parameters()}
    train(network, trainer, a_deal(4, 1, 1))
    changed = {key for key, value in network.named_parameters() if not torch.equal(value, before[key])}
    assert {key for key in changed if key.startswith("layers.")} == {
        f"layers.{layer}.blocks.1.0.{part}" for layer in (0, 1) for part in ("weight", "bias")
    }


def test_groups_may_start_anew() -> None:
    torch.manual_seed(0)
    network = TaskGrouping(a_plan(), restart=True)
    before = [parameter.clone() for parameter in network.parameters()]
    network.split([0, 1, 0])
    assert not any(torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True))


def test_options_out_of_range_are_refused() -> None:
    for name, value, message in (
        ("groups", 0, "an integer of at least 1"),
        ("measure", 0.25, "an integer of at least 1"),
        ("step", 0, "above 0"),
        ("restart", "no", "true or false"),
    ):
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} is {value!r}; it must be {message}"):
            TaskGrouping(a_plan(), **options)


PLANTED: dict[str, Any] = {
    "router": "task_grouping",
    "router_options": ("measure=100",),
    "data": "planted",
    "data_options": ("features=16", "tasks_per_group=3", "interleaved=true"),
    "batch_size": 240,
    "learning_rate": 1.0,
    "momentum": 0.5,
    "hidden": 8,
}


def trained(path: Path, epochs: int) -> BaselineLearner:
    path.mkdir(exist_ok=True)
    run = Run.of({**PLANTED, "epochs": epochs, "threads": 1})
    run.train(RunDirectory(path), Display(Console(quiet=True)))
    assert isinstance(run.learner, BaselineLearner)
    return run.learner


def test_the_planted_groups_are_found_and_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    """Each pass has 14 deals: the run is cut while affinities are measured, and again when the groups train."""
    whole = trained(tmp_path / "whole", 10)
    network = whole.network
    assert isinstance(network, TaskGrouping)
    assert adjusted_rand_score(whole.data.groups, network.group.tolist()) == 1
    for epochs in (4, 9):
        trained(tmp_path / "cut", epochs)
    resumed = trained(tmp_path / "cut", 10)
    for key, value in network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    assert RunDirectory(tmp_path / "whole").read_metrics()[-1]["test_accuracy"] > 0.5, "guessing gives 0.25"
