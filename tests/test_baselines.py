"""Baselines against loops over their published formulas, against each other, and in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from plans import BLOCKS, TASKS, a_plan, apply, check_resumption, lanes, restarted
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F
from worlds import layered

from routing_env.agents import make_router
from routing_env.baselines import BASELINES, Baseline, Plan, make_baseline, plan_beside
from routing_env.baselines.cross_stitch import CrossStitch
from routing_env.baselines.dense import Dense
from routing_env.baselines.mmoe import MMoE
from routing_env.baselines.soft_mixture import SoftMixture
from routing_env.baselines.task_grouping import TaskGrouping
from routing_env.baselines.task_specific_all_fc import TaskSpecificAllFC
from routing_env.benchmark.suites import SUITES
from routing_env.data import DATASETS
from routing_env.game.build import build_game, build_network
from routing_env.game.evaluation import Score
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run, resolve_run
from routing_env.types import Batch


@pytest.mark.parametrize("widths", [(5, 7, 6, 2), (5, 7, 2), (5, 2)])
def test_cross_stitch_is_its_formula(widths: tuple[int, ...]) -> None:
    network = restarted(CrossStitch(a_plan(*widths)))
    assert isinstance(network, CrossStitch)
    x, task = lanes()
    for lane, t in enumerate(task.tolist()):
        inputs = [x[lane]] * TASKS
        for layer, unit in zip(network.layers, network.units, strict=True):
            outputs = [apply(layer, i, inputs[i]).relu() for i in range(TASKS)]
            inputs = [sum((unit[i, j] * outputs[j] for j in range(TASKS)), torch.zeros(())) for i in range(TASKS)]
        expected = network.heads.blocks[t](inputs[t])
        torch.testing.assert_close(network(x, task)[lane], expected, rtol=1e-5, atol=1e-5)


def test_cross_stitch_at_identity_is_separate_networks() -> None:
    stitched, apart = CrossStitch(a_plan(), own=1.0), TaskSpecificAllFC(a_plan())
    for unit in stitched.units:
        assert torch.equal(unit, torch.eye(TASKS))
    with torch.no_grad():
        for number, layer in enumerate(stitched.layers):
            for t, block in enumerate(apart.layers[number].blocks):  # pyright: ignore[reportArgumentType]
                block[0].weight.copy_(layer.weight[t].T)  # pyright: ignore
                block[0].bias.copy_(layer.bias[t, 0])  # pyright: ignore
        apart.layers[-1].load_state_dict(stitched.heads.state_dict())
    x, task = lanes()
    torch.testing.assert_close(stitched(x, task), apart(x, task))


def test_cross_stitch_starts_as_published() -> None:
    (first, _) = CrossStitch(a_plan()).units
    assert torch.equal(first.diagonal(), torch.full((TASKS,), 0.9))
    torch.testing.assert_close(first.sum(1), torch.ones(TASKS))
    with pytest.raises(ValueError, match="own is 2"):
        CrossStitch(a_plan(), own=2)


@pytest.mark.parametrize("logits", ["task", "layer", "approximator"])
def test_soft_mixture_is_its_formula(logits: str) -> None:
    network = restarted(make_baseline("soft_mixture", a_plan(), logits=logits))
    assert isinstance(network, SoftMixture)
    x, task = lanes()
    for lane, t in enumerate(task.tolist()):
        v = x[lane]
        for number, layer in enumerate(network.layers):
            if network.approximators is not None:
                raw = network.approximators[number](torch.cat([v, F.one_hot(task[lane], TASKS).float()]))
            else:
                assert network.logits is not None
                raw = network.logits[number, t if logits == "task" else 0]
            outputs = [apply(layer, k, v) for k in range(BLOCKS)]
            if number < len(network.layers) - 1:
                outputs = [output.relu() for output in outputs]
            total = raw.exp().sum()
            v = sum((raw[k].exp() / total * outputs[k] for k in range(BLOCKS)), torch.zeros(()))
        torch.testing.assert_close(network(x, task)[lane], v, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("widths", [(5, 7, 6, 2), (5, 2)])
def test_mmoe_is_its_formula(widths: tuple[int, ...]) -> None:
    network = restarted(MMoE(a_plan(*widths)))
    assert isinstance(network, MMoE)
    x, task = lanes()
    for lane, t in enumerate(task.tolist()):
        gate = (network.gates.blocks[t].weight @ x[lane]).softmax(0)  # pyright: ignore
        mixed = torch.zeros(())
        for i in range(BLOCKS):
            v = x[lane]
            for layer in network.experts:
                v = apply(layer, i, v)
                v = v if network.towers is None else v.relu()
            mixed = mixed + gate[i] * v
        expected = mixed if network.towers is None else network.towers.blocks[t](mixed)
        torch.testing.assert_close(network(x, task)[lane], expected, rtol=1e-4, atol=1e-5)


def test_parameter_counts() -> None:
    def count(name: str, plan: Plan) -> int:
        return sum(parameter.numel() for parameter in make_baseline(name, plan).parameters())

    plan = a_plan()  # layers 5-7, 7-6, 6-2
    assert count("task_specific_1_fc", plan) == 42 + 48 + 3 * 14
    assert count("task_specific_all_fc", plan) == 3 * (42 + 48 + 14)
    assert count("shared_trunk", plan) == 42 + 48 + 42 + 3 * 14
    assert count("cross_stitch", plan) == 3 * (42 + 48 + 14) + 2 * 9
    assert count("soft_mixture", plan) == 4 * (42 + 48 + 14) + 3 * 3 * 4
    assert count("task_grouping", plan) == 3 * (42 + 48) + 3 * 14
    assert count("uncertainty_weighting", plan) == count("pcgrad", plan) + 3 == 42 + 48 + 3 * 14 + 3
    assert count("mmoe", plan) == 4 * (42 + 48) + 3 * 4 * 5 + 3 * 14
    for widths in ((5, 7, 6, 2), (128, 128, 128, 5), (40, 30, 3), (128, 4)):
        plan = a_plan(*widths)
        dense = Dense(plan)
        own = sum(parameter.numel() for parameter in dense.parameters())
        wider = replace(plan, parameters=own)
        assert own <= plan.parameters
        assert Dense(wider).hidden == dense.hidden
        step = 2 * dense.hidden + plan.widths[0] + 3 + plan.tasks * plan.widths[-1]
        assert plan.parameters - own < step, "one unit more would fit"


def backpropagate(network: Baseline, x: Tensor, task: Tensor) -> None:
    """Gradients as in training, of the squares of the outputs."""

    def score(output: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return output, output.square().sum(1), batch.task == 0

    loss, _ = network.training_loss(Batch(x, task, task), cast(Score, score))
    network.backward(loss, task)


@pytest.mark.parametrize("name", BASELINES)
def test_gradients_reach_every_parameter_and_no_other_tasks_own(name: str) -> None:
    torch.manual_seed(2)  # a start without layers whose units are all dead
    x, _ = lanes()
    network = make_baseline(name, a_plan())
    if isinstance(network, TaskGrouping):
        network.split(range(TASKS))
    task = torch.zeros(len(x), dtype=torch.int64)
    backpropagate(network, x, task)
    missing = {key for key, parameter in network.named_parameters() if parameter.grad is None}
    assert all(".blocks.0." not in key for key in missing)
    assert all(".blocks." in key for key in missing), missing
    backpropagate(network, x, torch.arange(len(x)) % TASKS)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="did you mean 'own'"):
        make_baseline("cross_stitch", a_plan(), owm=0.5)
    with pytest.raises(ValueError, match="did you mean 'mmoe'"):
        make_baseline("mmoo", a_plan())
    with pytest.raises(ValueError, match="is not a baseline"):
        make_baseline("json:dumps", a_plan())


def test_the_stem_is_the_routed_networks_own() -> None:
    settings, data = resolve_run({"router": "cross_stitch", "epochs": 1, "data": "digits", "hidden": 16})
    game, learner = build_game(settings.game, data), BaselineLearner(settings, data)
    theirs = layered(game.network).stem.state_dict()
    for key, value in learner.network.stem.state_dict().items():
        assert torch.equal(value, theirs[key]), key
    plan = plan_beside(build_network(settings.game, data), data.tasks, settings.game)
    assert plan.widths == (32, 16, 16, 2)
    assert plan.blocks == 10


@pytest.mark.parametrize("name", ["mmoe", "ensemble"])
def test_maps_of_a_stem_are_flattened_and_drop_what_the_routed_network_drops(name: str) -> None:
    convolutions: dict[str, Any] = {"data": "digits", "network": "routed_convnet", "filters": 4, "dropout": 0.5}
    run = Run.of({**convolutions, "router": name, "epochs": 1})
    x = run.data.gather(run.data.test[torch.arange(30)]).x
    stem = plan_beside(build_network(run.settings.game, run.data), run.data.tasks, run.settings.game).stem
    assert stem.eval()(x).shape == (30, 16)
    assert stem.train()(x).eq(0).sum() > stem.eval()(x).eq(0).sum()
    run.learner.play(100, lambda: None)
    assert run.evaluate("test").overall_loss < 2


def test_separate_networks_learn_what_the_fixed_router_learns() -> None:
    """The two loops take the same steps: same samples, same order, same loss, same optimiser."""
    planted: dict[str, Any] = {"data": "planted", "momentum": 0.9, "blocks": 12, "layers": 2, "hidden": 16}
    settings, data = resolve_run({"router": "task_specific_all_fc", "epochs": 1, **planted})
    game, learner = build_game(settings.game, data), BaselineLearner(settings, data)
    routed = [parameter for bank in layered(game.network).banks for parameter in bank.parameters()]
    with torch.no_grad():
        for mine, theirs in zip(learner.network.parameters(), routed, strict=True):
            mine.copy_(theirs)
    samples = len(data.train)
    make_router("fixed", game.spec).play(game, samples)
    learner.play(samples, lambda: None)
    for mine, theirs in zip(learner.network.parameters(), routed, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert learner.trainer.epoch == game.trainer.epoch == 1


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_learns(name: str, tmp_path: Path) -> None:
    run = Run.of({"router": name, "epochs": 2, "threads": 1, "data": "planted"})
    run.train(RunDirectory(tmp_path), Display(Console(quiet=True)))
    rows = RunDirectory(tmp_path).read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["policy_entropy"] is None
    assert rows[-1]["train_loss"] < 0.95 * rows[0]["train_loss"]
    assert rows[-1]["test_accuracy"] > 0.42, "guessing gives 0.25"


def test_a_resumed_baseline_ends_with_the_same_bits(tmp_path: Path) -> None:
    given: dict[str, Any] = {"router": "mmoe", "epochs": 3, "data": "planted", "momentum": 0.9, "layers": 2}
    check_resumption(given, tmp_path)


def trained_by(router: str, **given: Any) -> tuple[object, float]:
    """The optimiser and the learning rate of a run."""
    game = resolve_run({"router": router, **given})[0].game
    return game.optimizer, game.learning_rate


def test_a_baseline_has_its_usual_optimiser_unless_another_is_named() -> None:
    usual = SoftMixture.usual["optimizer"], SoftMixture.usual["learning_rate"]
    assert trained_by("soft_mixture", data="digits") == usual == ("adam", 0.01)
    assert trained_by("mmoe", data="digits") == trained_by("wpl", data="digits") == ("sgd", 0.2)
    assert trained_by("soft_mixture", data="digits", optimizer="sgd") == ("sgd", 0.2)
    assert trained_by("soft_mixture", data="digits", learning_rate=0.3) == ("sgd", 0.3)
    assert trained_by("soft_mixture", data="digits", momentum=0.9) == ("sgd", 0.2)
    paper = [name for name, info in DATASETS.items() if info.usual.get("optimizer") == "sgd"]
    assert paper == ["mnist", "cifar", "mini_imagenet"], "which the paper trains by SGD"


def baseline_learner(**given: Any) -> BaselineLearner:
    learner = Run.of({"data": "planted", **given}).learner
    assert isinstance(learner, BaselineLearner)
    return learner


@pytest.mark.parametrize(("given", "trained"), [({}, "adam at 0.01"), ({"optimizer": "sgd"}, "sgd at 0.2")])
def test_a_run_says_what_trains_a_baseline(given: dict[str, Any], trained: str) -> None:
    learner = baseline_learner(router="soft_mixture", **given)
    assert learner.description.endswith(f"parameters, trained by {trained}")
    assert type(learner.trainer.optimizer).__name__.lower() == trained.split()[0]


def test_on_a_single_layer_the_papers_baselines_are_one_network() -> None:
    """So the suite on planted has only one of them, and a run of cross_stitch says that it has no unit."""
    names = ("task_specific_1_fc", "task_specific_all_fc", "cross_stitch")
    learners = [baseline_learner(router=name) for name in names]
    for learner in learners:
        learner.play(500, lambda: None)
    first, *others = (list(learner.network.parameters()) for learner in learners)
    for other in others:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, other, strict=True))
    assert [bool(learner.warning) for learner in learners] == [False, False, True]
    assert "no cross-stitch unit" in learners[2].warning
    assert not baseline_learner(router="cross_stitch", layers=2).warning
    (arena,) = SUITES["planted"].arenas
    assert {entrant.router for entrant in arena.entrants} & set(names) == {"task_specific_1_fc"}
