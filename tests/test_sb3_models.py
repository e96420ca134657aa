"""Models of Stable-Baselines3 with their games: saved and restored whole, read right, or refused with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from sb3_contrib import ARS, QRDQN, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize
from worlds import little_data

from routing_env.checkpoint import load_tree, save_tree
from routing_env.envs.independent import TaskEnv, independent_envs, learn_together
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.sb3_models import SaveBest, SavedModel, SaveEvery, load, save
from routing_env.state_dicts import same_state

pytestmark = pytest.mark.filterwarnings("ignore:.*heed the action mask")

SMALL: dict[str, Any] = {"data": little_data(), "network": "mlp", "hidden": 4, "learning_rate": 0.1}
NO_TIMEOUTS: dict[str, Any] = {"handle_timeout_termination": False}
ROLLOUT: dict[str, Any] = {"n_steps": 6, "batch_size": 12}
REPLAY: dict[str, Any] = {"learning_starts": 6, "buffer_size": 120, "batch_size": 8, "target_update_interval": 30}

Make = Callable[..., BaseAlgorithm]


def build(kind: Any, options: dict[str, Any], wrap: Any = None, policy: str = "MlpPolicy", **settings: Any) -> Any:
    given: dict[str, Any] = {**SMALL, "copies": 2, **settings}
    env: Any = RoutingVecEnv(**given)
    return kind(policy, env if wrap is None else wrap(env), seed=0, **options)


KINDS: dict[str, tuple[Any, ...]] = {
    "PPO": (PPO, {**ROLLOUT, "n_epochs": 2}),
    "A2C": (A2C, {"n_steps": 3}),
    "A2C with Adam": (A2C, {"n_steps": 3, "use_rms_prop": False}),
    "TRPO": (TRPO, ROLLOUT),
    "MaskablePPO": (MaskablePPO, ROLLOUT),
    "RecurrentPPO": (RecurrentPPO, {**ROLLOUT, "n_epochs": 1}, None, "MlpLstmPolicy"),
    "ARS": (ARS, {"n_delta": 2, "n_eval_episodes": 6}, None, "LinearPolicy"),
    "DQN": (DQN, REPLAY),
    "DQN, a full buffer": (DQN, {**REPLAY, "buffer_size": 30}),
    "DQN, timeouts not handled": (DQN, {**REPLAY, "replay_buffer_kwargs": NO_TIMEOUTS}),
    "DQN, observations kept once": (
        DQN,
        {**REPLAY, "optimize_memory_usage": True, "replay_buffer_kwargs": NO_TIMEOUTS},
    ),
    "DQN, observations kept once in a full buffer": (
        DQN,
        {**REPLAY, "buffer_size": 30, "optimize_memory_usage": True, "replay_buffer_kwargs": NO_TIMEOUTS},
    ),
    "DQN, three steps": (DQN, {**REPLAY, "n_steps": 3}),
    "QRDQN": (QRDQN, REPLAY),
    "PPO, normalised": (PPO, ROLLOUT, VecNormalize),
    "DQN, normalised": (DQN, REPLAY, lambda env: VecNormalize(VecMonitor(env))),
    "PPO, stacked": (PPO, ROLLOUT, lambda env: VecFrameStack(env, 2)),
}


def everything(model: BaseAlgorithm) -> Any:
    """All that loading or training may change."""
    normalise = model.get_vec_normalize_env()
    return deepcopy([SavedModel(model).state_dict(), game_of(model).state_dict(), normalise and normalise.returns])


def game_of(model: BaseAlgorithm) -> Any:
    env: Any = model.get_env()
    return env.unwrapped.game


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [0, 90])
def test_a_saved_model_goes_on_to_the_same_bits_in_a_twin(kind: str, before: int, tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    model, twin = build(*KINDS[kind]).learn(75), build(*KINDS[kind], seed=1)
    if before:
        twin.learn(before)
    save(path, model)
    expected = everything(model)
    model.learn(50)
    load(path, twin)
    assert same_state(everything(twin)[:2], expected[:2])
    twin.learn(50)
    assert same_state(everything(twin), everything(model))
    load(path, model)  # a model that has gone on goes back
    assert same_state(everything(model)[:2], expected[:2])


class OwnBuffer(ReplayBuffer):
    """A replay buffer from outside, which might keep anything."""


OTHERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "algorithm": ((A2C, {"n_steps": 3}), {}, "algorithm is '.*PPO' in the state, and '.*A2C' here"),
    "optimiser": ((DQN, REPLAY), {}, "lacks replay; .*algorithm is '.*PPO'"),
    "policy": ((MaskablePPO, ROLLOUT), {}, "policy is '.*:ActorCriticPolicy' in the state, and '.*:Maskable"),
    "lanes": ((PPO, ROLLOUT), {"copies": 3}, "settings/batch_size is 6 in the state, and 9 here"),
    "parts": ((PPO, ROLLOUT), {"parts": ("task",)}, r"observation_space is 'Box.* in the state, and 'Box"),
    "net": ((PPO, {**ROLLOUT, "policy_kwargs": {"net_arch": [5]}}), {}, r"float32 \[64, .*, and float32 \[5, "),
    "optimizer": (
        (PPO, {**ROLLOUT, "policy_kwargs": {"optimizer_class": torch.optim.RMSprop}}), {}, "/state/0 lacks square_avg",
    ),
    "normalised": ((PPO, ROLLOUT, VecNormalize), {}, r"Normalize is \[\] in the state, and \['obs_rms', 'ret_rms'\]"),
    "blocks": ((PPO, ROLLOUT), {"hidden": 5}, "settings/hidden is 4 in the state, and 5 here"),
    "reward": ((PPO, ROLLOUT), {"final_reward": "team"}, "final_reward is 'correct' in the state, and 'team' here"),
    "data": ((PPO, ROLLOUT), {"data": little_data(seed=2)}, "data/train is '.*' in the state, and '.*' here"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_does_not_fit_is_refused_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    made, settings, words = OTHERS[kind]
    save(tmp_path / "file", build(PPO, ROLLOUT).learn(40))
    model = build(*made, **settings).learn(40)
    before = everything(model)
    with pytest.raises(ValueError, match=f"file does not fit this model and its game: .*{words}.*; build both as they"):
        load(tmp_path / "file", model)
    assert same_state(everything(model), before)
    model.learn(20, reset_num_timesteps=False)  # the deal under way goes on


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"buffer_size": 60}, "buffer_size is 120 in the state, and 60 here"),
        ({"n_steps": 3}, "replay_buffer is 'ReplayBuffer' in the state, and 'NStepReplayBuffer' here"),
        (
            {"replay_buffer_kwargs": NO_TIMEOUTS},
            "'handle_timeout_termination': True.* 'handle_timeout_termination': False",
        ),
        ({"replay_buffer_kwargs": NO_TIMEOUTS, "optimize_memory_usage": True}, "'optimize_memory_usage': True"),
    ],
    ids=str,
)
def test_another_replay_buffer_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    save(tmp_path / "file", build(DQN, REPLAY).learn(40))
    model = build(DQN, {**REPLAY, **options}).learn(40)
    before = everything(model)
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "file", model)
    assert same_state(everything(model), before)


@pytest.mark.parametrize("kind", ["PPO", "DQN, a full buffer", "DQN, normalised"])
def test_a_damaged_state_is_refused_wherever_the_damage_is(kind: str, tmp_path: Path) -> None:
    save(tmp_path / "good", build(*KINDS[kind]).learn(75))
    good = load_tree(tmp_path / "good")
    model = build(*KINDS[kind]).learn(40)
    before = everything(model)
    cuts: list[tuple[Any, ...]] = [("versions",), ("game",), ("game", "trainer", "samples"), ("model", "counters")]
    cuts += [("model", name) for name in good["model"]]
    for cut in cuts:
        bad = deepcopy(good)
        node = bad
        for name in cut[:-1]:
            node = node[name]
        del node[cut[-1]]
        save_tree(tmp_path / "bad", bad)
        with pytest.raises(ValueError, match=f"lacks {cut[-1]}"):
            load(tmp_path / "bad", model)
    wrong: list[tuple[str, Any]] = [
        ("torch", torch.zeros_like(good["model"]["torch"])),
        ("numpy", [torch.zeros(624, dtype=torch.int64), 10**6, 0, 0.0]),
        ("numpy", [torch.zeros(3, dtype=torch.int64), 0, 0, 0.0]),
        ("numpy", [torch.full([624], -1), 0, 0, 0.0]),
        ("actions", {**good["model"]["actions"], "bit_generator": "MT19937"}),
        ("counters", {**good["model"]["counters"], "num_timesteps": 1.5}),
    ]
    if "replay" in good["model"]:
        wrong += [("replay", {**good["model"]["replay"], "pos": place}) for place in (-1, 10**6)]
        wrong += [("replay", {**good["model"]["replay"], "full": not good["model"]["replay"]["full"]})]
    for name, value in wrong:
        save_tree(tmp_path / "bad", {**good, "model": {**good["model"], name: value}})
        with pytest.raises(ValueError, match="build both as they were"):
            load(tmp_path / "bad", model)
    assert same_state(everything(model), before)
    for tree in ({}, [], {"more": 1, **good}):
        save_tree(tmp_path / "bad", tree)
        with pytest.raises(ValueError, match="build both as they were"):
            load(tmp_path / "bad", model)
    assert same_state(everything(model), before)


def test_what_cannot_be_saved_is_refused_before_training(tmp_path: Path) -> None:
    model = build(DQN, {**REPLAY, "replay_buffer_class": OwnBuffer})
    on_its_own = PPO("MlpPolicy", gymnasium.make("CartPole-v1"), n_steps=8, batch_size=8)
    for strange, words in (
        (model, "OwnBuffer cannot be saved"),
        (on_its_own, "only one on a RoutingVecEnv has a game"),
    ):
        for callback in (SaveBest(tmp_path / "file"), SaveEvery(tmp_path / "file", 10)):
            with pytest.raises(TypeError, match=words):
                strange.learn(100, callback)
            assert not strange.num_timesteps
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load(tmp_path / "none", build(PPO, ROLLOUT))
    with pytest.raises(ValueError, match="every is 0"):
        SaveEvery(tmp_path / "file", 0)


@pytest.mark.parametrize("kind", ["PPO", "PPO, normalised", "DQN", "QRDQN"])
def test_the_best_model_comes_back_with_its_blocks(kind: str, tmp_path: Path) -> None:
    class Watch(SaveBest):
        """Notes what the saved model can do."""

        def _on_step(self) -> bool:
            reached.append(env.evaluate(self.model).loss.tolist())
            return super()._on_step()

    reached: list[list[float]] = []
    model = build(*KINDS[kind])
    env = model.get_env().unwrapped
    view: Any = VecMonitor(env.evaluation_view("validation"))
    if model.get_vec_normalize_env() is not None:
        view = VecNormalize(view, training=False)
    best = Watch(tmp_path / "new" / "best.safetensors")
    model.learn(400, EvalCallback(view, callback_on_new_best=best, eval_freq=7, n_eval_episodes=6, verbose=0))
    assert reached
    restored = build(*KINDS[kind], seed=3)
    load(best.path, restored)
    assert restored.get_env().unwrapped.evaluate(restored).loss.tolist() == reached[-1]


def test_save_every_keeps_up_with_training(tmp_path: Path) -> None:
    steps: list[int] = []

    class Watch(SaveEvery):
        """Notes the steps at which the file is new."""

        def _on_step(self) -> bool:
            before = self.path.stat().st_mtime_ns if self.path.exists() else None
            super()._on_step()
            if self.path.exists() and self.path.stat().st_mtime_ns != before:
                steps.append(self.num_timesteps)
            return True

    model = build(PPO, ROLLOUT)
    model.learn(144, Watch(tmp_path / "file", 50))
    assert steps == [54, 108]
    restored = build(PPO, ROLLOUT)
    load(tmp_path / "file", restored)
    assert same_state(everything(restored)[:2], everything(model)[:2])  # it was saved at the end, too


def test_a_plain_zip_on_other_blocks_is_warned_of_once(tmp_path: Path) -> None:
    model = build(PPO, ROLLOUT)
    env = model.get_env()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.evaluate(model)  # neither has learned
        model.learn(50)
        env.evaluate(model)
    model.save(tmp_path / "plain.zip")
    fresh = RoutingVecEnv(**SMALL, copies=2)
    plain = PPO.load(tmp_path / "plain.zip", env=fresh)
    with pytest.warns(UserWarning, match="has trained for 72 steps, but the blocks .*sb3_models") as caught:
        fresh.evaluate(plain)
    assert [warning.filename for warning in caught] == [__file__]
    save(tmp_path / "both", model)
    other = build(PPO, ROLLOUT)
    load(tmp_path / "both", other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.evaluate(plain)
        other.get_env().evaluate(other)
    with pytest.warns(UserWarning, match="sb3_models") as caught:
        RoutingVecEnv(**SMALL, copies=2).policy(plain)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "PPO, stacked"])
def test_a_model_is_read_as_it_predicts(kind: str) -> None:
    model = build(*KINDS[kind]).learn(60)
    env = model.get_env().unwrapped
    state = env.game.reset()
    seen = env.lanes.format.vectors(state)
    normalise = model.get_vec_normalize_env()
    given = seen if normalise is None else normalise.normalize_obs(seen)
    assert env.policy(model)(state).tolist() == model.predict(given, deterministic=True)[0].tolist()
    assert env.evaluate(model).samples.tolist() == [6, 6, 6]


def test_models_that_cannot_be_read_are_refused_with_the_reason() -> None:
    model = build(*KINDS["PPO, stacked"])
    with pytest.raises(TypeError, match=r"through the wrapper VecFrameStack.*evaluate_policy"):
        model.get_env().unwrapped.evaluate(model)
    env = RoutingVecEnv(**SMALL)
    blind = PPO("MlpPolicy", RoutingVecEnv(**SMALL, parts=("task",)), **ROLLOUT)
    with pytest.raises(
        TypeError, match=r"shape \(3,\); those of this environment have \(9,\)|shape .* use the same parts"
    ):
        env.evaluate(blind)
    with pytest.raises(TypeError, match="routing is discrete"):
        env.evaluate(SAC("MlpPolicy", "Pendulum-v1", buffer_size=10))


def test_independent_learners_are_refused_before_anything_learns() -> None:
    class Doubled(gymnasium.ObservationWrapper[Any, Any, Any]):
        """Observations times two."""

        def observation(self, observation: Any) -> Any:
            """Twice as large."""
            return 2 * observation

    def doubled(env: TaskEnv) -> BaseAlgorithm:
        return PPO("MlpPolicy", Doubled(env), n_steps=6, batch_size=6)

    envs = independent_envs(**SMALL)
    models = [PPO("MlpPolicy", env, n_steps=6, batch_size=6) for env in envs[1:]]
    with pytest.raises(TypeError, match="wrapper Doubled"):
        learn_together([*models, doubled(envs[0])], 12)
    assert [model.num_timesteps for model in models] == [0, 0]
    assert not envs[0].game.samples
