"""``routing-env analyse``, evaluation by drawing, and the routers that a run is compared with."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from routing_env import MultiTaskData, make_game, parallel_env
from routing_env.agents import make_router
from routing_env.analysis import frozen_payoffs, nash_gap
from routing_env.data import SplitName
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.game_table import show_game
from routing_env.runs.run import Run, has_oracle
from routing_env.runs.session import train_and_show
from routing_env.state_dicts import same_state


def shown(run: Run, directory: RunDirectory, most: int = 1000, split: SplitName = "test") -> str:
    console = Console(record=True, width=200, file=StringIO())
    show_game(run, directory, split, most, console)
    return console.export_text()


def test_a_run_is_analysed_beside_its_references(tmp_path: Path) -> None:
    run = Run.of({"scenario": "planted-3x4", "epochs": 2, "threads": 1})
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(run.settings, run.data)
    train_and_show(run, directory, Console(quiet=True))
    said = shown(run, directory)
    assert has_oracle(run.learner)
    for name in ("fixed", "random-fixed", "oracle"):
        assert f"{name} in a game of its own" in said
    accuracy = {name: RunDirectory(directory.references / name).read_metrics()[-1] for name in ("oracle", "fixed")}
    mine = directory.read_metrics()[-1]["test_accuracy"]
    assert f"regret {100 * (accuracy['oracle']['test_accuracy'] - mine):.1f} points" in said
    game = run.learner.game  # pyright: ignore[reportAttributeAccessIssue]
    gaps = nash_gap(
        frozen_payoffs(game, "test", router=run.learner.router),  # pyright: ignore[reportAttributeAccessIssue]
        chosen=frozen_payoffs(game, "validation"),
    )
    assert f"worst task {float(gaps.max()):.3f}" in said
    assert "2 routes were sampled" not in said
    assert "were sampled" in shown(run, directory, most=2)


def numbers(*, validation: float, seed: int) -> MultiTaskData:
    """Two tasks of regression."""
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    tasks = {"first": (x, x[:, 0]), "second": (x, x[:, 1] * x[:, 2])}
    return MultiTaskData.from_arrays(tasks, test=0.3, validation=validation, seed=seed, name="numbers")


@pytest.mark.parametrize(
    ("given", "missing"), [({"data": f"{__name__}:numbers"}, ""), ({"data": "planted", "measure_test": False}, "test")]
)
def test_a_run_is_analysed_beside_what_was_measured(given: dict[str, Any], missing: str, tmp_path: Path) -> None:
    run = Run.of({**given, "epochs": 1, "threads": 1})
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(run.settings, run.data)
    train_and_show(run, directory, Console(quiet=True))
    splits: tuple[SplitName, SplitName] = ("validation", "test")
    measure = "loss" if run.data.classes is None else "accuracy"
    for split in splits:
        said = shown(run, directory, split=split)
        assert "--no-reference" not in said
        assert (f"{measure} " in said and "random-fixed in a game of its own" in said) == (split != missing)
        assert ("test split was not measured" in said) == (split == missing)


def test_a_baseline_has_no_routes_to_analyse(tmp_path: Path) -> None:
    run = Run.of({"data": "planted", "router": "dense", "epochs": 1})
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(run.settings, run.data)
    run.train(directory, Display(Console(quiet=True)))
    assert not has_oracle(run.learner)
    with pytest.raises(ValueError, match="dense does not route a game"):
        shown(run, directory)
    assert run.learner.evaluate_drawn("test") is None


def test_drawing_differs_from_acting_greedily_and_leaves_the_router_alone() -> None:
    game = make_game(data="planted")
    router = make_router("wpl", game.spec)
    state = router.state_dict()
    greedy, drawn = (game.evaluate(router, greedy=greedy) for greedy in (True, False))
    assert (greedy.routes.amax(2) == greedy.samples[:, None]).all()
    shares = drawn.routes[:, 0] / drawn.samples[:, None]
    assert (shares - 1 / 3).abs().max() < 0.12  # the policy is uniform at first
    assert same_state(router.state_dict(), state)
    dispatched = make_router("wpl", game.spec, topology="dispatched")
    assert game.evaluate(dispatched, greedy=False).routes.sum() == len(game.data.test)


def test_an_environment_plays_planted_unless_it_is_told_otherwise() -> None:
    assert parallel_env().lanes.game.data.name == "planted"
    assert parallel_env(data="digits").lanes.game.data.name == "digits"
    assert make_game().data.name == "digits"
    seeded = make_game(data="planted", seed=3).data
    assert torch.equal(parallel_env(seed=3).lanes.game.data.train.index, seeded.train.index)
