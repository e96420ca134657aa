"""What the PettingZoo environment refuses: it says why, and nothing has changed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from zoo import play, same, small_data, weights

from routing_env import MultiTaskData, parallel_env


def test_who_asks_for_an_agent_that_does_not_exist_is_told_of_no_dispatcher(small: MultiTaskData) -> None:
    observations, infos = parallel_env(data=small, hidden=4).reset()
    for told in (observations, infos):
        with pytest.raises(KeyError) as error:
            told["task_99"]
        assert str(error.value) == "'task_99'"


@pytest.mark.parametrize("action", [-1, 9, 1.0, 1.5, None, "1", np.array([1])], ids=repr)
def test_an_action_outside_the_space_is_an_error_that_changes_nothing(small: MultiTaskData, action: Any) -> None:
    env, twin = parallel_env(data=small, hidden=4), parallel_env(data=small, hidden=4)
    for each in (env, twin):
        each.reset()
    with pytest.raises(ValueError, match=r"action of task_1 is .* from 0 to 2"):
        env.step({"task_0": 0, "task_1": action, "task_2": 1})
    fine: dict[str, Any] = {"task_0": 0, "task_1": np.int32(2), "task_2": np.array(1)}
    assert same(env.step(fine), twin.step(fine))


def test_missing_and_extra_agents_are_errors_that_change_nothing(small: MultiTaskData) -> None:
    env, twin = parallel_env(data=small, hidden=4), parallel_env(data=small, hidden=4)
    for each in (env, twin):
        each.reset()
    with pytest.raises(ValueError, match=r"missing: \['task_2'\], extra: \['task_7'\]"):
        env.step({"task_0": 0, "task_1": 0, "task_7": 0})
    with pytest.raises(ValueError, match="missing: "):
        env.step({})
    assert same(env.step(dict.fromkeys(env.agents, 0)), twin.step(dict.fromkeys(twin.agents, 0)))


def test_steps_outside_an_episode_are_errors(small: MultiTaskData) -> None:
    env = parallel_env(data=small, hidden=4)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({"task_0": 0})
    with pytest.raises(RuntimeError, match="call reset"):
        env.state()
    play(env, np.random.default_rng(0))
    after = weights(env)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(dict.fromkeys(env.possible_agents, 0))
    assert same(weights(env), after)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"blcks": 3}, TypeError, "unexpected keyword argument 'blcks'; did you mean 'blocks'"),
        ({"max_cycles": 3}, TypeError, "unexpected keyword argument 'max_cycles'"),
        ({"batch_size": 3}, TypeError, "set block_batch"),
        ({"mask": "observation"}, ValueError, "mask is 'observation'; "),
        ({"parts": ("v", "taks")}, ValueError, "part is 'taks'; did you mean 'task'"),
        ({"parts": ()}, ValueError, "parts is empty"),
        ({"topology": "dispached"}, ValueError, "topology is 'dispached'; did you mean 'dispatched'"),
        ({"agents": 3}, ValueError, "agents is 3 but topology is 'per_task'"),
        ({"topology": "dispatched", "agents": 0}, ValueError, "agents is 0; a dispatcher needs at least 1"),
        ({"render_mode": "rgb"}, ValueError, "render_mode is 'rgb'"),
        ({"data": "digit"}, ValueError, "did you mean 'digits'"),
        ({"network": "mpl"}, ValueError, "did you mean 'mlp'"),
        ({"rho": 2.0}, ValueError, "rho is 2.0"),
        ({"seed": -1}, ValueError, "seed is -1; it must be an integer from 0 to 2**63 - 1"),
        ({"seed": None}, ValueError, "seed is None"),
        ({"data": small_data(), "validation": 0.3}, TypeError, "give validation where the data are made"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        parallel_env(**arguments)
