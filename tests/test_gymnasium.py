"""The Gymnasium environments: conformance, masks, autoreset, and one world shared by all lanes."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.env_util import make_vec_env
from worlds import bits, little_data

from routing_env.envs.single import RoutingEnv
from routing_env.envs.vector import RoutingVectorEnv

SMALL: dict[str, Any] = {"data": little_data(), "network": "mlp", "hidden": 4, "learning_rate": 0.1}
RECURSIVE: dict[str, Any] = {**SMALL, "recursive": True, "pass_action": True, "blocks": 2}
PARTS = [parts for size in (1, 2, 3) for parts in itertools.combinations(("v", "task", "depth"), size)]
ID = "routing_env:Routing-v0"
NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


def weights(env: Any) -> dict[str, bytes]:
    return bits(env.game.network.state_dict())


@pytest.mark.filterwarnings(
    "error", "ignore:.*infinity", "ignore:.*heed the action mask", "ignore:.*alternative render modes"
)
@pytest.mark.parametrize("settings", [SMALL, RECURSIVE], ids=["layered", "recursive"])
@pytest.mark.parametrize("mask", ["info", "obs", "both", "none"])
def test_conforms_to_gymnasium_and_stable_baselines3(settings: dict[str, Any], mask: Any) -> None:
    for parts in PARTS:
        check_env(RoutingEnv(**settings, mask=mask, parts=parts, render_mode="ansi"))
        check_env_for_sb3(RoutingEnv(**settings, mask=mask, parts=parts))


def test_make_gives_an_env_that_usual_agents_train_on() -> None:
    env: Any = gymnasium.make(ID, **RECURSIVE)
    model = MaskablePPO("MlpPolicy", env, n_steps=12, batch_size=12, seed=0).learn(48)
    assert env.unwrapped.game.samples == 16
    assert model.num_timesteps == 48


def test_stable_baselines3_takes_it_by_its_name() -> None:
    model = PPO("MlpPolicy", ID, n_steps=6, batch_size=6).learn(6)
    lanes: Any = make_vec_env(ID, n_envs=1, seed=3, env_kwargs=SMALL)
    lanes.reset()
    assert lanes.envs[0].unwrapped.settings.seed == 3
    envs: list[Any] = [model.get_env(), lanes]
    assert [env.render().dtype for env in envs] == [np.uint8] * 2


def test_the_picture_follows_the_route() -> None:
    env = RoutingEnv(**SMALL, render_mode="rgb_array")
    images: list[Any] = [env.render()]
    env.reset()
    for action in range(3):
        env.step(action)
        images.append(env.render())
    assert len({image.shape for image in images}) == 1
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(images))


def test_an_episode_routes_one_sample_and_says_what_came_of_it() -> None:
    env = RoutingEnv(**SMALL, block_batch=1, render_mode="ansi")
    env.reset(seed=0)
    before = weights(env)
    assert env.action_masks().tolist() == [True] * 3
    assert [env.step(depth)[1:4] for depth in (0, 1)] == [(0.0, False, False)] * 2
    _, reward, terminated, _, info = env.step(2)
    assert terminated
    assert info["route"] == [0, 1, 2]
    assert reward == info["final_reward"] == (1 if info["correct"] else -1)
    assert "0 → 1 → 2" in str(env.render())
    assert weights(env) != before
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)


def test_blocks_wait_for_a_batch() -> None:
    env = RoutingEnv(**SMALL, block_batch=4)
    env.reset(seed=0)
    before, changes = weights(env), 0
    for _ in range(8):
        env.reset()
        for _ in range(3):
            env.step(1)
        changes += weights(env) != before
        before = weights(env)
    assert changes == 2


def test_an_illegal_action_loses_the_route_once() -> None:
    env = RoutingEnv(**RECURSIVE, block_batch=1)
    env.reset()
    before = weights(env)
    illegal = int((~env.action_masks()).argmax())
    assert not env.action_masks()[illegal]
    with pytest.warns(UserWarning, match="heed the action mask"):
        env.step(illegal)
    env.step(0)
    *_, info = env.step(0)
    assert info["illegal_action"] == illegal
    assert info["final_reward"] == -1
    assert weights(env) == before
    _, info = env.reset()
    assert "illegal_action" not in info


def play(env: RoutingVectorEnv, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(0, 3, env.num_envs)) for _ in range(steps)]


def test_make_vec_gives_lanes_of_one_game() -> None:
    envs: Any = gymnasium.make_vec(ID, num_envs=5, **SMALL, block_batch=None)
    assert isinstance(envs, RoutingVectorEnv)
    seen, infos = envs.reset(seed=1)
    assert seen in envs.observation_space
    assert infos["action_mask"].shape == (5, 3)
    *_, last = play(envs, 3)
    assert last[2].all()
    assert not last[3].any()
    assert last[4]["correct"].shape == (5,)
    assert last[4]["_correct"].all()
    assert envs.game.samples == 5


@pytest.mark.parametrize("mode", [NEXT, SAME])
def test_autoreset_is_as_declared(mode: AutoresetMode) -> None:
    envs = RoutingVectorEnv(4, **SMALL, autoreset_mode=mode)
    plain = RoutingVectorEnv(4, **SMALL, autoreset_mode=DISABLED)
    assert envs.metadata["autoreset_mode"] is mode
    first, second = envs.reset(seed=2)[0], plain.reset(seed=2)[0]
    assert np.array_equal(first, second)
    ended, expected = play(envs, 3)[-1], play(plain, 3)[-1]
    dealt = plain.reset()[0]
    if mode is SAME:
        assert np.array_equal(ended[0], dealt)
        assert np.array_equal(ended[4]["final_obs"], expected[0])
        assert np.array_equal(ended[4]["final_info"]["correct"], expected[4]["correct"])
    else:
        assert np.array_equal(ended[0], expected[0])
        following = envs.step(np.zeros(4, np.int64))
        assert np.array_equal(following[0], dealt)
        assert following[1].tolist() == [0.0] * 4
        assert not following[2].any()
    assert np.array_equal(ended[1], expected[1])
    assert ended[2].all()
    assert weights(envs) == weights(plain)


def test_without_autoreset_the_caller_resets_all_lanes() -> None:
    envs = RoutingVectorEnv(4, **SMALL, autoreset_mode="Disabled")
    envs.reset()
    play(envs, 3)
    with pytest.raises(RuntimeError, match="call reset"):
        play(envs, 1)
    with pytest.raises(ValueError, match="reset them all"):
        envs.reset(options={"reset_mask": np.array([True, False, True, True])})
    envs.reset(options={"reset_mask": np.ones(4, np.bool_)})
    play(envs, 1)


def test_the_same_seed_gives_the_same_world() -> None:
    def run(seed: int) -> dict[str, bytes]:
        envs = RoutingVectorEnv(4, **SMALL, block_batch=4)
        envs.reset(seed=seed)
        play(envs, 12)
        return weights(envs)

    assert run(3) == run(3) != run(4)


@pytest.mark.parametrize("make", [RoutingEnv, lambda **settings: RoutingVectorEnv(4, **settings)])
def test_any_integer_is_a_seed_and_nothing_else(make: Any) -> None:
    env = make(**SMALL, seed=np.int64(2))
    first = env.reset(seed=np.int64(3))[0]
    assert np.array_equal(first, make(**SMALL).reset(seed=3)[0])
    assert type(env.settings.seed) is int
    game, numbers = env.game, env.np_random
    for seed in (-1, 2**63, 1.5):
        with pytest.raises(ValueError, match=r"seed is .*; it must be an integer from 0"):
            env.reset(seed=seed)
    assert env.game is game
    assert env.np_random is numbers
    assert env.settings.seed == 3


def test_every_sample_comes_once_a_pass_whatever_the_number_of_lanes() -> None:
    envs = RoutingVectorEnv(5, **SMALL, parts=("v",))
    samples = len(envs.game.data.train)
    dealt: list[bytes] = []
    while len(dealt) < 2 * samples:
        dealt += [vector.tobytes() for vector in envs.reset()[0]]
    assert len(set(dealt[:samples])) == samples
    assert set(dealt[samples : 2 * samples]) == set(dealt[:samples])


def test_evaluation_and_copies() -> None:
    for env in (RoutingEnv(**SMALL, block_batch=1), RoutingVectorEnv(4, **SMALL)):
        env.reset()
        evaluation = env.evaluate(lambda state: torch.zeros_like(state.task), "validation", batched=True)
        assert evaluation.samples.sum() == len(env.game.data.validation)
        other = copy.deepcopy(env)
        assert weights(other) == weights(env)
        assert np.array_equal(other.reset()[0], env.reset()[0])


def test_what_is_not_supported_says_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"use gymnasium\.make"):
        gymnasium.make_vec(ID, num_envs=2, render_mode="ansi", **SMALL)
    with pytest.raises(ValueError, match="num_envs is 0"):
        gymnasium.make_vec(ID, num_envs=0, **SMALL)
    with pytest.raises(ValueError, match="did you mean 'NextStep'"):
        RoutingVectorEnv(2, **SMALL, autoreset_mode="NextStop")
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        RoutingEnv(render_mode="human", **SMALL)
