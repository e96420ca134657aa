"""Environments in several processes: refused where a wrapper would give each a separate world, else untouched."""

from __future__ import annotations

import multiprocessing
from typing import Any

import gymnasium
import pytest
from stable_baselines3.common.vec_env import SubprocVecEnv
from worlds import bits, little_data

from routing_env import RoutingParallelEnv, parallel_env
from routing_env.envs.single import RoutingEnv

SMALL: dict[str, Any] = {"data": little_data(), "network": "mlp", "hidden": 4, "learning_rate": 0.1}
REASON = r"each would train its own; use more lanes of one game instead: .*RoutingVecEnv\(copies="


def test_supersuit_is_refused_where_it_starts_processes() -> None:
    supersuit = pytest.importorskip("supersuit")
    lanes = supersuit.pettingzoo_env_to_vec_env_v1(parallel_env(**SMALL, mask="none"))
    with pytest.raises(RuntimeError, match=REASON):
        supersuit.concat_vec_envs_v1(lanes, 2, num_cpus=2, base_class="stable_baselines3")
    with pytest.raises(RuntimeError, match=REASON):
        supersuit.gym_vec_env_v0(RoutingEnv(**SMALL), 2, multiprocessing=True)
    one = supersuit.concat_vec_envs_v1(lanes, 1, num_cpus=4, base_class="stable_baselines3")  # stays in this process
    assert one.reset().shape[0] == one.num_envs == 3


def test_gymnasium_is_refused_where_it_starts_processes() -> None:
    with pytest.raises(RuntimeError, match=REASON):
        gymnasium.make_vec("routing_env:Routing-v0", num_envs=2, vectorization_mode="async", **SMALL)


def test_stable_baselines3_is_refused_in_its_processes(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):  # the worker says why, and ends
        SubprocVecEnv([lambda: RoutingEnv(**SMALL)], start_method="fork").close()
    made_here = RoutingEnv(**SMALL)
    envs = SubprocVecEnv([lambda: made_here], start_method="fork")
    with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
        envs.reset()
    assert capfd.readouterr().err.count("cannot share their blocks") == 2


def test_a_process_of_ones_own_may_go_on_with_an_environment() -> None:
    env = parallel_env(**SMALL)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_episode, (env,)) == _episode(env)


def _episode(env: RoutingParallelEnv) -> dict[str, bytes]:
    env.reset()
    while env.agents:
        env.step(dict.fromkeys(env.agents, 1))
    return bits(env.game.network.state_dict())
