"""Every algorithm of Stable-Baselines3 and sb3-contrib in every documented way: it works, or is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from worlds import bits, little_data

from routing_env.envs.independent import evaluate_together, independent_envs, learn_together
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.sb3_algorithms import ALGORITHMS, UNFIT
from routing_env.envs.sb3_models import load, save
from routing_env.runs.recording import Recording
from routing_env.types import Decision, State

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*heed the action mask", "ignore:You have specified a mini-batch size", "ignore:Training and eval env"
)

SMALL: dict[str, Any] = {
    "data": little_data(),
    "network": "mlp",
    "hidden": 4,
    "learning_rate": 0.1,
    "final_reward": "negative_loss",  # from which every algorithm learns something at once
}
RECURSIVE: dict[str, Any] = {**SMALL, "recursive": True, "pass_action": True, "blocks": 2}
ID = "routing_env:Routing-v0"

ROLLOUT: dict[str, Any] = {"n_steps": 6, "batch_size": 6}
REPLAY: dict[str, Any] = {"learning_starts": 6, "buffer_size": 60, "batch_size": 6}
DISCRETE: dict[str, tuple[Callable[..., BaseAlgorithm], str, dict[str, Any]]] = {
    "A2C": (A2C, "MlpPolicy", {"n_steps": 3}),
    "ARS": (ARS, "LinearPolicy", {"n_delta": 2, "n_eval_episodes": 6, "zero_policy": False}),
    "DQN": (DQN, "MlpPolicy", REPLAY),
    "MaskablePPO": (MaskablePPO, "MlpPolicy", {**ROLLOUT, "n_epochs": 1}),
    "PPO": (PPO, "MlpPolicy", {**ROLLOUT, "n_epochs": 1}),
    "QRDQN": (QRDQN, "MlpPolicy", REPLAY),
    "RecurrentPPO": (
        RecurrentPPO,
        "MlpLstmPolicy",
        {**ROLLOUT, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}},
    ),
    "TRPO": (TRPO, "MlpPolicy", {**ROLLOUT, "cg_max_steps": 2}),
}
CONTINUOUS: dict[str, Any] = {"CrossQ": CrossQ, "DDPG": DDPG, "SAC": SAC, "TD3": TD3, "TQC": TQC}

Build = Callable[..., Any]


def learned(model: BaseAlgorithm, env: Any, callback: Any = None) -> BaseAlgorithm:
    """The model after a little training in its environment, which changed its parameters."""
    before = bits(model.policy.state_dict())
    model.learn(24, callback)
    assert bits(model.policy.state_dict()) != before
    assert env.unwrapped.game.samples > 0
    return model


def layered(build: Build, folder: Path) -> None:
    env = RoutingVecEnv(**SMALL, copies=2)
    model = learned(build(env), env)
    assert env.evaluate(model).samples.tolist() == [6, 6, 6]
    rewards: Any = evaluate_policy(
        model, VecMonitor(env.evaluation_view("test", copies=6)), 18, return_episode_rewards=True
    )[0]
    assert np.mean(rewards) == pytest.approx(-env.evaluate(model).loss.mean())


def wrapped_and_watched(build: Build, folder: Path) -> None:
    env = RoutingVecEnv(**SMALL, copies=2)
    view = VecNormalize(VecMonitor(env.evaluation_view("validation")), training=False)
    callbacks = [
        EvalCallback(view, eval_freq=2, n_eval_episodes=3, verbose=0, best_model_save_path=str(folder)),
        CheckpointCallback(2, str(folder), "now"),
    ]
    model = build(VecNormalize(VecMonitor(env)))
    learned(model, env, callbacks)
    assert (folder / "best_model.zip").exists()
    assert {info["l"] for info in model.ep_info_buffer} == {3}
    kept: Any = type(model).load(sorted(folder.glob("now_*.zip"))[-1])
    assert kept.policy.state_dict().keys() == model.policy.state_dict().keys()
    assert env.evaluate(model).samples.tolist() == [6, 6, 6]


def gymnasium_id(build: Build, folder: Path) -> None:
    env: Any = gymnasium.make(ID, **SMALL)
    assert env.unwrapped.evaluate(learned(build(env), env)).samples.tolist() == [6, 6, 6]


def vectorised_by_stable_baselines3(build: Build, folder: Path) -> None:
    env: Any = make_vec_env(ID, n_envs=2, seed=0, env_kwargs={**SMALL, "world": f"{build}"})
    own = env.envs[1].unwrapped
    assert own.evaluate(learned(build(env), own)).samples.tolist() == [6, 6, 6]


def together(build: Build, folder: Path) -> None:
    envs = independent_envs(**SMALL)
    models = [build(env) for env in envs]
    before = [bits(model.policy.state_dict()) for model in models]
    learn_together(models, 24)
    assert all(bits(model.policy.state_dict()) != old for model, old in zip(models, before, strict=True))
    assert evaluate_together(models).samples.tolist() == [6, 6, 6]


def saved_and_loaded(build: Build, folder: Path) -> None:
    env, other = RoutingVecEnv(**SMALL, copies=2), RoutingVecEnv(**SMALL, copies=2)
    model, twin = learned(build(env), env), build(other)
    save(folder / "both", model)
    load(folder / "both", twin)
    assert other.evaluate(twin).loss.tolist() == env.evaluate(model).loss.tolist()


def recursive_and_recorded(build: Build, folder: Path) -> None:
    env = RoutingVecEnv(**RECURSIVE)
    model = build(env)
    with Recording(env, "mine", env.policy(model), run_dir=folder) as recording:
        model.learn(24)
    assert model.num_timesteps >= 24
    assert (recording.directory.path / "metrics.jsonl").exists()
    assert env.evaluate(model).samples.tolist() == [6, 6, 6]


WAYS = [
    *(layered, wrapped_and_watched, gymnasium_id, recursive_and_recorded),
    *(vectorised_by_stable_baselines3, together, saved_and_loaded),
]


@pytest.mark.parametrize("algorithm", DISCRETE)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_algorithm_works_in_a_documented_way(way: Any, algorithm: str, tmp_path: Path) -> None:
    made, policy, options = DISCRETE[algorithm]
    way(lambda env: made(policy, env, seed=0, **options), tmp_path)


def test_continuous_actions_are_refused_where_a_model_is_made() -> None:
    env = RoutingVecEnv(**SMALL)
    for name, made in CONTINUOUS.items():
        with pytest.raises(
            AssertionError, match=r"only supports .*Box.* as action spaces but Discrete\(3\) was provided"
        ):
            made("MlpPolicy", env)
        assert "continuous" in UNFIT[name]


def test_every_algorithm_of_both_libraries_is_an_entrant_or_said_not_to_fit() -> None:
    known = [getattr(library, name) for library in (stable_baselines3, sb3_contrib) for name in library.__all__]
    algorithms = [one.__name__ for one in known if isinstance(one, type) and issubclass(one, BaseAlgorithm)]
    assert sorted([*ALGORITHMS, *UNFIT]) == sorted(algorithms) == sorted([*DISCRETE, *CONTINUOUS])


def test_an_lstm_remembers_the_route_that_it_is_on() -> None:
    env = RoutingVecEnv(**SMALL, copies=20)
    made, policy, options = DISCRETE["RecurrentPPO"]
    model = made(policy, env, seed=0, **options)
    with torch.no_grad():
        for weight in model.policy.lstm_actor.parameters():  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
            weight.mul_(10)  # so that memory weighs much
    reader, game, memory, differs = env.policy(model), env.game, None, False
    state = game.reset()
    while True:
        seen = env.lanes.format.vectors(state)
        action, memory = model.predict(seen, memory, np.full(60, state.depth == 0), deterministic=True)
        assert reader(state).tolist() == reader(state).tolist() == action.tolist()
        differs |= not torch.equal(env.policy(model).values(state), reader.values(state))  # one that begins here
        following = game.step(Decision(reader(state)))
        if following is None:
            break
        state = following
    assert differs
    with pytest.raises(ValueError, match=r"1 lanes at depth 2 do not go on .* from depth 0 on"):
        reader(State(state.v[:1], state.task[:1], state.depth, state.legal[:1]))


def test_a_model_with_an_lstm_that_ends_within_a_route_goes_on_routing() -> None:
    envs = independent_envs(**SMALL)
    recurrent = RecurrentPPO("MlpLstmPolicy", envs[0], n_steps=4, batch_size=4, n_epochs=1)
    others = [A2C("MlpPolicy", env, n_steps=30) for env in envs[1:]]
    learn_together([recurrent, *others], 16)
    assert [model.num_timesteps for model in (recurrent, *others)] == [16, 30, 30]  # a route has three steps
    assert envs[0].game.samples == 3 * 10
