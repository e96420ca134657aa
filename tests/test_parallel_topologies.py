"""The environment with one agent for all tasks, and the one with a dispatcher and the routers that it picks from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from worlds import layered, little_data
from zoo import RECURSIVE, legal_actions, play, same, weights

from routing_env import Decision, MultiTaskData, make_game, parallel_env
from routing_env.data import load

DISPATCHED: dict[str, Any] = {"topology": "dispatched", "agents": 4}


@pytest.mark.parametrize("topology", [{"topology": "single"}, DISPATCHED])
def test_agents_of_one_sample_see_and_earn_what_the_game_says(topology: dict[str, Any]) -> None:
    digits = load("digits")
    settings: dict[str, Any] = {"hidden": 8, "rho": 0.5, "recursive": True, "pass_action": True}
    env = parallel_env(data=digits, **topology, **settings)
    # One sample a time off the shuffled pass; the blocks wait for as many as the data set's usual batch.
    game = make_game(batch_size=1, block_batch=64, **settings, data=digits)
    spec, rng = game.spec, np.random.default_rng(0)
    agents, picked, start = ["router_0"], np.empty(0), weights(env)
    tasks: set[int] = set()
    for episode in range(130):
        (observations, infos), state = env.reset(), game.reset()
        assert state is not None
        if topology is DISPATCHED:
            first = np.concatenate([state.v[0], np.eye(spec.tasks)[state.task[0]], np.eye(spec.depth)[0]])
            assert env.agents == list(observations) == ["dispatcher_0"]
            np.testing.assert_array_equal(observations["dispatcher_0"]["observation"], first.astype(np.float32))
            np.testing.assert_array_equal(env.state(), [*first.astype(np.float32), 0, 0, 0, 0])
            assert observations["dispatcher_0"]["action_mask"].tolist() == [1, 1, 1, 1]
            pick = int(rng.integers(4))
            observations, rewards, terminations, truncations, infos = env.step({"dispatcher_0": pick})
            agents, picked = ["dispatcher_0", f"router_{pick}"], np.eye(4)[pick]
            assert rewards == dict.fromkeys(agents, 0.0)
            assert terminations == truncations == dict.fromkeys(agents, False)
            assert infos == {agent: {} for agent in agents}
        earned = dict.fromkeys(agents, 0.0)
        while state is not None:
            one_hots = np.eye(spec.tasks)[state.task[0]], np.eye(spec.depth)[state.depth]
            expected = np.concatenate([state.v[0], *one_hots]).astype(np.float32)
            assert env.agents == list(observations) == agents
            for agent in agents:
                np.testing.assert_array_equal(observations[agent]["observation"], expected)
            np.testing.assert_array_equal(env.state(), np.concatenate([expected, picked]).astype(np.float32))
            np.testing.assert_array_equal(observations[agents[-1]]["action_mask"], state.legal[0])
            if topology is DISPATCHED:
                np.testing.assert_array_equal(observations["dispatcher_0"]["action_mask"], picked)
            actions = legal_actions(env, observations, rng)
            if episode % 2 and topology is DISPATCHED:
                del actions["dispatcher_0"]
            observations, rewards, terminations, truncations, infos = env.step(actions)
            state = game.step(Decision(torch.tensor([actions[agents[-1]]])))
            assert terminations == dict.fromkeys(agents, state is None)
            assert truncations == dict.fromkeys(agents, False)
            for agent in agents:
                earned[agent] += rewards[agent]
        assert env.agents == []
        trace, outcome = game.trace, game.trace.outcome
        tasks |= set(trace.task.tolist())
        total = float(trace.action_rewards.sum() + trace.final_reward)
        assert earned == {agent: pytest.approx(total, abs=1e-6) for agent in agents}
        end = {
            "task": int(trace.task),
            "correct": bool(outcome.correct),
            "prediction": int(outcome.prediction),
            "label": int(outcome.target),
            "loss": float(outcome.loss),
            "final_reward": float(trace.final_reward),
            "route": trace.actions[0].tolist(),
        }
        assert infos == dict.fromkeys(agents, end)
        for agent in agents:
            assert observations[agent]["action_mask"].all()
        assert same(weights(env), start) == (episode < 63)
    assert same(weights(env), [parameter.detach() for parameter in game.network.parameters()])
    assert len(tasks) == spec.tasks


def test_only_those_who_take_part_may_act() -> None:
    env, twin = (parallel_env(data=little_data(), **DISPATCHED) for _ in range(2))
    for each in (env, twin):
        each.reset()
    for wrong in ({"router_1": 0}, {"dispatcher_0": 1, "router_1": 0}, {}):
        with pytest.raises(ValueError, match="actions must name every agent and no other"):
            env.step(wrong)
    with pytest.raises(ValueError, match="action of dispatcher_0 is 4; it must be an integer from 0 to 3"):
        env.step({"dispatcher_0": 4})
    assert same(env.step({"dispatcher_0": 1}), twin.step({"dispatcher_0": 1}))
    with pytest.raises(ValueError, match=r"missing: \['router_1'\], extra: none"):
        env.step({"dispatcher_0": 1})
    with pytest.raises(ValueError, match=r"extra: \['router_2'\]"):
        env.step({"router_1": 0, "router_2": 0})
    with pytest.raises(ValueError, match="action of router_1 is 3; it must be an integer from 0 to 2"):
        env.step({"router_1": 3})
    # A dispatcher that waits is not heeded, whatever it says.
    assert same(env.step({"router_1": 2, "dispatcher_0": -7}), twin.step({"router_1": 2}))


def test_who_asks_for_an_agent_that_was_not_picked_is_told_what_to_do() -> None:
    env = parallel_env(data=little_data(), **DISPATCHED)
    env.reset()
    for told in env.step({"dispatcher_0": 1}):
        assert list(told) == ["dispatcher_0", "router_1"]
    observations, _, _, _, infos = env.step({"router_1": 0})
    for told in (observations, infos):
        with pytest.raises(KeyError, match=r"router_2 does not take part .* set topology to 'per_task'"):
            told["router_2"]


def test_an_illegal_action_is_shared_by_all_who_share_the_route() -> None:
    env = parallel_env(data=little_data(), block_batch=1, mask="both", **DISPATCHED, **RECURSIVE)
    env.reset()
    start = weights(env)
    env.step({"dispatcher_0": 3})
    last_layer = layered(env.game.network).own_actions(2)[0]
    with pytest.warns(UserWarning, match=f"router_3 chose action {last_layer}"):
        _, rewards, _, _, infos = env.step({"router_3": last_layer})
    assert rewards == {"dispatcher_0": 0.0, "router_3": 0.0}
    while env.agents:
        assert {info["illegal_action"] for info in infos.values()} == {last_layer}
        assert infos["dispatcher_0"]["action_mask"].tolist() == [0, 0, 0, 1]
        _, rewards, _, _, infos = env.step({"router_3": 0})
    assert rewards == {"dispatcher_0": -1.0, "router_3": -1.0}
    assert [info["illegal_action"] for info in infos.values()] == [last_layer] * 2
    assert same(weights(env), start)
    end = play(env, np.random.default_rng(0))[-1]
    assert not any("illegal_action" in info for info in end[4].values())
    assert not same(weights(env), start)


@pytest.mark.parametrize("topology", [{}, {"topology": "single"}, DISPATCHED, {"arrivals": "2+1"}])
def test_a_compact_state_has_the_chosen_parts_of_each_lane(small: MultiTaskData, topology: dict[str, Any]) -> None:
    whole = parallel_env(data=small, hidden=4, parts=("task", "depth"), state_parts=("v", "task", "depth"), **topology)
    compact = parallel_env(data=small, hidden=4, state_parts=["depth"], **topology)
    spec, lanes = whole.game.spec, 1 if "topology" in topology else small.tasks
    picks = 4 if topology is DISPATCHED else 0
    observations, _ = whole.reset(seed=0)
    compact.reset(seed=0)
    rng = np.random.default_rng(0)
    assert compact.state_space.shape == (lanes * spec.depth + picks,)
    while True:
        known, shown = whole.state(), compact.state()
        assert whole.state_space.contains(known)
        assert compact.state_space.contains(shown)
        cut = len(known) - picks
        of_lanes = known[:cut].reshape(lanes, spec.features + spec.tasks + spec.depth)
        np.testing.assert_array_equal(shown, np.append(of_lanes[:, -spec.depth :], known[cut:]))
        if not whole.agents:
            break
        actions = legal_actions(whole, observations, rng)
        observations, *_ = whole.step(actions)
        compact.step(actions)


def test_state_parts_are_checked(small: MultiTaskData) -> None:
    with pytest.raises(ValueError, match="part is 'tasks'; did you mean 'task'"):
        parallel_env(data=small, state_parts=["tasks"])
    with pytest.raises(ValueError, match="parts is empty"):
        parallel_env(data=small, state_parts=[])
