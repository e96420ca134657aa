"""Models of Stable-Baselines3 as routers: how they begin, what they draw from, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from worlds import little_data

from routing_env.benchmark.option_table import option_rows
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.sb3_algorithms import ALGORITHMS
from routing_env.envs.sb3_router import SB3Router, TaskAndDepth, defaults
from routing_env.game.build import make_game
from routing_env.state_dicts import same_state
from routing_env.types import Decision, State

pytestmark = pytest.mark.filterwarnings("ignore:.*heed the action mask")

SMALL: dict[str, Any] = {"data": little_data(), "network": "mlp", "hidden": 4, "learning_rate": 0.1}


def player(algorithm: str, **options: Any) -> SB3Router:
    game = make_game(**SMALL, recursive=True, pass_action=True, batch_size=6, dealer="endless")
    return SB3Router(game, 6, algorithm, **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_listed_options_are_those_of_the_model(algorithm: str) -> None:
    rows = {option: (default, meaning) for option, default, meaning in option_rows(f"sb3:{algorithm}")}
    router = SB3Router(make_game(data="digits", fraction=0.1, batch_size=64, dealer="endless"), 64, algorithm)
    told = {name: vars(router.model)[name] for name in rows.keys() & vars(router.model).keys()}
    plain = {name: str(value) for name, value in told.items() if isinstance(value, int | float)}
    assert len(plain) > 5
    assert {name: rows[name][0] for name in plain} == plain
    for option, (default, meaning) in rows.items():
        announced = f" {option} {default}" in router.remark
        assert announced == ("(Stable-Baselines3:" in meaning) or option in ("parts", "decided")
        assert "`" not in meaning


def test_minibatches_divide_a_rollout_and_have_two_samples() -> None:
    for depth, lanes in product(range(1, 8), range(1, 70)):
        settings = defaults("PPO", tasks=2, depth=depth, lanes=lanes)
        size, rollout = settings["batch_size"], settings["n_steps"] * lanes
        assert rollout % size == 0
        assert size >= 2
        assert size >= rollout // 5, "as few steps of the optimiser as the epochs of PPO are meant for"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tasks_begin_with_routes_of_their_own(algorithm: str) -> None:
    game = make_game(data="digits", network="mlp", hidden=4, fraction=0.1, batch_size=64, dealer="endless")
    router = SB3Router(game, 64, algorithm)
    state = game.reset()
    one_of_each = [int((state.task == task).nonzero()[0, 0]) for task in state.task.unique()]
    policy = router.probability(state)[one_of_each]
    assert len(policy.argmax(1).unique()) > 3
    assert torch.special.entr(policy).sum(1).mean() < 1  # uniform is 2.3


def test_quantiles_of_an_action_begin_alike_and_those_of_other_actions_apart() -> None:
    model = SB3Router(make_game(**SMALL, batch_size=6, dealer="endless"), 6, "QRDQN").model
    policy: Any = model.policy
    pairs = torch.eye(6)[:3] + torch.eye(6)[3:]
    for net in (policy.quantile_net, policy.quantile_net_target):
        values = net(pairs)
        assert values.shape == (3, 25, 3)
        assert torch.equal(values, values[:, :1].expand_as(values))
        assert values.std(2).min() > 0.01


def test_a_table_has_a_feature_for_each_task_and_depth() -> None:
    env = RoutingVecEnv(**SMALL, parts=("task", "depth"))
    tasks, depth = env.game.spec.tasks, env.game.spec.depth
    pairs = [torch.cat([task, step]) for task in torch.eye(tasks) for step in torch.eye(depth)]
    space: Any = env.observation_space
    assert torch.equal(TaskAndDepth(space, tasks)(torch.stack(pairs)), torch.eye(tasks * depth))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_router_says_what_it_draws_from(algorithm: str) -> None:
    exploration: dict[str, Any] = {"exploration_final_eps": 0.3, "exploration_initial_eps": 0.3}
    router = player(algorithm, **(exploration if "DQN" in algorithm else {}))
    game = router._env.game  # pyright: ignore[reportPrivateUsage]
    router.play(game, 60)
    torch.manual_seed(0)
    state: State | None = game.reset()
    while state is not None:
        many = State(state.v.repeat(4000, 1), state.task.repeat(4000), state.depth, state.legal.repeat(4000, 1))
        drawn = router.act(many)
        assert drawn.probability is not None
        probability = drawn.probability[:6]
        assert torch.allclose(probability.sum(1), torch.ones(6))
        assert not probability[~state.legal].any()
        counts = torch.nn.functional.one_hot(drawn.action, probability.shape[1]).float().unflatten(0, (4000, 6))
        assert torch.allclose(counts.mean(0), probability, atol=0.04)
        greedy = router.act(state, greedy=True).action
        assert torch.equal(probability.argmax(1), greedy)
        if "DQN" in algorithm:
            legal = state.legal.sum(1)
            assert torch.allclose(probability.amax(1), 0.7 + 0.3 / legal)
        state = game.step(Decision(drawn.action[:6]))


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        ("SAC", "SAC cannot route: its action space is continuous; routing is discrete"),
        ("TQC", "its action space is continuous"),
        ("ARS", "ARS cannot route: it compares policies"),
        ("RecurrentPPO", "has an LSTM"),
        ("QRDQM", "did you mean 'QRDQN'"),
    ],
)
def test_algorithms_that_cannot_route_are_refused_in_a_line(algorithm: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        player(algorithm)
    assert "\n" not in str(caught.value)


def test_a_router_refuses_the_state_of_another() -> None:
    routers = {algorithm: player(algorithm) for algorithm in ALGORITHMS}
    states = {algorithm: deepcopy(router.state_dict()) for algorithm, router in routers.items()}
    for algorithm, router in routers.items():
        before = deepcopy(router.state_dict())
        for other, state in states.items():
            if other != algorithm:
                words = rf"algorithm is '.*{other}' in the state, and '.*{algorithm}' here"
                with pytest.raises(ValueError, match=words):
                    router.load_state_dict(state)
        assert same_state(router.state_dict(), before)
