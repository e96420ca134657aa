"""Agents that appear between episodes, in PettingZoo's sense."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test
from pettingzoo.test.state_test import state_test

from routing_env import MultiTaskData, parallel_env, routing_v0
from routing_env.data.arrivals import OnePerArrivedTask
from routing_env.game.settings import SettingError
from routing_env.state_dicts import same_state

AGENTS = ["task_0", "task_1", "task_2"]


def arriving(data: MultiTaskData, **given: Any) -> Any:
    usual: dict[str, Any] = {"arrivals": "1+2", "arrival_episodes": 3, "data": data, "hidden": 4}
    return parallel_env(**{**usual, **given})


def episode(env: Any, seed: int | None = None) -> list[str]:
    """Play an episode by first legal actions; its agents."""
    observations, _ = env.reset(seed=seed)
    present: list[str] = list(env.agents)
    infos: dict[str, Any] = {}
    while env.agents:
        assert list(observations) == present
        actions = {agent: int(observations[agent]["action_mask"].argmax()) for agent in env.agents}
        observations, rewards, terminations, _, infos = env.step(actions)
        assert list(rewards) == list(terminations) == list(infos) == present
    assert [info["task"] for info in infos.values()] == list(range(len(present)))
    return present


@pytest.mark.filterwarnings("ignore:.*discards what its blocks have learned")
def test_agents_join_between_episodes_and_stay(small: MultiTaskData) -> None:
    env = arriving(small)
    assert env.possible_agents == AGENTS
    assert [episode(env) for _ in range(6)] == [AGENTS[:1]] * 3 + [AGENTS] * 3
    assert episode(env, seed=1) == AGENTS[:1]  # a seed starts the world over


@pytest.mark.filterwarnings(
    "error",
    "ignore:.*infinity.*",
    "ignore:Observation is not a NumPy array",
    "ignore:Observation space for each agent probably",
    "ignore:.*heed the action mask",
    "ignore:.*all zeros",
    "ignore:.*all-zero",
    "ignore:.*discards what its blocks have learned",
    "ignore:a second world of the same data and settings",
    "ignore:No agents present but not all possible_agents",
)
@pytest.mark.parametrize("mask", ["obs", "info", "none"])
def test_it_conforms_to_pettingzoo(small: MultiTaskData, mask: str) -> None:
    arguments: dict[str, Any] = {"data": small, "hidden": 4, "mask": mask, "arrivals": "1+2", "arrival_episodes": 3}
    parallel_api_test(parallel_env(**arguments), num_cycles=40)
    parallel_seed_test(lambda: parallel_env(**arguments), num_cycles=40)
    api_test(routing_v0.env(**arguments), num_cycles=40)
    seed_test(lambda: routing_v0.env(**arguments), num_cycles=40)
    state_test(routing_v0.env(**arguments), parallel_env(**arguments))


def test_blocks_learn_at_the_rate_of_the_stage(small: MultiTaskData) -> None:
    env = arriving(small, learning_rate=0.2, arrival_block_rate=0.0, momentum=0.9)
    rates: list[float] = []
    for _ in range(3):
        episode(env)
        rates.append(env.game.trainer.learning_rate)
    frozen = copy.deepcopy(dict(env.game.network.state_dict()))
    episode(env)
    assert [*rates, env.game.trainer.learning_rate] == [0.2, 0.2, 0.2, 0.0]
    assert same_state(dict(env.game.network.state_dict()), frozen)


def test_a_copy_goes_on_at_the_same_stage(small: MultiTaskData) -> None:
    env = arriving(small)
    for _ in range(4):
        episode(env)
    other = copy.deepcopy(env)
    for _ in range(2):
        assert episode(env) == episode(other) == AGENTS
    assert same_state(env.game.state_dict(), other.game.state_dict())


def test_a_state_shows_zeros_for_tasks_to_come(small: MultiTaskData) -> None:
    env = arriving(small)
    env.reset(seed=0)
    size = len(env.state()) // 3
    assert env.state_space.contains(env.state())
    assert np.abs(env.state()[:size]).any()
    assert not env.state()[size:].any()


def test_an_evaluation_asks_about_all_tasks(small: MultiTaskData) -> None:
    env = arriving(small)
    asked: set[str] = set()

    def policy(agent: str, observation: Any) -> int:
        asked.add(agent)
        return int(observation["action_mask"].argmax())

    evaluation = env.evaluate(policy, "train")
    assert asked == set(AGENTS)
    assert not evaluation.accuracy.isnan().any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arrivals": "1+1"}, "tasks arrive"),
        ({"topology": "single"}, "arrivals is '1.2', and topology 'single'"),
        ({"dealer": "endless"}, "dealer is 'endless' beside arrivals"),
        ({"world": "mine"}, "world is 'mine' beside arrivals"),
        ({"arrival_episodes": 0}, "at least 1"),
        ({"arrival_block_rate": -0.5}, "arrival_block_rate is -0.5"),
        ({"hiden": 4}, "did you mean 'hidden'"),
    ],
)
def test_what_does_not_go_with_arrivals_is_refused(small: MultiTaskData, given: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, SettingError), match=words):
        arriving(small, **given)


def test_a_restored_dealer_deals_the_same_bits(small: MultiTaskData) -> None:
    one, other = (OnePerArrivedTask(small, 3, seed, stages=(1, 2), deals=3) for seed in (0, 1))
    for _ in range(2):
        one.next_batch()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(9):
        first, second = one.next_batch(), other.next_batch()
        assert torch.equal(first.x, second.x)
        assert torch.equal(first.task, second.task)
    with pytest.raises(ValueError, match="in the state"):
        OnePerArrivedTask(small, 3, 0, stages=(2, 1), deals=3).load_state_dict(one.state_dict())
