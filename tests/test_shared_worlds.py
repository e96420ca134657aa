"""Environments of one world: what they share, what evaluation leaves alone, and what is refused or warned about."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor
from worlds import snapshot

import routing_env
from routing_env import MultiTaskData
from routing_env.envs.independent import independent_envs
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.single import RoutingEnv
from routing_env.envs.vector import RoutingVectorEnv

ID = "routing_env:Routing-v0"


def shared_inputs(seed: int = 0) -> MultiTaskData:
    """Three tasks over the same inputs, so that every split has equally many samples of each."""
    inputs = np.random.default_rng(seed).normal(size=(30, 4)).astype(np.float32)
    return MultiTaskData.from_arrays(
        {name: (inputs, (inputs[:, column] > 0).astype(int)) for column, name in enumerate("abc")},
        test=0.3,
        validation=0.2,
    )


SMALL: dict[str, Any] = {"data": shared_inputs(), "network": "mlp", "hidden": 4, "learning_rate": 0.1, "rho": 0.3}
SHELLS: dict[str, Callable[..., Any]] = {
    "per_task": lambda **given: routing_env.parallel_env(**given),
    "single": lambda **given: routing_env.parallel_env(topology="single", **given),
    "dispatched": lambda **given: routing_env.parallel_env(topology="dispatched", agents=2, **given),
    "Gymnasium": lambda **given: gymnasium.make(ID, **given),
    "Gymnasium vector": lambda **given: gymnasium.make_vec(ID, num_envs=4, **given),
    "Stable-Baselines3": lambda **given: RoutingVecEnv(copies=2, **given),
}
numbers = itertools.count()


def changed(**change: Any) -> dict[str, Any]:
    return SMALL | change


@pytest.fixture
def name() -> str:
    """A name that no other test gives."""
    return f"world {next(numbers)}"


def state(env: Any) -> dict[str, Any]:
    game = env.unwrapped.game
    return snapshot(game) | {"dealer": repr(game.dealer.state_dict()), "pending": repr(game.state_dict()["pending"])}


def play(env: Any, episodes: int = 1, action: int = 0, *, seed: int | None = None) -> list[Any]:
    """Episodes in which every decision is the same; what the environment showed and paid."""
    shell, returned = env.unwrapped, []
    for episode in range(episodes):
        once = None if episode else seed
        if isinstance(shell, RoutingVecEnv):
            if once is not None:
                shell.seed(once)
            returned.append(shell.reset().copy())
        else:
            returned.append(shell.reset(seed=once)[0])
        over = False
        while not over:
            if isinstance(shell, routing_env.RoutingParallelEnv):
                seen, paid, *_ = shell.step(dict.fromkeys(shell.agents, action))
                over = not shell.agents
            elif isinstance(shell, RoutingEnv):
                seen, paid, over, *_ = shell.step(action)
            else:
                seen, paid, done, *_ = shell.step(np.full(shell.num_envs, action))
                over = bool(np.all(done))
            returned.append((copy.deepcopy(seen), copy.deepcopy(paid)))
    return returned


@pytest.mark.parametrize("evaluates", SHELLS)
@pytest.mark.parametrize("trains", SHELLS)
def test_evaluation_sees_what_is_trained_and_changes_nothing(trains: str, evaluates: str, name: str) -> None:
    env, twin = SHELLS[trains](world=name, **SMALL), SHELLS[trains](world=f"{name}, alone", **SMALL)
    views = [SHELLS[evaluates](world=name, split=split) for split in ("train", "validation", "test")]
    for episode in range(6):
        assert repr(play(env, seed=None if episode else 3)) == repr(play(twin, seed=None if episode else 3))
        before = state(env)
        for view in views:
            assert view.unwrapped.game is env.unwrapped.game
            assert state(view) == before
            play(view, 3, seed=episode if episode % 2 else None)
        assert state(env) == before == state(twin)
    assert env.unwrapped.game.samples > 0


@pytest.mark.parametrize("evaluates", SHELLS)
def test_a_full_pass_repeats_exactly_and_a_seed_restarts_it(evaluates: str, name: str) -> None:
    env = SHELLS["Gymnasium"](world=name, **SMALL)
    play(env, 70)
    view = SHELLS[evaluates](world=name, split="validation")
    lanes, samples = view.unwrapped.lanes.number, len(view.unwrapped.game.data.validation)
    episodes = -(-samples // lanes)
    first = play(view, episodes)
    assert repr(play(view, episodes)) == repr(first)
    play(view, 1)
    assert repr(play(view, episodes, seed=7)) == repr(first)
    assert repr(play(SHELLS[evaluates](world=name, split="validation"), episodes)) == repr(first)


def test_a_pass_over_a_split_is_the_split() -> None:
    uneven = MultiTaskData.from_arrays(
        {"a": (np.eye(12), np.arange(12) % 2), "b": (np.eye(12)[:7] * 2, np.arange(7) % 2)}, validation=0.0, test=0.3
    )
    view = RoutingEnv(data=uneven, network="mlp", hidden=4, train=False, split="train")
    tasks, seen = [], set[bytes]()
    for _ in range(len(uneven.train)):
        seen.add(view.reset()[0].tobytes())
        tasks.append(int(view.lanes.tasks[0]))
        for _ in range(3):
            view.step(0)
    assert len(seen) == len(uneven.train)
    assert tasks[:6] == [0, 1] * 3  # a round has a sample of every task as long as it has any
    assert view.evaluate(lambda agent, seen: 0, "train").samples.tolist() == [tasks.count(0), tasks.count(1)]


def test_samples_without_a_decision_are_dealt_again(name: str) -> None:
    view = RoutingEnv(world=name, train=False, **SMALL)
    first = view.reset()[0].tobytes()
    assert view.reset()[0].tobytes() == first
    view.step(0)
    assert view.reset()[0].tobytes() != first


@pytest.mark.parametrize("shell", SHELLS)
def test_a_frozen_environment_trains_and_counts_nothing(shell: str) -> None:
    env = SHELLS[shell](train=False, **SMALL)
    before = state(env)
    play(env, 40, seed=1)
    assert state(env) == before
    assert env.unwrapped.game.samples == 0
    other = copy.deepcopy(env.unwrapped)
    assert state(other) == before
    assert repr(play(other, 3)) == repr(play(env, 3))


def test_learners_of_one_world_take_turns(name: str) -> None:
    one, two = (routing_env.parallel_env(world=name, **SMALL) for _ in range(2))
    alone = routing_env.parallel_env(world=f"{name}, alone", **SMALL)
    for seed in (4, None, None):
        play(one, seed=seed)
        play(alone, seed=seed)
        play(two, action=1)
        play(alone, action=1)
        assert state(one) == state(two) == state(alone)
    one.reset()
    one.step(dict.fromkeys(one.agents, 0))
    play(two)
    before = state(two)
    with pytest.raises(RuntimeError, match="another environment has trained or restarted world"):
        one.step(dict.fromkeys(one.agents, 0))
    assert state(two) == before
    play(one)


def test_vectorised_environments_of_one_name_share_a_game(name: str) -> None:
    envs = make_vec_env(ID, n_envs=4, seed=5, env_kwargs={"world": name, "block_batch": 8, **SMALL})
    model = PPO("MlpPolicy", envs, n_steps=6, batch_size=12, n_epochs=1, seed=2).learn(240)
    games = {id(env.unwrapped.game) for env in envs.envs}  # pyright: ignore[reportAttributeAccessIssue]
    (game,) = {env.unwrapped.game for env in envs.envs}  # pyright: ignore[reportAttributeAccessIssue]
    assert len(games) == 1
    assert game.samples == 80
    assert game.settings.seed == 2  # of the first environment; the model gives the others 3, 4 and 5
    assert model.num_timesteps == 240


@pytest.mark.parametrize("ident", [ID, "Routing-v0"])
def test_stable_baselines3_evaluates_in_a_world_of_the_same_name(ident: str, name: str) -> None:
    env: Any = gymnasium.make(ident, world=name, block_batch=6, **SMALL)
    views: list[Any] = [gymnasium.make(ident, world=name, split="validation")]
    views.append(VecMonitor(RoutingVecEnv(world=name, split="validation")))
    episodes = len(env.unwrapped.game.data.validation)

    class Checked(EvalCallback):
        changed = False

        def _on_step(self) -> bool:
            before = state(env)
            super()._on_step()
            self.changed |= state(env) != before
            return True

    callbacks: list[Any] = [Checked(view, eval_freq=30, n_eval_episodes=episodes, verbose=0) for view in views]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="Training and eval env|Evaluation environment is not wrapped")
        model = PPO("MlpPolicy", env, n_steps=30, batch_size=30, n_epochs=1, seed=0).learn(120, callbacks)
    assert not any(callback.changed for callback in callbacks)
    expected = (
        2
        * env.unwrapped.evaluate(
            lambda _, seen: int(model.predict(seen, deterministic=True)[0]), "validation"
        ).overall_accuracy
        - 1
    )
    for view in views:
        means = [evaluate_policy(model, view, n_eval_episodes=episodes, warn=False)[0] for _ in range(3)]
        assert means == means[:1] * 3
    means = [evaluate_policy(model, view, episodes, warn=False)[0] for view in views]
    assert means[0] == pytest.approx(means[1])
    routed = evaluate_policy(model, views[0], episodes, return_episode_rewards=True, warn=False)[0]
    collaboration = 1.0  # rho pays more
    assert expected <= np.mean(routed) <= expected + collaboration


def test_settings_agree_with_the_world_or_are_refused(name: str) -> None:
    env = gymnasium.make(ID, world=name, block_batch=5, seed=1, **SMALL)
    play(env, 3, seed=8)
    before = state(env)
    others: dict[str, Any] = {"hidden": 8, "seed": 8, "network": "simple_convnet", "block_batch": 6, "rho": 0.0}
    for setting, value in others.items():
        with pytest.raises(TypeError, match=f"{setting} is {value!r}, but world '{name}' has "):
            SHELLS["Gymnasium"](world=name, split="test", **{setting: value})
    with pytest.raises(TypeError, match="data is another data set"):
        gymnasium.make(ID, world=name, data=shared_inputs(seed=1))
    with pytest.raises(TypeError, match="did you mean 'hidden'"):
        gymnasium.make(ID, world=name, hiden=4)
    with pytest.raises(TypeError, match=r"routes 3 samples at a time .* routes 1 .*split="):
        routing_env.parallel_env(world=name)
    with pytest.raises(ValueError, match="mask is 'nowhere'"):
        gymnasium.make(ID, world=f"{name}, other", mask="nowhere", **SMALL)
    with pytest.raises(TypeError, match="without a world"):
        gymnasium.make(ID, split="test", **SMALL)
    with pytest.raises(TypeError, match="train=True"):
        gymnasium.make(ID, world=name, split="test", train=True)
    with pytest.raises(ValueError, match="split is 'tset'"):
        gymnasium.make(ID, world=name, split="tset")
    with pytest.raises(TypeError, match="world is 3; it must be"):
        gymnasium.make(ID, world=3)
    assert state(env) == before
    same: dict[str, Any] = {**SMALL, "data": shared_inputs(), "block_batch": 5, "seed": 1}
    assert gymnasium.make(ID, world=name, **same).unwrapped.game is env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    other = gymnasium.make(ID, world=f"{name}, other", **changed(hidden=5))  # nothing was left under that name
    assert other.unwrapped.settings.hidden == 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("trains", SHELLS)
def test_the_evaluation_environment_may_be_made_first(trains: str, name: str) -> None:
    view = gymnasium.make(ID, world=name, split="test", **SMALL)
    env, twin = SHELLS[trains](world=name, **SMALL), SHELLS[trains](world=f"{name}, alone", **SMALL)
    assert view.unwrapped.game is env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    assert repr(play(env, 4)) == repr(play(twin, 4))
    assert state(view) == state(twin)


def test_a_name_without_a_learner_is_said(name: str) -> None:
    view = gymnasium.make(ID, world=name, split="test", **SMALL)
    with pytest.warns(UserWarning, match=f"no environment that trains world '{name}' has been made"):
        view.reset()


def test_a_name_ends_with_the_environments_that_train(name: str) -> None:
    env = RoutingVecEnv(world=name, **SMALL)
    view = RoutingVecEnv(world=name, split="test")
    play(env, 2)
    learned = state(env)
    env.close()
    new = RoutingVecEnv(world=name, **changed(hidden=5))
    assert new.game is not env.game
    assert state(view) == learned
    del new
    play(view)
    again = RoutingVecEnv(world=name, **SMALL)  # the garbage collector need not have run
    assert again.game.samples == 0
    del env, view, again
    gc.collect()
    assert RoutingVecEnv(world=name, **changed(hidden=6)).settings.hidden == 6


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickle.dumps])
def test_what_shares_its_world_is_not_copied(shell: str, duplicate: Any, name: str) -> None:
    for env in (SHELLS[shell](world=name, **SMALL), SHELLS[shell](world=name, split="test")):
        with pytest.raises(TypeError, match=r"shares its world with others cannot be copied; make another one"):
            duplicate(env.unwrapped.lanes)


def discards(said: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in said if "discards" in str(warning.message)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_seed_that_discards_learning_is_said_once(shell: str) -> None:
    env = SHELLS[shell](**SMALL)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for seed in (0, 1, 1):  # nothing has been learned yet
            play(env, 0, seed=seed)
            env.unwrapped.lanes.deal(seed)
        play(env, 2)
        assert not discards(said)
        dealt = env.unwrapped.game.samples
        play(env, 1, seed=1)
        play(env, 1, seed=2)
    (message,) = discards(said)
    assert (
        f"reset(seed=1) restarts the world and discards what its blocks have learned from {dealt} training" in message
    )
    assert "env.evaluate" in message
    assert "world=" in message
    assert any(warning.filename == __file__ for warning in said if str(warning.message) == message)


@pytest.mark.filterwarnings("error:.*discards")
def test_a_warning_that_is_an_error_comes_before_the_loss() -> None:
    env = RoutingEnv(**SMALL)
    play(env, 5)
    before = state(env)
    for _ in range(2):
        with pytest.raises(UserWarning, match="discards"):
            env.reset(seed=1)
    assert state(env) == before


def seconds(said: list[warnings.WarningMessage]) -> int:
    return sum("a second world of the same data and settings" in str(warning.message) for warning in said)


@pytest.mark.parametrize("other", SHELLS)
def test_a_second_learning_world_is_said_once(other: str) -> None:
    data = shared_inputs(seed=next(numbers) + 100)
    env = RoutingVecEnv(**changed(data=data))
    second = SHELLS[other](**changed(data=data))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        play(env, 2)
        assert not seconds(said)
        play(second, 3)
        play(env, 1)
    assert seconds(said) == 1
    assert all(
        "world=" in str(w.message) and "train=False" in str(w.message) for w in said if "second" in str(w.message)
    )


def test_worlds_side_by_side_are_said_and_others_are_not(name: str) -> None:
    data = shared_inputs(seed=next(numbers) + 200)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        make_and_play = [
            {"hidden": 5},
            {"seed": 3},
            {"data": shared_inputs(seed=next(numbers) + 300)},
            {"train": False},
            {"world": f"{name}, a"},
            {"world": f"{name}, a", "split": "test"},
        ]
        alive = [SHELLS["Stable-Baselines3"](**changed(**{"data": data, **change})) for change in make_and_play]
        for env in alive:
            play(env, 3)
        alive[4].close()
        for _ in range(3):  # one after the other, the last one is gone
            env = RoutingVecEnv(**changed(data=data))
            play(env, 2)
            copied = copy.deepcopy(env)
            play(copied, 2)  # a copy of a trained world is meant
            del env, copied
        assert not seconds(said)
        twice = shared_inputs(next(numbers) + 400)
        twins = [RoutingVecEnv(copies=2, **changed(data=twice)) for _ in range(2)]
        for twin in twins:
            twin.seed(3)
            twin.reset()
        for _ in range(9):
            for twin in twins:
                twin.step(np.zeros(6, np.int64))
        assert not seconds(said)
        envs = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", **changed(data=data))
        envs.reset()
        for _ in range(8):
            envs.step(np.zeros(2, np.int64))
    assert seconds(said) == 1


def unfinished(said: list[warnings.WarningMessage]) -> int:
    return sum("episodes was reset before its end, which comes after 3 steps" in str(w.message) for w in said)


@pytest.mark.parametrize(("limit", "times"), [(2, 1), (3, 0)])
def test_a_time_limit_below_the_depth_is_said_once(limit: int, times: int) -> None:
    env = gymnasium.make(ID, max_episode_steps=limit, **SMALL)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(30):
            env.reset()
            for _ in range(limit):
                env.step(0)
    assert unfinished(said) == times


@pytest.mark.parametrize("shell", ["per_task", "single", "dispatched"])
def test_episodes_that_never_end_are_said(shell: str) -> None:
    env, patient = (SHELLS[shell](**SMALL, world=f"unfinished {shell} {next(numbers)}") for _ in range(2))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        play(patient)
        for each in (env, patient):
            for _ in range(30):
                each.reset()
                each.reset()
                for _ in range(2):
                    each.step(dict.fromkeys(each.agents, 0))
    assert unfinished(said) == 1


CALLS = ("play", "play", "play", "evaluate", "seeded evaluation", "half", "wrong", "join", "refused", "measure")


@settings(max_examples=30)
@given(st.lists(st.sampled_from(CALLS), max_size=12), st.sampled_from(sorted(SHELLS)), st.sampled_from(sorted(SHELLS)))
def test_only_right_training_calls_change_a_world(calls: list[str], trains: str, evaluates: str) -> None:
    name = f"fuzzed {next(numbers)}"
    env, twin = SHELLS[trains](world=name, **SMALL), SHELLS[trains](world=f"{name}, alone", **SMALL)
    view = SHELLS[evaluates](world=name, split="test")
    for call in calls:
        if call == "play":
            assert repr(play(env, action=1)) == repr(play(twin, action=1))
        elif call in ("evaluate", "seeded evaluation"):
            play(view, 2, seed=3 if call[0] == "s" else None)
        elif call == "half":
            view.unwrapped.lanes.deal()
            view.unwrapped.lanes.step(np.zeros(view.unwrapped.lanes.number, np.int64))
        elif call == "wrong":
            with pytest.raises(ValueError, match="seed is"):
                env.unwrapped.lanes.deal(-1)
            with pytest.raises(ValueError, match="seed is"):
                view.unwrapped.lanes.deal(-1)
        elif call == "join":
            SHELLS[trains](world=name)
        elif call == "refused":
            with pytest.raises(TypeError, match="hidden is 9"):
                SHELLS[evaluates](world=name, hidden=9)
        else:
            env.unwrapped.game.evaluate(lambda at: at.task * 0)
        assert state(env) == state(twin)


def test_independent_learners_share_worlds_too(name: str) -> None:
    envs = independent_envs(world=name, **SMALL)
    view = RoutingVectorEnv(4, world=name, split="validation")
    assert view.game is envs[0].game
