"""The PettingZoo environment: seeding, agreement with the game, errors, evaluation, copies."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from worlds import layered
from zoo import MASKS, RECURSIVE, TOPOLOGIES, legal_actions, play, same, weights

from routing_env import Decision, MultiTaskData, State, make_game, parallel_env
from routing_env.agents.fixed import Fixed
from routing_env.data import Split, load, make_data
from routing_env.game.network import RoutedNetwork, linear_layers, mlp
from routing_env.names import reference


@pytest.fixture(scope="module")
def digits() -> MultiTaskData:
    return load("digits")


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 8},
        {"network": "mlp", "rho": 0.5, "topology": "single", **RECURSIVE},
        {"network": "mlp", "hidden": 8, "block_batch": 24, "optimizer": "adam", "topology": "dispatched"},
    ],
)
def test_the_same_seed_is_the_same_world_for_200_episodes(digits: MultiTaskData, options: dict[str, Any]) -> None:
    first, second = (parallel_env(data=digits, mask="both", **options) for _ in range(2))
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    start = weights(first)
    for episode in range(200):
        seed = 7 if episode == 0 else None
        assert same(play(first, rngs[0], seed=seed), play(second, rngs[1], seed=seed))
        assert same(weights(first), weights(second))
    assert not same(start, weights(first))


def test_reset_keeps_and_reset_with_a_seed_restarts_the_world(digits: MultiTaskData) -> None:
    env = parallel_env(data=digits, hidden=8, rho=0.5)
    rng = np.random.default_rng(0)
    opening, _ = env.reset(seed=3)
    blocks = weights(env)
    for _ in range(3):
        play(env, rng)
    learned = weights(env)
    assert not same(learned, blocks)
    following, _ = env.reset()
    assert same(weights(env), learned)
    assert not same(following, opening)
    assert same(env.reset(seed=3)[0], opening)
    assert same(weights(env), blocks)
    assert not env.game.collaboration.state_dict()["average"].any()
    assert not same(env.reset(seed=4)[0], opening)
    assert not same(weights(env), blocks)


def test_the_seed_of_a_reset_is_that_of_the_constructor(digits: MultiTaskData) -> None:
    constructed, reset = parallel_env(data=digits, seed=5, hidden=8), parallel_env(data=digits, seed=1, hidden=8)
    assert same(constructed.reset(), reset.reset(seed=5))
    assert same(weights(constructed), weights(reset))


@pytest.mark.parametrize("seed", [np.int64(5), np.uint8(5), np.array(5), 2**63 - 1], ids=repr)
def test_any_integer_is_a_seed(small: MultiTaskData, seed: Any) -> None:
    env, constructed = parallel_env(data=small, hidden=4), parallel_env(data=small, hidden=4, seed=seed)
    assert same(env.reset(seed=seed), parallel_env(data=small, hidden=4, seed=int(seed)).reset())
    assert type(env.settings.seed) is type(constructed.settings.seed) is int
    assert env.settings == constructed.settings
    copy.deepcopy(env)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "1"], ids=repr)
def test_a_reset_that_fails_changes_nothing(small: MultiTaskData, seed: Any) -> None:
    env = parallel_env(data=small, hidden=4, seed=2)
    game, config = env.game, env.settings
    with pytest.raises(ValueError, match=r"seed is .*; it must be an integer from 0 to 2\*\*63 - 1"):
        env.reset(seed=seed)
    assert env.game is game
    assert env.settings == config

    broken = False

    def network(data: MultiTaskData) -> RoutedNetwork:
        if broken:
            raise ArithmeticError
        return mlp(data.input_shape, data.outputs, 2)

    own = parallel_env(data=small, network=network)
    game, broken = own.game, True
    with pytest.raises(ArithmeticError):
        own.reset(seed=7)
    assert own.game is game
    assert own.settings.seed == 0


def test_libraries_may_play_in_inference_mode(small: MultiTaskData) -> None:
    def run(*, inference: bool) -> list[torch.Tensor]:
        with torch.inference_mode(inference):
            env, rng = parallel_env(data=small, rho=0.3, **RECURSIVE), np.random.default_rng(0)
            play(env, rng, seed=1)
            for _ in range(5):
                play(env, rng)
            env.evaluate(Fixed(env.game.spec))
        play(env, rng)
        return weights(env)

    assert same(run(inference=True), run(inference=False))


@pytest.mark.parametrize("options", [{"rho": 0.3}, {"rho": 1.0, "collaboration": "count", **RECURSIVE}])
def test_agents_see_and_earn_what_the_game_says(digits: MultiTaskData, options: dict[str, Any]) -> None:
    env = parallel_env(data=digits, **options)
    game = make_game(**options, data=digits, dealer="per_task", batch_size=digits.tasks)
    spec, rng = game.spec, np.random.default_rng(0)
    for _ in range(4):
        (observations, infos), state = env.reset(), game.reset()
        earned = np.zeros((spec.tasks, spec.depth), dtype=np.float32)
        for depth in range(spec.depth):
            assert state is not None
            one_hots = np.eye(spec.tasks), np.tile(np.eye(spec.depth)[depth], (spec.tasks, 1))
            expected = np.concatenate([state.v.numpy(), *one_hots], axis=1)
            for lane, agent in enumerate(env.agents):
                np.testing.assert_array_equal(observations[agent]["observation"], expected[lane])
                np.testing.assert_array_equal(observations[agent]["action_mask"], state.legal[lane].numpy())
            np.testing.assert_array_equal(env.state(), expected.astype(np.float32).ravel())
            actions = legal_actions(env, observations, rng)
            observations, rewards, terminations, truncations, infos = env.step(actions)
            state = game.step(Decision(torch.tensor(list(actions.values()))))
            earned[:, depth] = list(rewards.values())
            assert set(terminations.values()) == {depth == spec.depth - 1}
            assert not any(truncations.values())
        assert state is None
        assert env.agents == []
        trace, outcome = game.trace, game.trace.outcome
        immediate = trace.action_rewards.numpy()
        immediate[:, -1] += game.trace.final_reward.numpy()
        np.testing.assert_array_equal(earned, immediate)
        for lane, agent in enumerate(env.possible_agents):
            vector = observations[agent]["observation"]
            np.testing.assert_array_equal(vector[: digits.outputs], outcome.output[lane].numpy())
            assert not vector[digits.outputs : spec.features].any()
            assert not vector[spec.features + spec.tasks :].any()
            assert observations[agent]["action_mask"].all()
            assert infos[agent] == {
                "task": lane,
                "correct": bool(outcome.correct[lane]),
                "prediction": int(outcome.prediction[lane]),
                "label": int(outcome.target[lane]),
                "loss": float(outcome.loss[lane]),
                "final_reward": float(game.trace.final_reward[lane]),
                "route": trace.actions[lane].tolist(),
            }
    assert same(weights(env), [parameter.detach() for parameter in game.network.parameters()])


def test_masks_are_where_they_were_asked_for(small: MultiTaskData) -> None:
    for mask in MASKS:
        env = parallel_env(data=small, mask=mask, **RECURSIVE)
        observations, infos = env.reset()
        seen, info = observations["task_0"], infos["task_0"]
        assert isinstance(seen, dict) == (mask in ("obs", "both"))
        assert ("action_mask" in info) == (mask in ("info", "both"))
        for holder in (seen, info):
            if "action_mask" in holder:
                assert holder["action_mask"].dtype == np.int8
                assert holder["action_mask"].tolist() == env.game.spec.legal[0].int().tolist()


def test_an_illegal_action_loses_the_route_and_trains_nothing(digits: MultiTaskData) -> None:
    env = parallel_env(data=digits, **RECURSIVE)
    observations, _ = env.reset(seed=0)
    start = weights(env)
    last_layer = layered(env.game.network).own_actions(2)[0]
    assert not observations["task_0"]["action_mask"][last_layer]
    with pytest.warns(UserWarning, match=f"task_0 chose action {last_layer}") as warned:
        observations, rewards, _, _, infos = env.step(dict.fromkeys(env.agents, last_layer))
    assert len(warned) == 1
    assert set(rewards.values()) == {0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while env.agents:
            observations, rewards, _, _, infos = env.step(dict.fromkeys(env.agents, last_layer))
        assert set(rewards.values()) == {-1.0}
        for info in infos.values():
            assert info["illegal_action"] == last_layer
            assert info["correct"] is False
            assert info["final_reward"] == -1.0
        assert same(weights(env), start)

        # One lost route beside nine that are not: the nine train as ever.
        observations, _ = env.reset()
        rng = np.random.default_rng(0)
        observations, _, _, _, infos = env.step({**legal_actions(env, observations, rng), "task_4": last_layer})
        assert [agent for agent, info in infos.items() if "illegal_action" in info] == ["task_4"]
        while env.agents:
            observations, rewards, _, _, infos = env.step(legal_actions(env, observations, rng))
    assert rewards["task_4"] == -1.0
    assert "illegal_action" not in infos["task_3"]
    assert not same(weights(env), start)


def test_a_lost_route_ends_where_it_was_lost(small: MultiTaskData) -> None:
    env = parallel_env(data=small, **RECURSIVE)
    env.reset()
    last_layer = layered(env.game.network).own_actions(2)
    env.step(dict.fromkeys(env.agents, 1))
    with pytest.warns(UserWarning, match="task_1 chose action"):
        env.step({"task_0": 3, "task_1": last_layer[0], "task_2": 4})
    infos = env.step(dict.fromkeys(env.agents, last_layer[1]))[-1]
    assert [infos[agent]["route"] for agent in infos] == [[1, 3, last_layer[1]], [1, -1, -1], [1, 4, last_layer[1]]]


def test_your_own_network_and_loss(small: MultiTaskData) -> None:
    def narrow(data: MultiTaskData) -> RoutedNetwork:
        layers = linear_layers([*data.input_shape, 6, data.outputs], [1, 4])
        return RoutedNetwork(torch.nn.Flatten(), layers, data.input_shape)

    def constant(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 0 * output.sum(1) + 2.5

    env = parallel_env(data=small, network=narrow, loss=constant)
    assert reference(env.settings.network).endswith(":test_your_own_network_and_loss.<locals>.narrow")
    observations, _ = env.reset()
    assert observations["task_0"]["action_mask"].tolist() == [1, 0, 0, 0]
    end = play(env, np.random.default_rng(0))[-1]
    assert end[4]["task_1"]["loss"] == 2.5
    first = weights(env)
    env.reset(seed=1)
    assert not same(weights(env), first)


def test_the_settings_say_what_a_network_function_has_built(small: MultiTaskData) -> None:
    def deep(data: MultiTaskData) -> RoutedNetwork:
        return mlp(data.input_shape, data.outputs, [2, 5], layers=2, recursive=True, pass_action=True, depth=4)

    env = parallel_env(data=small, network=deep)
    env.reset(seed=3)
    config = env.settings
    assert (config.recursive, config.pass_action, config.depth, config.layers, config.blocks) == (True, True, 4, 2, 5)
    assert config.seed == 3
    hash(config)
    ignored: dict[str, Any] = {
        "recursive": True,
        "pass_action": False,
        "depth": 2,
        "blocks": 3,
        "layers": 1,
        "hidden": 8,
    }
    for name, value in ignored.items():
        with pytest.raises(TypeError, match=f"{name} is {value} beside a network function"):
            parallel_env(data=small, network=deep, **{name: value})


def test_regression_tasks_report_values(small: MultiTaskData) -> None:
    target = torch.linspace(-1, 1, len(small.train)).unsqueeze(1)
    split = Split(small.train.index, small.train.task, target)
    data = make_data("line", small.inputs, split, split, small.task_names, None, validation=0.0)
    env = parallel_env(data=data, hidden=4, render_mode="ansi")
    _, rewards, _, _, infos = play(env, np.random.default_rng(0))[-1]
    info = infos["task_2"]
    assert rewards["task_2"] == -info["loss"]
    assert info["loss"] == pytest.approx((info["prediction"][0] - info["label"][0]) ** 2, rel=1e-5)
    assert "✗" not in str(env.render())


@pytest.mark.parametrize(
    ("how", "midway", "topology"),
    [
        ("pickle", False, "per_task"),
        ("pickle", True, "dispatched"),
        ("deepcopy", False, "single"),
        ("deepcopy", True, "per_task"),
    ],
)
def test_a_copy_goes_on_like_the_original(small: MultiTaskData, how: str, midway: bool, topology: Any) -> None:
    env = parallel_env(data=small, topology=topology, rho=0.5, optimizer="adam", block_batch=7, **RECURSIVE)
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    for _ in range(5):
        play(env, rng)
    if midway:
        observations, _ = env.reset()
        for _ in range(2):
            observations, *_ = env.step(legal_actions(env, observations, rng))
    twin = copy.deepcopy(env) if how == "deepcopy" else pickle.loads(pickle.dumps(env))  # noqa: S301
    assert same(weights(twin), weights(env))
    with pytest.raises(RuntimeError, match="call reset"):
        twin.step(dict.fromkeys(env.possible_agents, 0))
    for _ in range(8):
        rngs = np.random.default_rng(1), np.random.default_rng(1)
        assert same(play(env, rngs[0]), play(twin, rngs[1]))
        assert same(weights(twin), weights(env))


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda topology: topology["topology"])
def test_evaluate_agrees_with_the_game_whoever_asks(digits: MultiTaskData, topology: dict[str, Any]) -> None:
    env = parallel_env(data=digits, recursive=True, pass_action=True, hidden=8, **topology)
    observations, _ = env.reset()
    router = Fixed(env.game.spec)
    start = weights(env)

    def batched(state: State) -> torch.Tensor:
        return router.act(state, greedy=True).action

    def one_agent(agent: str, observation: dict[str, Any]) -> int:
        seen = observation["observation"][env.game.spec.features :]
        task, depth = int(seen[: env.game.spec.tasks].argmax()), int(seen[env.game.spec.tasks :].argmax())
        if agent == "dispatcher_0":
            assert depth == 0
            return task % 2
        assert agent == {"per_task": f"task_{task}", "single": "router_0"}.get(
            topology["topology"], f"router_{task % 2}"
        )
        action = int(router.actions[task, depth])
        assert observation["action_mask"][action]
        return action

    expected = env.game.evaluate(batched, "validation")
    for result in (
        env.evaluate(router, "validation"),
        env.evaluate(batched, "validation", batched=True),
        env.evaluate(one_agent, "validation"),
    ):
        assert same(vars(result), vars(expected))
    assert same(weights(env), start)
    env.step(legal_actions(env, observations, np.random.default_rng(0)))
    dispatched = topology["topology"] == "dispatched"
    with pytest.raises(ValueError, match="action of dispatcher_0 is" if dispatched else "illegal at depth 1"):
        env.evaluate(lambda agent, observation: env.game.spec.actions - 2)
