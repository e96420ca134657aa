"""PCGrad, CAGrad, MGDA and Nash-MTL against conflicts worked out by hand, and against autograd task by task."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.baselines import Baseline, Plan, make_baseline
from routing_env.baselines.gradient_methods import GradientMethod
from routing_env.baselines.nash_mtl import bargaining_weights
from routing_env.baselines.task_specific_1_fc import TaskSpecific1FC
from routing_env.game.convnets import simple_convnet
from routing_env.game.evaluation import Score
from routing_env.game.training import BlockTrainer
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run
from routing_env.types import Batch

METHODS = ("pcgrad", "cagrad", "mgda", "nash_mtl")
TASKS = 4


def a_plan() -> Plan:
    """Shared layers with batch norm, which makes every lane's gradient depend on all other lanes."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU())
    return Plan(stem, (6, 7, 3), TASKS, 2, hidden=7, parameters=1000)


def method(name: str, **options: Any) -> GradientMethod:
    network = make_baseline(name, a_plan(), **options)
    assert isinstance(network, GradientMethod)
    return network


def a_batch(*tasks: int) -> Batch:
    generator = torch.Generator().manual_seed(4)
    task = torch.tensor(tasks)
    x = torch.randn(len(task), 5, generator=generator)
    return Batch(x, task, torch.randint(3, (len(task),), generator=generator))


def score(output: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    prediction = output.argmax(1)
    return prediction, F.cross_entropy(output, batch.target, reduction="none"), prediction == batch.target


SCORE = cast(Score, score)


def combined(name: str, *gradients: tuple[float, float], share: tuple[float, ...] = (), **options: Any) -> Tensor:
    """The step of a method for two-dimensional gradients; tasks have equal shares unless they are given."""
    rows = torch.tensor(gradients, dtype=torch.float32)
    shares = torch.tensor(share or [1 / len(rows)] * len(rows))
    return method(name, **options).combine(rows, shares)


def check(step: Tensor, *expected: float, within: float = 1e-4) -> None:
    torch.testing.assert_close(step, torch.tensor(expected, dtype=torch.float32), rtol=within, atol=within)


def test_pcgrad_projects_what_conflicts() -> None:
    """g1 . g2 = -1/2: what remains is (1, 0) + 2/5 (-1/2, 1) = (0.8, 0.4) and (-1/2, 1) + 1/2 (1, 0) = (0, 1)."""
    check(combined("pcgrad", (1, 0), (-0.5, 1)), 0.4, 0.7)
    check(combined("pcgrad", (1, 0), (-0.5, 1), share=(0.75, 0.25)), 0.6, 0.55)
    check(combined("pcgrad", (1, 0), (0.5, 1), share=(0.75, 0.25)), 0.875, 0.25)  # no conflict: the weighted mean


def test_mgda_takes_the_shortest_point() -> None:
    """Between (1, 0) and (0, 2) it is the foot of the perpendicular, 4/5 (1, 0) + 1/5 (0, 2); else an end."""
    check(combined("mgda", (1, 0), (0, 2)), 0.8, 0.4)
    check(combined("mgda", (1, 0), (0, 2), share=(0.75, 0.25)), 0.8, 0.4)
    check(combined("mgda", (1, 0), (3, 1)), 1, 0)
    check(combined("mgda", (1, 0), (-1, 0)), 0, 0)


def test_cagrad_helps_the_worst_task_within_its_ball() -> None:
    """g_0 = (0, 1/2), radius c/2. Both improve by 1/4 at (1/4, 1/2), the point of the ball furthest along g1."""
    check(combined("cagrad", (1, 0), (-1, 1), c=0.5), 0.25, 0.5)
    check(combined("cagrad", (1, 0), (-1, 1), c=0), 0, 0.5)
    check(combined("cagrad", (2, 0), (-2 / 3, 2 / 3), share=(0.25, 0.75)), 0.25, 0.5)  # the same parts of the mean
    short = combined("cagrad", (1e-6, 0), (-1e-6, 1e-6))
    check(1e6 * short, 0.25, 0.5)
    check(combined("cagrad", (0, 0), (0, 0)), 0, 0)


def test_nash_mtl_bargains() -> None:
    """Perpendicular gradients count alike whatever their lengths; the step is as long as the mean, |(1/2, 1)|."""
    check(combined("nash_mtl", (1, 0), (0, 2)), (5 / 8) ** 0.5, (5 / 8) ** 0.5)
    check(combined("nash_mtl", (1, 0), (-0.5, 0.75**0.5)), 0.25, 0.75**0.5 / 2)  # 120 degrees: symmetric
    check(combined("nash_mtl", (1, 0), (-1, 0)), 0, 0)
    check(combined("nash_mtl", (0, 0), (0, 2)), 0, 1)
    rows = F.normalize(torch.randn(12, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    gram = rows @ rows.T
    weights = bargaining_weights(gram)
    assert (weights > 0).all()
    torch.testing.assert_close(gram @ weights, 1 / weights, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", METHODS)
def test_equal_gradients_are_their_mean(name: str) -> None:
    """CAGrad goes as far as its ball allows."""
    factor = 1.5 if name == "cagrad" else 1.0
    check(combined(name, (3, 4), (3, 4), (3, 4)), 3 * factor, 4 * factor, within=1e-3)
    check(combined(name, (3, 4)), 3 * factor, 4 * factor, within=1e-3)


@pytest.mark.parametrize("of", ["task_specific_1_fc", "shared_trunk", "dense"])
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_autograd(name: str, of: str) -> None:
    """Heads: of the mean loss. Shared layers: each task's by itself, through the whole network, then combined."""
    network, batch = method(name, of=of), a_batch(2, 0, 0, 3, 2, 0, 3)
    _, loss, _ = score(network(batch.x, batch.task), batch)
    shared = network.shared()
    assert shared[0] is next(network.stem.parameters())
    assert {id(one) for one in shared} == {
        id(one) for key, one in network.named_parameters() if not key.startswith("heads.")
    }
    present = torch.tensor([0, 2, 3])
    rows = [torch.autograd.grad(loss[batch.task == t].mean(), shared, retain_graph=True) for t in present]
    matrix = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    torch.manual_seed(1)  # the order of PCGrad
    expected = network.combine(matrix, torch.tensor([3, 2, 2]) / 7)
    heads = list(network.heads.parameters())
    own = cast(tuple[Tensor | None, ...], torch.autograd.grad(loss.mean(), heads, allow_unused=True))

    torch.manual_seed(1)
    network.backward(network.training_loss(batch, SCORE)[0], batch.task)
    found = torch.cat([cast(Tensor, one.grad).flatten() for one in shared])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for parameter, gradient in zip(heads, own, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, gradient)
    assert sum(gradient is None for gradient in own) == 2, "weight and bias of the task without lanes"


@pytest.mark.parametrize("name", METHODS)
def test_a_head_without_lanes_stays_bitwise(name: str) -> None:
    network = method(name)
    trainer = BlockTrainer(network.parameters(), learning_rate=0.1, momentum=0.9, weight_decay=0.1)

    def step(batch: Batch) -> None:
        loss, _ = network.training_loss(batch, SCORE)
        trainer.step(loss, partial(network.backward, loss, batch.task))

    step(a_batch(0, 1, 2, 3, 0, 1))
    before = {key: value.clone() for key, value in network.named_parameters()}
    step(a_batch(0, 1, 3, 3, 0, 1))
    same = {key for key, value in network.named_parameters() if torch.equal(value, before[key])}
    assert same == {"heads.blocks.2.weight", "heads.blocks.2.bias"}


@pytest.mark.parametrize("name", ["pcgrad", "mgda", "nash_mtl"])
def test_a_deal_of_one_task_is_a_plain_step(name: str) -> None:
    """Through convolutions too, whose parameters have a memory format that the gradient must share."""
    generator = torch.Generator().manual_seed(5)
    batch = Batch(torch.randn(6, 3, 8, 8, generator=generator), torch.full((6,), 1), torch.arange(6) % 3)
    networks: list[Baseline] = []
    for kind in (name, "task_specific_1_fc"):
        torch.manual_seed(0)
        stem = simple_convnet((3, 8, 8), 3, 2, filters=4).stem
        network = make_baseline(kind, Plan(stem, (4, 7, 3), TASKS, 2, hidden=7, parameters=1000))
        trainer = BlockTrainer(network.parameters(), learning_rate=0.5)
        for _ in range(2):
            loss, _ = network.training_loss(batch, SCORE)
            trainer.step(loss, partial(network.backward, loss, batch.task))
        networks.append(network)
    mine, plain = networks
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value, rtol=1e-3, atol=1e-5)


def test_the_network_starts_as_the_one_it_names() -> None:
    named, network = make_baseline("shared_trunk", a_plan()), method("mgda", of="shared_trunk")
    assert list(named.state_dict()) == list(network.state_dict())
    assert all(torch.equal(*pair) for pair in zip(named.parameters(), network.parameters(), strict=True))
    batch = a_batch(0, 1, 2)
    assert torch.equal(named(batch.x, batch.task), network(batch.x, batch.task))


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("mmoe", "uncertainty_weighting", "mgda"):
        with pytest.raises(ValueError, match=f"of is '{other}'; it must be a baseline with shared layers"):
            method("pcgrad", of=other)
    with pytest.raises(ValueError, match="did you mean 'shared_trunk'"):
        method("pcgrad", of="shared_trunc")
    with pytest.raises(ValueError, match="did you mean 'of'"):
        method("pcgrad", off="dense")
    with pytest.raises(ValueError, match="c is -1; it must be at least 0"):
        method("cagrad", c=-1)
    monkeypatch.setitem(sys.modules, "torchjd", None)  # as where it is not installed
    with pytest.raises(
        ImportError, match=r"PCGrad needs torchjd; install it with: pip install 'routing-env\[torchjd\]'"
    ):
        method("pcgrad")


SMALL: dict[str, Any] = {
    "data": "planted",
    "data_options": ("features=16", "tasks_per_group=1"),
    "batch_size": 12,
    "threads": 1,
    "layers": 2,
    "hidden": 16,
}


def trained(path: Path, epochs: int, **given: Any) -> BaselineLearner:
    run = Run.of({**SMALL, "epochs": epochs, **given})
    path.mkdir(exist_ok=True)
    run.train(RunDirectory(path), Display(Console(quiet=True)))
    assert isinstance(run.learner, BaselineLearner)
    return run.learner


@pytest.mark.parametrize("name", METHODS)
def test_it_learns(name: str, tmp_path: Path) -> None:
    trained(tmp_path, 3, router=name)
    assert RunDirectory(tmp_path).read_metrics()[-1]["test_accuracy"] > 0.5, "guessing gives 0.25"


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """The random order of PCGrad included."""
    whole = trained(tmp_path / "whole", 2, router="pcgrad", optimizer="adam", learning_rate=0.01)
    trained(tmp_path / "cut", 1, router="pcgrad", optimizer="adam", learning_rate=0.01)
    resumed = trained(tmp_path / "cut", 2, router="pcgrad", optimizer="adam", learning_rate=0.01)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key


def test_without_shared_layers_it_is_the_plain_network() -> None:
    """A run says so."""
    given: dict[str, Any] = {**SMALL, "layers": 1}
    learners = [Run.of({**given, "router": name}).learner for name in ("mgda", "task_specific_1_fc")]
    for learner in learners:
        learner.play(200, lambda: None)
    mine, plain = (cast(BaselineLearner, learner).network for learner in learners)
    assert isinstance(plain, TaskSpecific1FC)
    assert all(torch.equal(*pair) for pair in zip(mine.parameters(), plain.parameters(), strict=True))
    assert "give depth=2 or more, or of=shared_trunk" in learners[0].warning
    assert not Run.of({**given, "router": "mgda", "router_options": ("depth=2",)}).learner.warning
