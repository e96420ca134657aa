"""Whatever has a name can also be given: the thing itself or a reference, in every shell and on the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from commands import routing_env
from torch import Tensor, nn
from torch.nn import functional as F
from worlds import bits, little_data

from routing_env import MultiTaskData, RoutedNetwork, RoutingGame, make_game, parallel_env
from routing_env.agents import make_router
from routing_env.agents.uniform_random import UniformRandom
from routing_env.data import EndlessPass, OnePerTask
from routing_env.data.planted import plant
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.single import RoutingEnv
from routing_env.game.network import mlp
from routing_env.game.rewards import Collaboration
from routing_env.game.settings import SettingError
from routing_env.types import Batch, GameSpec, Outcome, Trace

DATA = little_data()
SMALL: dict[str, Any] = {"data": DATA, "hidden": 4, "learning_rate": 0.1}

OWN = '''
import torch
from torch.nn import functional as F
from routing_env.data import OnePerTask
from routing_env.data.planted import plant
from routing_env.game.network import mlp
from routing_env.game.rewards import Collaboration


def margin(outcome):
    """How far the right class is ahead, between -1 and 1."""
    logits, right = outcome.output, outcome.target[:, None]
    others = logits.scatter(1, right, -torch.inf).max(1).values
    return torch.tanh(logits.gather(1, right)[:, 0] - others)


def smooth(output, target):
    return F.cross_entropy(output, target, reduction="none", label_smoothing=0.1)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def narrow(data):
    return mlp(data.input_shape, data.outputs, 2, hidden=5, layers=2)


def data(*, validation, seed):
    return plant(samples=60, validation=validation, seed=seed)


def half(spec, rho):
    return Collaboration(spec.depth, spec.actions, rho=0.5 * rho, pass_action=spec.pass_action)


dealer = OnePerTask
'''


def margin(outcome: Outcome) -> Tensor:
    """The same as in ``OWN``."""
    logits, right = outcome.output, outcome.target[:, None]
    others = logits.scatter(1, right, -torch.inf).max(1).values
    return torch.tanh(logits.gather(1, right)[:, 0] - others)


def smooth(output: Tensor, target: Tensor) -> Tensor:
    """The same as in ``OWN``."""
    return nn.functional.cross_entropy(output, target, reduction="none", label_smoothing=0.1)


def momentum(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The same as in ``OWN``."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def narrow(data: MultiTaskData) -> RoutedNetwork:
    """The same as in ``OWN``."""
    return mlp(data.input_shape, data.outputs, 2, hidden=5, layers=2)


def half(spec: GameSpec, rho: float) -> Collaboration:
    """The same as in ``OWN``."""
    return Collaboration(spec.depth, spec.actions, rho=0.5 * rho, pass_action=spec.pass_action)


GIVEN: dict[str, Any] = {
    "final_reward": margin,
    "loss": smooth,
    "optimizer": momentum,
    "network": narrow,
    "collaboration": half,
    "dealer": OnePerTask,
}


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_parts.py"
    path.write_text(OWN)
    return str(path)


def settings_with(name: str, value: object) -> dict[str, Any]:
    settings: dict[str, Any] = {**SMALL, "rho": 0.4, name: value}
    if name == "network":
        del settings["hidden"]
    if name == "optimizer":
        del settings["learning_rate"]
    if name == "dealer":
        settings["batch_size"] = 2 * DATA.tasks
    return settings


def played(game: RoutingGame) -> tuple[dict[str, bytes], list[float]]:
    rewards: list[float] = []
    game.observers.append(lambda trace: rewards.extend(trace.final_reward.tolist()))
    make_router("q-learning", game.spec, seed=0).play(game, 40)
    return bits(game.network.state_dict()), rewards


@pytest.mark.parametrize("name", GIVEN)
def test_a_reference_is_the_thing_itself_and_not_the_default(name: str, own: str) -> None:
    named = "dealer" if name == "dealer" else GIVEN[name].__name__
    by_itself = played(make_game(**settings_with(name, GIVEN[name])))
    assert played(make_game(**settings_with(name, f"{own}:{named}"))) == by_itself
    rest = settings_with(name, None)
    del rest[name]
    assert played(make_game(**rest)) != by_itself or name == "collaboration"  # which no value of a block depends on


def test_a_collaboration_reward_of_your_own_is_earned() -> None:
    earned: list[float] = []
    for collaboration in ("probability", half):
        game = make_game(**SMALL, rho=0.4, collaboration=collaboration)
        make_router("all-shared", game.spec).play(game, 64)
        earned.append(float(game.trace.action_rewards.sum()))
    assert earned[1] == pytest.approx(0.5 * earned[0])
    assert earned[0] > 0


@pytest.mark.parametrize("name", [name for name in GIVEN if name != "dealer"])
def test_every_shell_takes_what_the_game_takes(name: str) -> None:
    given = settings_with(name, GIVEN[name])
    envs: list[Any] = [
        parallel_env(**given),
        RoutingEnv(**given),
        RoutingVecEnv(**given),
        gymnasium.make("routing_env:Routing-v0", **given).unwrapped,
        gymnasium.make_vec("routing_env:Routing-v0", num_envs=3, **given),
    ]
    for env in envs:
        assert getattr(env.settings, name) is GIVEN[name]
        env.reset()
        assert env.game.settings is env.settings


class Backwards(OnePerTask):
    """Deals the last task to the first lane."""

    def next_batch(self) -> Batch:
        """As the class says."""
        batch = super().next_batch()
        return Batch(batch.x.flip(0), batch.task.flip(0), batch.target.flip(0))


def test_a_dealer_must_fit_the_lanes() -> None:
    def endless(data: MultiTaskData, batch_size: int, seed: int) -> EndlessPass:
        return EndlessPass(data, 2, seed)

    env = RoutingVecEnv(**SMALL, dealer=endless)
    with pytest.raises(ValueError, match="the dealer deals 2 samples to 3 lanes"):
        env.reset()
    other = parallel_env(**SMALL, dealer=Backwards)
    with pytest.raises(ValueError, match="must deal a sample of every task, lane b of task b"):
        other.reset()


def test_a_team_earns_the_mean() -> None:
    env = parallel_env(**SMALL, final_reward="team")
    observations, _ = env.reset()
    rewards: Mapping[str, float] = {}
    infos: Mapping[str, Any] = {}
    while env.agents:
        observations, rewards, _, _, infos = env.step(dict.fromkeys(observations, 0))
    right = [info["correct"] for info in infos.values()]
    assert list(rewards.values()) == pytest.approx([2 * sum(right) / len(right) - 1] * 3)


per_sample = partial(F.cross_entropy, reduction="none")


def own_network(data: MultiTaskData) -> RoutedNetwork:
    """Three linear layers."""
    return mlp(data.input_shape, data.outputs, data.tasks, hidden=4)


def earning(reward: Callable[[Tensor], Tensor]) -> Callable[..., Collaboration]:
    """Collaboration rewards that follow from the actions of a depth."""

    class Earning(Collaboration):
        def reward(self, depth: int, action: Tensor) -> Tensor:
            return reward(action)

    return lambda spec, rho: Earning(spec.depth, spec.actions)


def dealing(change: Callable[[Batch], object]) -> Callable[..., EndlessPass]:
    """Dealers that change what they deal."""

    class Changed(EndlessPass):
        def next_batch(self) -> Any:
            return change(super().next_batch())

    return Changed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"final_reward": lambda outcome: outcome.loss.sum()}, r"final_reward must be a float tensor of shape \[\d\]"),
        ({"final_reward": lambda outcome: outcome.correct}, r"got torch\.bool"),
        ({"final_reward": lambda outcome: [0.0]}, "got list"),
        ({"final_reward": lambda outcome: outcome.loss / 0}, "final_reward must be finite"),
        ({"network": lambda data: nn.Linear(3, 2)}, "network function returned Linear instead of RoutedModel"),
        ({"optimizer": lambda parameters: parameters}, "optimizer function returned list instead of Optimizer"),
        ({"optimizer": lambda parameters: momentum([nn.Parameter(torch.ones(1))])}, "left all parameters out"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS evaluates a loss several times"),
        ({"dealer": dealing(lambda batch: None)}, r"a deal must be a routing_env\.types\.Batch; got None"),
        ({"dealer": dealing(lambda batch: replace(batch, task=batch.task + 1))}, "tasks of the batch must be int64"),
        ({"dealer": lambda data, batch_size, seed: data}, "dealer function returned MultiTaskData instead of Dealer"),
        (
            {"collaboration": lambda spec, rho: rho},
            "collaboration function returned float instead of CollaborationReward",
        ),
        ({"network": lambda data: own_network(data).double()}, r"network is of torch\.float64.*use network\.float\(\)"),
        (
            {"loss": F.cross_entropy},
            r"loss must be a float tensor of shape \[\d\], lanes first; got torch.float32 \[\]",
        ),
        ({"loss": lambda output, target: per_sample(output, target)[:, None]}, r"loss must be .* \[\d, 1\]"),
        ({"loss": lambda output, target: per_sample(output, target).detach()}, "loss has no gradient"),
        ({"collaboration": earning(lambda action: torch.zeros(()))}, r"collaboration must be .* \[\d\]"),
        ({"collaboration": earning(lambda action: action)}, "collaboration must be a float tensor"),
        ({"collaboration": earning(lambda action: torch.zeros(len(action), 1))}, r"collaboration must be .* \[\d, 1\]"),
        ({"collaboration": earning(lambda action: action / 0)}, "collaboration must be finite"),
    ],
)
def test_what_a_part_returns_is_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        played(make_game(data=DATA, batch_size=8, **given))


def test_what_parts_return_in_float64_is_learned_in_float32() -> None:
    """As what NumPy has computed."""

    def learned(dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        game = make_game(
            data=DATA,
            batch_size=8,
            loss=lambda output, target: per_sample(output, target).to(dtype),
            final_reward=lambda outcome: outcome.correct.to(dtype),
            collaboration=earning(lambda action: action.to(dtype) / 4),
        )
        router = make_router("q-learning", game.spec)
        router.play(game, 80)
        return game.network.state_dict(), router.state_dict()["tables"]

    torch.testing.assert_close(learned(torch.float64), learned(torch.float32), rtol=0, atol=0)


def test_a_network_may_compute_in_other_types_inside() -> None:
    class As(nn.Module):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.dtype = dtype

        def forward(self, x: Tensor) -> Tensor:
            return x.to(self.dtype)

    first = [nn.Sequential(As(torch.bfloat16), nn.Linear(3, 4).bfloat16(), As(torch.float32)) for _ in range(2)]
    last = [nn.Sequential(nn.Linear(4, 2), As(torch.float64)) for _ in range(2)]
    network = RoutedNetwork(nn.Identity(), [first, last], (3,))
    game = make_game(data=DATA, batch_size=8, network=lambda data: network)
    router = make_router("wpl-approx", game.spec)
    router.play(game, 16)
    assert {game.trace.outcome.output.dtype, game.trace.outcome.loss.dtype} == {torch.float32}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": momentum, "learning_rate": 0.1}, "learning_rate is 0.1 beside an optimizer function"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum is 0.9 beside adam"),
        ({"final_reward": "corect"}, "did you mean 'correct'"),
        ({"loss": "crossentropy"}, "did you mean 'cross_entropy'"),
        ({"dealer": "per_tasks"}, "did you mean 'per_task'"),
        ({"collaboration": "counts"}, "did you mean 'count'"),
        ({"optimizer": "sgdd"}, "optimizer is 'sgdd'"),
        ({"final_reward": "no_such_file.py:x"}, "there is no file no_such_file.py"),
    ],
)
def test_what_does_not_fit_is_named_in_the_same_words_everywhere(given: dict[str, Any], message: str) -> None:
    for make in (make_game, parallel_env, RoutingEnv, RoutingVecEnv):
        with pytest.raises(ValueError, match=message):
            make(data=DATA, **given)


@pytest.mark.parametrize("value", [None, 3, torch.ones(2), lambda: DATA])
def test_what_are_no_data_is_refused_at_the_door(value: object) -> None:
    for make in (make_game, parallel_env, RoutingEnv, RoutingVecEnv):
        with pytest.raises(SettingError, match=r"data is .*; it must be a MultiTaskData, or a string that names one"):
            make(data=value)


def test_a_block_loss_is_checked_for_every_lane() -> None:
    class Losing(UniformRandom):
        @property
        def block_loss(self) -> Callable[[Trace], Tensor]:
            return lambda trace: trace.states[0].v.square().mean()

    game = make_game(data=DATA, batch_size=8)
    with pytest.raises(ValueError, match=r"block_loss must be a float tensor of shape \[\d\], lanes first; got .*\[\]"):
        Losing(game.spec).play(game, 8)


@pytest.mark.parametrize("value", ["x", None, True, float("nan"), [0.1, "x"], {}])
def test_values_of_the_wrong_type_are_refused_at_the_door(value: object) -> None:
    for make in (make_game, parallel_env, RoutingEnv, RoutingVecEnv):
        with pytest.raises(SettingError, match=r"rho is .*; it must be a finite number"):
            make(data=DATA, rho=value)


def test_parts_of_your_own_train_resume_evaluate_and_stand_on_the_leaderboard(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    parts = ("--data", "own.py:data", "--final-reward", "own.py:margin", "--optimizer", "own.py:momentum")
    arguments = (*parts, "--loss", "own.py:smooth", "--network", "own.py:narrow", "--no-reference")
    whole = routing_env("train", *arguments, "--epochs", "3", "--name", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    cut = routing_env("train", *arguments, "--epochs", "1", "--name", "cut", cwd=tmp_path)
    assert cut.returncode == 0, cut.stderr
    (folder,) = tmp_path.glob("runs/cut/*")
    resumed = routing_env("train", "--resume", str(folder), "--trust", "--epochs", "3", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    first, second = (
        [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]
        for path in (*tmp_path.glob("runs/whole/*/metrics.jsonl"), folder / "metrics.jsonl")
    )
    assert first == second
    config = json.loads((folder / "config.json").read_text())["game"]
    assert (config["layers"], config["blocks"], config["final_reward"]) == (2, 2, "own.py:margin")
    evaluated = routing_env("evaluate", str(folder), "--trust", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "all tasks" in evaluated.stdout
    plain = routing_env("train", "--data", "own.py:data", "--epochs", "3", "--no-reference", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    reported = routing_env("report", "runs/whole", "runs/planted-wpl", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    (board,) = tmp_path.glob("runs/benchmark/reports/*/leaderboard.csv")
    names = [row["entrant"] for row in csv.DictReader(board.open())]
    assert any("final_reward=own.py:margin" in name for name in names)
    assert any("final_reward=correct" in name for name in names)


def test_data_of_your_own_by_reference_equal_the_data_themselves(own: str) -> None:
    by_reference, by_itself = (
        played(make_game(data=data, seed=3)) for data in (f"{own}:data", plant(samples=60, seed=3))
    )
    assert by_reference == by_itself
