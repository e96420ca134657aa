"""What training costs: operations worked out by hand, parameters, and what a leaderboard says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch._C import _len_torch_dispatch_stack  # pyright: ignore[reportPrivateUsage]

from routing_env.agents import make_router
from routing_env.agents.gradient import GradientRouter
from routing_env.benchmark.columns import COLUMNS
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.jobs import differences
from routing_env.benchmark.leaderboard import Leaderboard, leaderboards
from routing_env.benchmark.tables import costs, markdown
from routing_env.data import load
from routing_env.game.build import make_game
from routing_env.game.settings import Settings
from routing_env.runs.compute import parameters_of
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import Learner, RouterLearner
from routing_env.runs.run import Run
from routing_env.runs.settings import RunSettings

PLANTED = load("planted")
FEATURES, CLASSES = PLANTED.input_shape[0], PLANTED.outputs


def learner(router: str, *options: str, **given: Any) -> Learner:
    return Run.of({"data": "planted", "router": router, "router_options": options, **given}).learner


def cost(router: str, *options: str, samples: int = 1000, **given: Any) -> float:
    trained = learner(router, *options, **given)
    trained.play(samples, lambda: None)
    return trained.cost()


@pytest.mark.parametrize("router", ["wpl", "task_specific_1_fc"])
def test_operations_by_hand(router: str) -> None:
    """A matrix product takes two operations per weight forward, two for the weight's gradient, two for the input's.

    Nobody needs the gradient of the samples, so the first layer has no third product.
    """
    assert cost(router) == 4 * FEATURES * CLASSES
    assert cost(router, layers=2, hidden=10) == 4 * FEATURES * 10 + 6 * 10 * CLASSES


def test_routes_with_pass_cost_less() -> None:
    settings: dict[str, Any] = {"layers": 2, "blocks": 2, "hidden": FEATURES, "recursive": True, "pass_action": True}
    blocks, passes = (cost("fixed", f"routes={[[first, 2]] * PLANTED.tasks}", **settings) for first in (0, 4))
    assert passes == 4 * FEATURES * CLASSES
    assert blocks == 4 * FEATURES * FEATURES + 6 * FEATURES * CLASSES


@pytest.mark.parametrize("samples", [1, 24, 48, 5000])
def test_what_a_router_computes_and_learns_counts_however_short_the_epoch(samples: int) -> None:
    """The approximated policy is an MLP of (v, task) with 64 hidden units."""
    plain = cost("random", samples=samples)
    approximated = cost("reinforce-approx", samples=samples)
    assert plain == 4 * FEATURES * CLASSES
    spec = make_game(data=PLANTED).spec
    hidden = (FEATURES + spec.tasks) * 64 + 64 * spec.actions
    # forward to act, and at least the weights' gradients to learn
    assert approximated - plain >= 4 * hidden


@pytest.mark.parametrize("router", ["wpl", "reinforce-approx"])
def test_counting_changes_no_bit(router: str) -> None:
    counted = learner(router)
    counted.play(2000, lambda: None)
    assert isinstance(counted, RouterLearner)
    game = make_game(data="planted")
    make_router(router, game.spec, seed=0).play(game, 2000)
    theirs = game.network.state_dict()
    for name, value in counted.game.network.state_dict().items():
        assert torch.equal(value, theirs[name])


def test_nothing_counts_on_after_an_error_and_each_epoch_counts_by_itself() -> None:
    trained = learner("wpl")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained.play(100, stop)
    assert _len_torch_dispatch_stack() == 0
    trained.cost()
    assert trained.cost() != trained.cost(), "NaN, since nothing has been trained in between"


def test_parameters_are_those_of_the_network_and_of_the_routers_networks() -> None:
    blocks = 3 * (FEATURES * CLASSES + CLASSES)
    assert learner("wpl").parameters == blocks
    assert learner("task_specific_1_fc").parameters == PLANTED.tasks * (FEATURES * CLASSES + CLASSES)
    game = make_game(data=PLANTED)
    router = make_router("reinforce-approx", game.spec, seed=0)
    assert isinstance(router, GradientRouter)
    own = sum(parameter.numel() for parameter in router.networks.parameters())
    assert own > 0
    assert parameters_of(game, router) == parameters_of([game.network], {"router": router}) == blocks + own
    assert parameters_of(game, game, router, router) == blocks + own, "each parameter counts once"
    assert learner("reinforce-approx", "topology=dispatched").parameters > blocks
    model = learner("sb3:A2C")
    assert model.parameters > blocks


@pytest.mark.parametrize("router", ["wpl", "mmoe"])
def test_runs_record_what_they_cost(router: str, tmp_path: Path) -> None:
    run = Run.of({"data": "planted", "router": router, "epochs": 2, "threads": 1})
    run.train(RunDirectory(tmp_path), Display(Console(quiet=True)))
    rows = RunDirectory(tmp_path).read_metrics()
    assert [row["parameters"] for row in rows] == [run.learner.parameters] * 2
    assert all(row["training_flops"] >= 4 * FEATURES * CLASSES for row in rows)


def pretend(folder: Path, router: str, costs: tuple[int, list[float]] | None, **game: Any) -> None:
    """Write the files of a run with these parameters and operations per epoch; None is a run of an older version."""
    directory = RunDirectory(folder / router)
    directory.write_config(RunSettings(router=router, epochs=2, game=Settings(data="planted", **game)))
    for epoch in (1, 2):
        row = {"epoch": epoch, "samples": 9, "seconds": 1.0, "validation_accuracy": 0.5, "test_accuracy": 0.5}
        row |= {"test_balanced_accuracy": 0.5, "test_task_accuracy": [0.5] * 4}
        row |= {} if costs is None else {"parameters": costs[0], "training_flops": costs[1][epoch - 1]}
        directory.append_metrics(row)
    directory.save_checkpoint({"epoch": 2})


def board_of(folder: Path) -> Leaderboard:
    (board,) = leaderboards(found_jobs([folder]))
    return board


def test_a_leaderboard_says_what_entrants_cost(tmp_path: Path) -> None:
    pretend(tmp_path, "dense", (1000, [2e6, 2e6]))
    pretend(tmp_path, "mmoe", (1099, [1e6, 3.7e6]))
    board = board_of(tmp_path)
    assert {row.name: row.values["training_flops"] for row in board.standings} == {"dense": 2e6, "mmoe": 2.35e6}
    assert costs(board) == ""
    pretend(tmp_path, "shared_trunk", (1101, [1e6, 1e6]))
    said = (
        "The entrants do not cost the same: they take from 1,000 (dense) to 1,101 trained parameters (shared_trunk) "
        "(1.1 times as much) and from 1.000 (shared_trunk) to 2.350 MFLOP per training sample (mmoe) (2.4 times as "
        "much)."
    )
    assert costs(board_of(tmp_path)) == said
    page = markdown([board_of(tmp_path)])
    assert said in page
    assert "| parameters | MFLOP |" in page


def test_runs_of_older_versions_have_a_dash(tmp_path: Path) -> None:
    pretend(tmp_path, "dense", None)
    pretend(tmp_path, "mmoe", (1099, [1e6, 3.7e6]))
    board = board_of(tmp_path)
    columns = [column for column in COLUMNS if column.key in ("parameters", "training_flops")]
    shown = {row.name: [one.cell(row.values[one.key], "markdown") for one in columns] for row in board.standings}
    assert shown == {"dense": ["-", "-"], "mmoe": ["1,099", "2.350"]}
    assert costs(board) == ""


def test_entrants_are_named_by_the_settings_of_their_optimisers(tmp_path: Path) -> None:
    pretend(tmp_path, "dense", None, learning_rate=0.1)
    pretend(tmp_path, "mmoe", None, learning_rate=0.1, hidden=8)
    pretend(tmp_path, "soft_mixture", None, optimizer="adam")
    assert differences(found_jobs([tmp_path])) == (
        "These runs differ in hidden: 64, 8; optimizer: sgd (dense, mmoe), adam (soft_mixture); "
        "learning_rate: 0.1 (dense, mmoe), 0.01 (soft_mixture)."
    )
