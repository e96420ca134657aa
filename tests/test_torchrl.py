"""TorchRL: its own check of specifications; masks, rewards and training blocks are what they are without it."""

from __future__ import annotations

import itertools
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from zoo import GAMES, MASKS, RECURSIVE, same, small_data, weights

from routing_env import MultiTaskData, parallel_env, routing_v0

pytest.importorskip("torchrl", reason="TorchRL is not installed: pip install torchrl")

from torchrl.envs.libs.gym import GymEnv, GymWrapper
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import MarlGroupMapType, check_env_specs

pytestmark = [
    pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested"),
    pytest.mark.filterwarnings("ignore:.*heed the action mask"),
]
PARTS = itertools.cycle([("v", "task", "depth"), ("v",), ("task", "depth"), ("v", "depth")])
TURNS = list(zip(itertools.product(MASKS, GAMES, ("per_task", "single")), PARTS, strict=False))


@pytest.fixture(scope="module")
def data() -> MultiTaskData:
    return small_data()


@pytest.mark.parametrize(("game", "parts"), TURNS, ids=str)
def test_specifications_hold(data: MultiTaskData, game: tuple[Any, dict[str, Any], Any], parts: Any) -> None:
    mask, settings, topology = game
    env = parallel_env(data=data, hidden=4, mask=mask, topology=topology, parts=parts, **settings)
    wrapped = PettingZooWrapper(env, return_state=True)
    check_env_specs(wrapped, break_when_any_done="both")
    assert wrapped.has_action_mask == {"task" if topology == "per_task" else "router": mask != "none"}


@pytest.mark.parametrize("groups", list(MarlGroupMapType), ids=lambda groups: groups.name)
@pytest.mark.parametrize("categorical", [True, False])
def test_specifications_hold_in_every_grouping(data: MultiTaskData, groups: Any, categorical: bool) -> None:
    env = parallel_env(data=data, mask="info", **RECURSIVE)
    wrapped: Any = PettingZooWrapper(env, group_map=groups, categorical_actions=categorical)
    check_env_specs(wrapped, break_when_any_done="both")
    assert sorted(agent for group in wrapped.group_map.values() for agent in group) == env.possible_agents


@pytest.mark.parametrize("settings", GAMES, ids=str)
def test_specifications_hold_turn_by_turn(data: MultiTaskData, settings: dict[str, Any]) -> None:
    env = routing_v0.env(data=data, hidden=4, **settings)
    check_env_specs(PettingZooWrapper(env, use_mask=True), break_when_any_done="both")


def test_an_episode_is_the_one_without_the_wrapper(data: MultiTaskData) -> None:
    settings: dict[str, Any] = {"data": data, "mask": "info", "rho": 0.5, **RECURSIVE}
    plain, env = parallel_env(**settings), parallel_env(**settings)
    wrapped = PettingZooWrapper(env)
    start = weights(env)
    plain.reset()  # the wrapper resets once to see what infos there are
    for _ in range(5):
        rollout = wrapped.rollout(10, break_when_any_done=True)
        _, infos = plain.reset()
        assert len(rollout) == plain.game.spec.depth
        for step in rollout:
            group = step["task"]
            masks = np.stack([info["action_mask"] for info in infos.values()])
            np.testing.assert_array_equal(group["action_mask"].numpy(), masks.astype(np.bool_))
            actions = dict(zip(plain.agents, group["action"].tolist(), strict=True))
            assert all(mask[action] for mask, action in zip(masks, actions.values(), strict=True))
            observations, rewards, terminations, _, infos = plain.step(actions)
            after = step["next", "task"]
            np.testing.assert_array_equal(after["observation"].numpy(), np.stack(list(observations.values())))
            np.testing.assert_array_equal(after["reward"][:, 0].numpy(), np.array(list(rewards.values()), np.float32))
            assert after["terminated"][:, 0].tolist() == list(terminations.values())
    assert same(weights(env), weights(plain))
    assert not same(weights(env), start)


def test_a_seed_starts_the_world_over(data: MultiTaskData) -> None:
    env = parallel_env(data=data, mask="info", hidden=4)
    wrapped = PettingZooWrapper(env)
    worlds: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)
        wrapped.set_seed(5)
        worlds.append((wrapped.rollout(30, break_when_any_done=False), weights(env)))
    assert (worlds[0][0] == worlds[1][0]).all()
    assert same(worlds[0][1], worlds[1][1])


def test_agents_that_join_later_are_refused(data: MultiTaskData) -> None:
    with pytest.raises(KeyError, match="set topology to 'per_task' or 'single'"):
        check_env_specs(PettingZooWrapper(parallel_env(data=data, mask="info", topology="dispatched")))


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])  # those that TorchRL takes
def test_vectors_of_gymnasium_in_torchrl(mode: str) -> None:
    env = gymnasium.make_vec("routing_env:Routing-v0", num_envs=4, autoreset_mode=mode, seed=0)
    wrapped = GymWrapper(env)
    check_env_specs(wrapped)
    steps = wrapped.rollout(6, break_when_any_done=False)
    assert steps["next", "reward"].abs().eq(1).all(), "an episode of one decision ends with the final reward"
    assert steps["next", "terminated"].all()


def test_torchrl_makes_the_registered_environment() -> None:
    env = GymEnv("routing_env:Routing-v0", seed=0)
    check_env_specs(env)


def test_the_example_prints_its_accuracy_beside_the_random_routers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(Path(__file__).resolve().parents[1] / "examples" / "torchrl_ppo.py")
    monkeypatch.setattr(sys, "argv", [script, "--episodes", "10"])
    runpy.run_path(script, run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"test accuracy \d+\.\d%; random router: \d+\.\d%$", last)
