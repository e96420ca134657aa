"""Entrants from Stable-Baselines3, models on disk, and recordings of loops that are not ours."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from rich.console import Console
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecMonitor
from worlds import Blueprint, bits, little_data, little_game

from routing_env import Decision, State, parallel_env, routing_v0
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.cli import main
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.vector import RoutingVectorEnv
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import RouterLearner
from routing_env.runs.monitor import Monitor
from routing_env.runs.recording import Recording
from routing_env.runs.run import Run
from routing_env.types import Batch

DATA = little_data()
SMALL: dict[str, Any] = {"data": DATA, "network": "mlp", "hidden": 4, "learning_rate": 0.1}
GAME: dict[str, Any] = {**SMALL, "batch_size": 4, "recursive": True, "blocks": 2}
OF_ACTIONS = {"learning_curve.png", "routing_map.png"}
FIGURES = OF_ACTIONS | {"policy_over_time.png", "block_probability.png"}


def train(folder: Path, **given: Any) -> Run:
    directory = RunDirectory(folder)
    run = Run.of(GAME | given)
    directory.write_config(run.settings)
    run.train(directory, Display(Console(quiet=True)))
    return run


def everything(run: Run) -> Any:
    learner = run.learner
    assert isinstance(learner, RouterLearner)
    model: BaseAlgorithm = learner.router.model  # pyright: ignore[reportAttributeAccessIssue]
    return bits(model.policy.state_dict()), bits(learner.game.network.state_dict()), model.num_timesteps


@pytest.mark.filterwarnings("ignore:.*heed the action mask", "ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("algorithm", ["PPO", "DQN", "A2C", "MaskablePPO"])
def test_an_entrant_from_stable_baselines3_resumes_to_the_same_bits(algorithm: str, tmp_path: Path) -> None:
    router = f"sb3:{algorithm}"
    whole = train(tmp_path / "whole", router=router, epochs=3)
    assert whole.learner.samples >= 3 * len(DATA.train)
    train(tmp_path / "parts", router=router, epochs=1)
    np.random.seed(99)  # noqa: NPY002 (another process would have other generators)
    torch.manual_seed(99)
    assert everything(train(tmp_path / "parts", router=router, epochs=3)) == everything(whole)


def test_entrants_that_do_not_exist_are_refused_with_the_nearest() -> None:
    for router, options, near in (
        ("sb3:PPQ", (), "did you mean 'PPO'"),
        ("sb3:PPO", ("learning_rat=1",), "did you mean 'learning_rate'"),
    ):
        with pytest.raises(ValueError, match=near):
            Run.of({**GAME, "router": router, "router_options": options})


def test_lanes_that_lost_their_route_tell_nothing_of_policy_and_loss() -> None:
    game = little_game(Blueprint((3, 4, 2), (3, 3), depth=2).network(), DATA)
    recorder = Monitor(game.spec, every=100)
    game.observers.append(recorder)
    untouched = recorder.policy[1].clone()
    task = torch.tensor([0, 0, 1])
    game.reset(Batch(DATA.inputs[:3], task, torch.tensor([0, 1, 0])))
    forfeit = torch.tensor([False, True, True])
    for action, lost in (([2, 1, 1], forfeit), ([1, 2, 2], None)):
        certain = torch.nn.functional.one_hot(torch.tensor(action), game.spec.actions).float()
        game.step(Decision(torch.tensor(action), certain), forfeit=lost)
    outcome = game.trace.outcome
    assert recorder.policy[0].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert torch.equal(recorder.policy[1], untouched)
    assert recorder.drain() == {"train_accuracy": float(outcome.correct[0]) / 3, "train_loss": float(outcome.loss[0])}


def first(state: State) -> torch.Tensor:
    return state.legal.int().argmax(1)


def rows_of(recording: Recording) -> list[dict[str, Any]]:
    return [json.loads(line) for line in recording.directory.metrics_path.read_text().splitlines()]


def check_files(recording: Recording, passes: int, figures: set[str] = OF_ACTIONS) -> None:
    rows, config = rows_of(recording), recording.directory.read_config()
    assert [row["epoch"] for row in rows] == list(range(1, passes + 1))
    assert {"train_accuracy", "validation_accuracy", "test_accuracy", "test_loss", "seconds"} <= set(rows[0])
    assert (config.router, config.epochs, config.game.hidden) == ("mine", passes, 4)
    assert {path.name for path in recording.directory.figures.iterdir()} == figures
    assert all((row["policy_entropy"] is not None) == (figures == FIGURES) for row in rows)
    state = recording.directory.load_checkpoint()
    assert state is not None
    assert state["epoch"] == passes


def test_a_model_of_stable_baselines3_is_recorded(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL, copies=2)
    model = MaskablePPO("MlpPolicy", env, n_steps=6, batch_size=36, seed=4)  # its seed starts the world over
    with Recording(env, "mine", env.policy(model), run_dir=tmp_path) as recording:
        model.learn(2 * 3 * len(DATA.train) + 18)
    check_files(recording, passes=2, figures=FIGURES)
    assert rows_of(recording)[-1]["samples"] >= 2 * len(DATA.train)
    assert recording.directory.read_config().game.seed == 4
    assert "-seed4" in recording.directory.path.name
    assert not env.game.observers


def test_loops_over_gymnasium_and_pettingzoo_are_recorded(tmp_path: Path) -> None:
    envs = RoutingVectorEnv(3, **SMALL, autoreset_mode="SameStep")
    with Recording(envs, "mine", first, run_dir=tmp_path / "gymnasium") as recording:
        envs.reset(seed=1)
        for _ in range(len(DATA.train)):
            envs.step([0, 1, 2])
    check_files(recording, passes=1)

    zoo = parallel_env(**SMALL)
    with Recording(zoo, "mine", first, run_dir=tmp_path / "pettingzoo") as recording:
        zoo.reset(seed=1)
        for _ in range(2):
            while zoo.agents:
                zoo.step(dict.fromkeys(zoo.agents, 0))
            zoo.reset()
    check_files(recording, passes=1)
    assert rows_of(recording)[0]["samples"] == 6


def test_a_recording_does_not_change_what_it_records(tmp_path: Path) -> None:
    def play(*, record: bool) -> dict[str, bytes]:
        env = RoutingVecEnv(**SMALL)
        model = PPO("MlpPolicy", env, n_steps=6, batch_size=18, seed=0)
        if record:
            with Recording(env, "mine", env.policy(model), run_dir=tmp_path):
                model.learn(400)
        else:
            model.learn(400)
        return bits(env.game.network.state_dict()) | bits(model.policy.state_dict())

    assert play(record=True) == play(record=False)


def test_a_recording_of_nothing_says_so(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL)
    recording = Recording(env, "mine", first, run_dir=tmp_path)
    with pytest.raises(ValueError, match="nothing was recorded"), recording:
        pass
    with pytest.raises(RuntimeError, match="no run directory yet"):
        _ = recording.directory
    frozen = RoutingVecEnv(**SMALL, train=False)
    steps = [np.zeros(frozen.num_envs, np.int64)] * frozen.game.spec.depth
    frozen.reset()
    with pytest.raises(ValueError, match=r"has trained the blocks.*train=True"), Recording(frozen, "mine", first):
        list(map(frozen.step, steps))
    assert not list(tmp_path.iterdir())


def play_passes(env: RoutingVecEnv, passes: int) -> None:
    env.reset()
    goal = env.game.samples + passes * len(DATA.train)
    while env.game.samples < goal:
        env.step(np.zeros(env.num_envs, np.int64))


def test_a_recording_is_of_one_world(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL)
    with Recording(env, "mine", first, run_dir=tmp_path) as recording:
        play_passes(env, 1)
        env.seed(5)
        with pytest.raises(RuntimeError, match="after 1 recorded passes"):
            play_passes(env, 1)
    check_files(recording, passes=1)


def test_a_recording_begins_with_blocks_that_know_nothing(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL)
    with Recording(env, "mine", first, run_dir=tmp_path):
        play_passes(env, 1)
    second = Recording(env, "mine", first, run_dir=tmp_path)
    with pytest.raises(RuntimeError, match="before the recording began, and its blocks have learned"), second:
        play_passes(env, 1)
    assert len(list(tmp_path.glob("mine/*"))) == 1
    with Recording(env, "mine", first, run_dir=tmp_path) as third:
        env.seed(5)
        play_passes(env, 2)
    check_files(third, passes=2)
    assert rows_of(third)[0]["samples"] >= len(DATA.train)


def test_environments_are_recorded_through_their_wrappers(tmp_path: Path) -> None:
    turns = routing_v0.env(**SMALL)
    with Recording(turns, "mine", first, run_dir=tmp_path / "aec") as recording:
        turns.reset(seed=1)
        for agent in turns.agent_iter():
            turns.step(None if turns.terminations[agent] else 0)
    check_files(recording, passes=1)

    env: Any = gymnasium.make("routing_env:Routing-v0", **SMALL)
    with Recording(env, "mine", first, run_dir=tmp_path / "gymnasium") as recording:
        env.reset(seed=1)
        while not env.step(0)[2]:
            pass
    check_files(recording, passes=1)

    monitored = VecMonitor(RoutingVecEnv(**SMALL))
    with Recording(monitored, "mine", first, run_dir=tmp_path / "sb3") as recording:
        monitored.reset()
        for _ in range(3):
            monitored.step(np.zeros(3, np.int64))
    check_files(recording, passes=1)


def test_a_loop_that_fails_leaves_the_passes_that_it_has_completed(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL)
    recording = Recording(env, "mine", first, run_dir=tmp_path)

    def fail() -> None:
        with recording:
            play_passes(env, 2)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    check_files(recording, passes=2)


def test_recorded_runs_stand_on_the_leaderboard_beside_others(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(tmp_path / f"wpl/{seed}", router="wpl", epochs=2, threads=1, seed=seed)
        settings = {key: value for key, value in SMALL.items() if key != "data"}
        env = RoutingVecEnv(data=DATA, recursive=True, blocks=2, seed=seed, **settings)
        with Recording(env, "mine", env.policy(PPO("MlpPolicy", env)), run_dir=tmp_path) as recording:
            play_passes(env, 2)
        ours, theirs = RunDirectory(tmp_path / f"wpl/{seed}"), recording.directory
        keys = [list(json.loads(directory.config_path.read_text())) for directory in (ours, theirs)]
        assert keys[0] == keys[1]
        for row, other in zip(ours.read_metrics(), theirs.read_metrics(), strict=True):
            assert list(other) == [key for key in row if not key.startswith("router_")]
    (board,) = leaderboards(found_jobs([tmp_path]))
    assert {standing.name: (standing.seeds, standing.baseline) for standing in board.standings} == {
        "wpl": (2, False),
        "mine": (2, False),
    }


@pytest.mark.parametrize("command", [["evaluate"], ["train", "--resume"]])
def test_a_recorded_run_is_not_taken_for_our_own(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = RoutingVecEnv(**SMALL)
    with Recording(env, "wpl", env.policy(PPO("MlpPolicy", env)), run_dir=tmp_path) as recording:
        play_passes(env, 1)
    monkeypatch.setattr(sys, "argv", ["routing-env", *command, str(recording.directory.path)])
    with pytest.raises(SystemExit):
        main()
    assert "was recorded from a loop that is not routing-env's" in capsys.readouterr().err


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize(
    "command",
    [
        ["sb3_shared_policy.py", "--algorithm", "DQN", "--passes", "1"],
        ["independent_learners.py", "--timesteps", "9"],
        ["supersuit_ppo.py", "--timesteps", "60"],
        ["aec.py", "--episodes", "3"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_examples_print_their_accuracy_beside_the_random_routers(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0].startswith("supersuit"):
        pytest.importorskip("supersuit")
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(EXAMPLES / command[0]), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"test accuracy \d+\.\d%; random router: \d+\.\d%$", last)
