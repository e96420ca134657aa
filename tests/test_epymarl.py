"""The interfaces of EPyMARL and PyMARL2: what their runners and buffers read, step by step."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from zoo import RECURSIVE, same, small_data, weights

from routing_env import MultiTaskData, parallel_env
from routing_env.envs.epymarl import EPyMARLEnv, PyMARLEnv, TeamEnv

LAYERED: dict[str, Any] = {"layers": 2, "blocks": 3, "hidden": 8, "rho": 0.5}
GAMES = [LAYERED, {**RECURSIVE, "depth": 3}]


@pytest.fixture(scope="module")
def data() -> MultiTaskData:
    return small_data()


def draw(env: TeamEnv, rng: np.random.Generator) -> list[int]:
    return [int(rng.choice(np.flatnonzero(legal))) for legal in env.get_avail_actions()]


def check_sizes(env: TeamEnv) -> None:
    """What a replay buffer would be built for is what it is given."""
    info = env.get_env_info()
    observations, state, available = env.get_obs(), env.get_state(), env.get_avail_actions()
    assert env.observation_space.contains(observations)
    assert len(observations) == len(available) == info["n_agents"]
    assert {one.shape for one in observations} == {(info["obs_shape"],)}
    assert np.array_equal(state, np.concatenate(observations))
    assert state.shape == (info["state_shape"],)
    assert {len(legal) for legal in available} == {info["n_actions"]}
    assert all(set(legal) <= {0, 1} and any(legal) for legal in available)
    for agent in range(info["n_agents"]):
        assert np.array_equal(env.get_obs_agent(agent), observations[agent])
        assert env.get_avail_agent_actions(agent) == available[agent]


@pytest.mark.parametrize("settings", GAMES, ids=str)
def test_an_episode_is_that_of_the_parallel_environment(data: MultiTaskData, settings: dict[str, Any]) -> None:
    team, plain = PyMARLEnv(data=data, **settings), parallel_env(data=data, mask="info", **settings)
    rng = np.random.default_rng(0)
    for _ in range(4):
        team.reset()
        _, infos = plain.reset()
        over, earned, steps, info = False, 0.0, 0, dict[str, float]()
        while not over:
            check_sizes(team)
            assert np.array_equal([infos[agent]["action_mask"] for agent in plain.agents], team.get_avail_actions())
            actions = draw(team, rng)
            reward, over, info = team.step(np.array(actions))
            observations, rewards, _, _, infos = plain.step(dict(zip(plain.agents, actions, strict=True)))
            assert same(list(team.get_obs()), list(observations.values()))
            assert reward == pytest.approx(np.mean(list(rewards.values())))
            earned, steps = earned + float(np.mean(list(rewards.values()))), steps + 1
            assert bool(info) is over
        assert steps == team.episode_limit
        assert earned != 0, "the final reward must be in the last step"
        correct = [told["correct"] for told in infos.values()]
        assert info["accuracy"] == pytest.approx(np.mean(correct))
        check_sizes(team)  # the buffers also keep what follows the last step
        assert np.all(team.get_avail_actions())
    assert same([p.detach() for p in team.game.network.parameters()], weights(plain))


def test_rewards_of_the_last_step_reach_every_agent_or_the_team(data: MultiTaskData) -> None:
    settings: dict[str, Any] = {"data": data, "layers": 1}
    each, mean, total = (
        EPyMARLEnv(**settings, common_reward=False),
        EPyMARLEnv(**settings),
        EPyMARLEnv(**settings, reward_scalarisation="sum"),
    )
    for env in (each, mean, total):
        env.reset()
    assert each.episode_limit == mean.episode_limit == 1
    actions = draw(each, np.random.default_rng(1))
    steps = [env.step(actions) for env in (each, mean, total)]
    (_, rewards, over, truncated, _), *others = steps
    assert isinstance(rewards, list)
    assert set(map(abs, rewards)) == {1.0}
    assert [other[1] for other in others] == pytest.approx([np.mean(rewards), np.sum(rewards)])
    assert over
    assert not truncated
    assert each.game.samples == 3


def test_seeds_reproduce_the_same_bits(data: MultiTaskData) -> None:
    def play(env: EPyMARLEnv, start: Any) -> list[Any]:
        rng, found = np.random.default_rng(3), []
        start(env)
        for _ in range(6):
            over = False
            while not over:
                *returned, over, _, _ = env.step(draw(env, rng))
                found.append(returned)
            env.reset()
        return [*found, [p.detach().clone() for p in env.game.network.parameters()]]

    settings: dict[str, Any] = {"data": data, **RECURSIVE}
    by_reset = play(EPyMARLEnv(**settings), lambda env: env.reset(seed=7))
    by_settings = play(EPyMARLEnv(**settings, seed=7), lambda env: env.reset())
    again = EPyMARLEnv(**settings)
    by_method = play(again, lambda env: (env.seed(7), env.reset()))
    assert same(by_reset, by_settings)
    assert same(by_reset, by_method)
    assert again.settings.seed == 7
    assert not same(by_reset, play(EPyMARLEnv(**settings), lambda env: env.reset(seed=8)))


def test_gymnasium_makes_it_with_tuple_spaces_and_a_reward_for_each_agent() -> None:
    env: Any = gymnasium.make("routing_env:RoutingTuple-v0", scenario="pair-2")
    env = gymnasium.wrappers.TimeLimit(env, max_episode_steps=env.unwrapped.episode_limit)
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    assert len(env.action_space) == env.unwrapped.n_agents == 2
    _, rewards, over, _, _ = env.step(env.action_space.sample())
    assert over
    assert len(rewards) == 2


def test_mistakes_are_named(data: MultiTaskData) -> None:
    with pytest.raises(ValueError, match="map_name is 'pair-2' and scenario 'scarce'"):
        PyMARLEnv(map_name="pair-2", scenario="scarce")
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        PyMARLEnv(data=data, reward_scalarisation="meen")  # pyright: ignore[reportArgumentType]
    env = PyMARLEnv(data=data, hidden=4)
    with pytest.raises(RuntimeError, match="before the first reset"):
        env.get_avail_actions()
    env.reset()
    with pytest.raises(ValueError, match="actions must be 3 integers from 0 to"):
        env.step([0, 1])
    assert env.lanes.depth == 0, "nothing has changed"


def test_the_parallel_runner_is_refused(data: MultiTaskData) -> None:
    runner: dict[str, Any] = {"__name__": "runners.parallel_runner"}
    exec("def env_worker(remote, env_fn):\n    env_fn()", runner)  # as in both frameworks, in a separate process
    with pytest.raises(RuntimeError, match="batch_size_run=1"):
        runner["env_worker"](None, lambda: PyMARLEnv(data=data))


@pytest.mark.parametrize("algorithm", ["QMIX", "VDN"])
def test_the_example_learns_to_tell_actions_apart(algorithm: str) -> None:
    """On one fixed batch of episodes the mixed values come to the team's rewards."""
    example = runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "pymarl_qmix.py"))
    torch.manual_seed(0)
    env = PyMARLEnv(map_name="pair-2", parts=("task", "depth"), reward_scalarisation="sum")
    learner = example["Learner"](env.get_env_info(), algorithm, rate=0.03)
    rng = np.random.default_rng(0)
    episodes = [example["play"](env, learner, 1.0, rng) for _ in range(40)]
    batch = {name: torch.stack([one[name] for one in episodes]) for name in episodes[0]}
    assert batch["obs"].shape[1] == batch["reward"].shape[1] + 1

    for _ in range(300):
        learner.learn(batch)
    chosen = learner.online["agent"](batch["obs"][:, 0]).gather(-1, batch["action"][:, 0, :, None])[..., 0]
    mixed = learner.online["mixer"](chosen, batch["state"][:, 0]).detach()
    assert float(mixed.mean()) == pytest.approx(float(batch["reward"].mean()), abs=0.1)
    assert float(mixed.std()) > 0.05, "the value must depend on the actions"


@pytest.mark.parametrize(
    "command",
    [
        ["pymarl_qmix.py", "--episodes", "3"],
        ["cleanrl_ppo.py", "--samples", "24"],
        ["tianshou_dqn.py", "--episodes", "5"],
    ],
)
def test_examples_print_their_accuracy_beside_the_random_fixed_routers(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0].startswith("tianshou"):
        pytest.importorskip("tianshou.algorithm", reason="Tianshou 2 is not installed")
    script = str(Path(__file__).resolve().parents[1] / "examples" / command[0])
    monkeypatch.setattr(sys, "argv", [*command, "--scenario", "pair-2", "--run-dir", str(tmp_path)])
    runpy.run_path(script, run_name="__main__")
    *_, recorded, last = capsys.readouterr().out.splitlines()
    assert "%; random-fixed router: " in last
    (run,) = tmp_path.glob("*/*")
    assert recorded == f"recorded in {run}"
