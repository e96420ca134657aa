"""Stable-Baselines3: the VecEnv over lanes, masks, evaluation views and independent learners."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_maskable
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor
from worlds import bits, little_data

from routing_env import parallel_env
from routing_env.envs.independent import TaskEnv, evaluate_together, independent_envs, learn_together
from routing_env.envs.sb3 import RoutingVecEnv

SMALL: dict[str, Any] = {"data": little_data(), "network": "mlp", "hidden": 4, "learning_rate": 0.1}
RECURSIVE: dict[str, Any] = {**SMALL, "recursive": True, "pass_action": True, "blocks": 2}
QUICK: dict[str, Any] = {"policy": "MlpPolicy", "seed": 0, "policy_kwargs": {"net_arch": [8]}}


def ppo(env: Any, **options: Any) -> PPO:
    usual: dict[str, Any] = {"n_steps": 6, "batch_size": 6, "n_epochs": 2}
    return PPO(env=env, **QUICK, **(usual | options))


def dqn(env: Any, **options: Any) -> DQN:
    usual: dict[str, Any] = {"learning_starts": 10, "buffer_size": 500, "batch_size": 8}
    return DQN(env=env, **QUICK, **(usual | options))


def weights(env: Any) -> dict[str, bytes]:
    return bits(env.game.network.state_dict())


@pytest.mark.filterwarnings("ignore:.*heed the action mask")
def test_one_copy_is_the_pettingzoo_environment() -> None:
    settings: dict[str, Any] = {**RECURSIVE, "rho": 0.3, "seed": 5}
    env, zoo = RoutingVecEnv(**settings), parallel_env(**settings)
    seen: Any = env.reset()
    shown = zoo.reset()[0]
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert np.array_equal(seen, [shown[agent]["observation"] for agent in zoo.possible_agents])
        assert np.array_equal(env.env_method("action_masks"), [shown[a]["action_mask"] for a in zoo.possible_agents])
        actions = rng.integers(0, env.lanes.spec.actions, 3)
        seen, rewards, dones, infos = env.step(actions)
        shown, rewarded, ended, _, told = zoo.step(dict(zip(zoo.agents, actions.tolist(), strict=True)))
        assert rewards.tolist() == list(rewarded.values())
        assert dones.tolist() == list(ended.values())
        assert [info.get("illegal_action") for info in infos] == [i.get("illegal_action") for i in told.values()]
        if dones.all():
            last = [shown[agent]["observation"] for agent in zoo.possible_agents]
            assert np.array_equal([info["terminal_observation"] for info in infos], last)
            assert [i["correct"] for i in infos] == [i["correct"] for i in told.values()]
            assert [i["route"] for i in infos] == [i["route"] for i in told.values()]
            shown = zoo.reset()[0]
    assert weights(env) == weights(zoo)


def test_lanes_of_a_task_share_blocks_and_deal_different_samples() -> None:
    env = RoutingVecEnv(**SMALL, copies=3)
    seen = env.reset()
    assert env.get_attr("task") == [0, 1, 2] * 3
    assert len({vector.tobytes() for vector in seen}) == 9
    before = weights(env)
    for _ in range(3):
        env.step(np.zeros(9, np.int64))
    assert weights(env) != before
    assert env.game.samples == 9


def test_what_does_not_exist_is_refused_and_changes_nothing() -> None:
    env = RoutingVecEnv(**SMALL)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(3, np.int64))
    env.reset()
    before = weights(env)
    for wrong in (np.array([0, 0]), np.array([0, 0, 3]), np.array([0, -1, 0]), np.zeros(3)):
        with pytest.raises(ValueError, match="integers from 0 to 2"):
            env.step(wrong)
    assert weights(env) == before
    with pytest.raises(TypeError, match="did you mean 'blocks'"):
        RoutingVecEnv(**SMALL, block=2)
    with pytest.raises(TypeError, match="there is no batch_size"):
        RoutingVecEnv(**SMALL, batch_size=2)
    with pytest.raises(ValueError, match="copies is 0"):
        RoutingVecEnv(**SMALL, copies=0)


def test_attributes_and_methods_reach_the_lanes() -> None:
    env = RoutingVecEnv(**SMALL)
    env.reset()
    assert env.get_attr("render_mode") == [None] * 3
    env.set_attr("name", "first", indices=0)
    assert env.get_attr("name", indices=[0]) == ["first"]
    assert not env.has_attr("name")
    assert env.env_is_wrapped(cast(Any, VecMonitor)) == [False] * 3
    assert env.env_method("action_masks", indices=[1])[0].dtype == np.bool_


def test_a_seed_starts_the_world_over_once() -> None:
    env = RoutingVecEnv(**SMALL)
    env.seed(7)
    first = env.reset()
    new = weights(env)
    for _ in range(3):
        env.step(np.zeros(3, np.int64))
    learned = weights(env)
    env.reset()
    assert weights(env) == learned != new
    env.seed(7)
    assert np.array_equal(env.reset(), first)
    assert weights(env) == new
    env.seed(8)
    env.reset()
    assert weights(env) != new


def test_a_seed_is_an_integer_of_any_kind() -> None:
    env, other = (RoutingVecEnv(**SMALL) for _ in range(2))
    env.seed(cast(Any, np.int64(3)))
    other.seed(3)
    assert np.array_equal(env.reset(), other.reset())
    assert type(env.settings.seed) is int
    copy.deepcopy(env)
    for seed in (-1, 2**63, 1.5):
        with pytest.raises(ValueError, match=r"seed is .*; it must be an integer from 0"):
            env.seed(cast(Any, seed))
    before = weights(env)
    env.reset()
    assert weights(env) == before


@pytest.mark.parametrize("make", [ppo, dqn])
def test_the_same_seed_gives_the_same_result(make: Any) -> None:
    def result() -> tuple[dict[str, bytes], dict[str, bytes]]:
        env = RoutingVecEnv(**SMALL, copies=2)
        model = make(env).learn(150)
        return bits(model.policy.state_dict()), weights(env)

    assert result() == result()


class Illegal(BaseCallback):
    """Counts all actions and the illegal ones during training."""

    count = steps = 0

    def _on_step(self) -> bool:
        self.count += sum("illegal_action" in info for info in self.locals["infos"])
        self.steps += self.training_env.num_envs
        return True


def test_maskable_ppo_takes_no_illegal_action() -> None:
    env, counted = RoutingVecEnv(**RECURSIVE, copies=40), Illegal()
    model = MaskablePPO(env=env, **QUICK, n_steps=6, batch_size=360, n_epochs=1).learn(10_000, counted)
    assert counted.steps >= 10_000
    assert counted.count == 0
    view = env.evaluation_view()
    rewards, lengths = evaluate_maskable(model, view, n_eval_episodes=6, return_episode_rewards=True, warn=False)
    assert lengths == [3] * 6
    assert set(cast(Any, rewards)) <= {-1.0, 1.0}


@pytest.mark.filterwarnings("ignore:.*heed the action mask")
def test_unmasked_dqn_loses_routes_and_nothing_breaks() -> None:
    env, counted = RoutingVecEnv(**RECURSIVE, copies=4), Illegal()
    model = dqn(env).learn(600, counted)
    assert counted.count > 0
    assert env.evaluate(model).routes.sum() == 3 * len(env.game.data.test)


def test_an_evaluation_view_trains_nothing_and_disturbs_nothing() -> None:
    def train(*, look: bool) -> dict[str, bytes]:
        env = RoutingVecEnv(**SMALL, seed=3)
        view = VecMonitor(env.evaluation_view("validation", copies=2))
        model = A2C(env=env, **QUICK)
        env.reset()
        for step in range(10):
            if look:
                before = weights(env)
                evaluate_policy(model, view, n_eval_episodes=6)
                assert weights(env) == before
                assert env.game.samples == 3 * (step // 3)
            env.step(np.zeros(3, np.int64))
        return weights(env)

    assert train(look=True) == train(look=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])  # noqa: S301
def test_copies_keep_what_the_blocks_have_learned(duplicate: Any) -> None:
    env = RoutingVecEnv(**SMALL)
    env.reset()
    for _ in range(6):
        env.step(np.zeros(3, np.int64))
    other = duplicate(env)
    assert weights(other) == weights(env)
    assert np.array_equal(other.reset(), env.reset())
    for _ in range(3):
        other.step(np.zeros(3, np.int64))
    assert weights(other) != weights(env)


KINDS: list[Any] = [ppo, dqn, lambda env: A2C(env=env, **QUICK), lambda env: MaskablePPO(env=env, **QUICK, n_steps=8)]


def ten_models() -> tuple[list[TaskEnv], list[BaseAlgorithm]]:
    settings: dict[str, Any] = {**SMALL, "data": little_data(classes=(2,) * 10)}
    envs = independent_envs(**settings)
    return envs, [KINDS[env.task % len(KINDS)](env) for env in envs]


def test_ten_models_learn_together_and_the_same_way_each_time() -> None:
    def result() -> tuple[Any, ...]:
        envs, models = ten_models()
        initial = [bits(model.policy.state_dict()) for model in models]
        learn_together(models, 30)
        assert all(model.num_timesteps >= 30 for model in models)
        trained = [bits(model.policy.state_dict()) for model in models]
        assert all(now != then for now, then in zip(trained, initial, strict=True))
        return trained, weights(envs[0]), evaluate_together(models).loss.tolist()

    assert result() == result()


def test_learning_together_goes_on_where_it_stopped() -> None:
    envs, models = ten_models()
    learn_together(models, 8)
    samples = envs[0].game.samples
    learn_together(models[::-1], 8, reset_num_timesteps=False)
    assert envs[0].game.samples > samples


class Faulty(PPO):
    """A model that fails when it learns."""

    def train(self) -> None:
        """Fail."""
        raise ArithmeticError("this model is faulty")


def test_a_model_that_raises_ends_all_with_its_error() -> None:
    envs, models = ten_models()
    models[4] = Faulty(env=envs[4], **QUICK, n_steps=8, batch_size=8)
    with pytest.raises(ArithmeticError, match="this model is faulty"):
        learn_together(models, 100)
    learn_together([KINDS[0](env) for env in envs], 6)  # the game is free again


def test_agents_of_one_game_cannot_play_by_themselves() -> None:
    envs, models = ten_models()
    with pytest.raises(RuntimeError, match="learn_together"):
        envs[0].reset()
    with pytest.raises(ValueError, match="9 models for 9 tasks of 1 games"):
        learn_together(models[:9], 10)
    with pytest.raises(ValueError, match="10 models for 9 tasks"):
        learn_together([*models[:9], models[0]], 10)


class Counting(BaseCallback):
    """Counts the steps of the model that it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[int, int]] = []

    def _on_step(self) -> bool:
        self.steps.append((id(self.model), self.model.num_timesteps))
        return True


def test_each_model_has_its_own_copy_of_a_callback() -> None:
    shared, own = Counting(), [Counting() for _ in range(10)]
    _, models = ten_models()
    learn_together(models, 9, callback=[shared])
    assert shared.steps == []
    learn_together(models, 9, callback_of=own.__getitem__)
    for model, counting in zip(models, own, strict=True):
        assert {number for number, _ in counting.steps} == {id(model)}
        assert [steps for _, steps in counting.steps] == list(range(1, len(counting.steps) + 1))
    called: list[int] = []
    learn_together(models, 6, callback=lambda local, _: called.append(id(local["self"])) or True)
    assert set(called) == {id(model) for model in models}


def test_a_callback_that_cannot_serve_several_models_is_refused_and_nothing_has_changed(tmp_path: Path) -> None:
    envs, models = ten_models()
    view = RoutingVecEnv(train=False, **SMALL)
    before = weights(envs[0]), [bits(model.policy.state_dict()) for model in models]
    evaluation = EvalCallback(view, eval_freq=3, verbose=0)
    saving = CheckpointCallback(3, str(tmp_path))
    refused: list[tuple[Any, str]] = [
        (evaluation, "EvalCallback evaluates in one environment"),
        ([Counting(), saving], "CheckpointCallback writes to one path"),
        (EveryNTimesteps(3, CallbackList([saving])), "CheckpointCallback writes to one path"),
        (Held(threading.Lock()), "cannot be copied for each model"),
    ]
    for callback, message in refused:
        with pytest.raises(ValueError, match=message):
            learn_together(models, 6, callback=callback)
    with pytest.raises(ValueError, match="give one of them"):
        learn_together(models, 6, callback=Counting(), callback_of=lambda task: None)
    with pytest.raises(TypeError, match="use_masks"):
        learn_together(models, 6, use_masks=True)
    assert (weights(envs[0]), [bits(model.policy.state_dict()) for model in models]) == before
    assert envs[0].game.samples == 0
    learn_together(models, 6, callback_of=lambda task: CheckpointCallback(3, str(tmp_path), f"task_{task}"))
    assert {path.name.removesuffix("_3_steps.zip") for path in tmp_path.iterdir()} >= {
        f"task_{task}" for task in range(10)
    }


class Held(Counting):
    """Holds something that cannot be copied."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held


def test_one_progress_bar_and_a_log_of_its_own_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    _, models = ten_models()
    given: list[dict[str, Any]] = []
    for model in models:
        learn = model.learn

        def noted(*positional: Any, learn: Any = learn, **named: Any) -> Any:
            given.append(named)
            return learn(*positional, **(named | {"progress_bar": False}))

        monkeypatch.setattr(model, "learn", noted)
    learn_together(models, 6, progress_bar=True, tb_log_name="mine")
    assert [named["progress_bar"] for named in given] == [True] + [False] * 9
    assert [named["tb_log_name"] for named in given] == [f"mine_task_{task}" for task in range(10)]
