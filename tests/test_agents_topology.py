"""Which agent decides for which lane: per-task, single and dispatched agents, and a router for every layer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from worlds import little_data

from routing_env.agents import make_router
from routing_env.agents.dispatched import DispatchedRouter
from routing_env.agents.networks import AgentMLP, LookupTable
from routing_env.agents.per_layer import PerLayer
from routing_env.agents.q_learning import QLearning
from routing_env.agents.reinforce import Reinforce
from routing_env.agents.sarsa import Sarsa
from routing_env.agents.wpl import WPL
from routing_env.game.build import make_game
from routing_env.maintenance.matrix_games import one_round as one_decision
from routing_env.types import Decision, GameSpec, State

SPEC = GameSpec(
    tasks=6,
    depth=1,
    actions=2,
    features=3,
    legal=torch.ones(1, 2, dtype=torch.bool),
    layers=((0, 1),),
    device=torch.device("cpu"),
)


def state(task: Tensor) -> State:
    legal = torch.ones(len(task), SPEC.actions, dtype=torch.bool)
    return State(F.one_hot(task % 3, 3).float(), task, 0, legal)


def test_all_agents_at_once_are_each_agent_alone() -> None:
    torch.manual_seed(0)
    network = AgentMLP(4, 3, 5, 2)
    torch.nn.init.normal_(network.weight2)
    torch.nn.init.normal_(network.bias2)
    agent, x = torch.tensor([2, 0, 2, 2, 3, 0]), torch.randn(6, 3)
    for lane, output in enumerate(network(x, agent)):
        a = int(agent[lane])
        hidden = (x[lane] @ network.weight1[a] + network.bias1[a, 0]).relu()
        torch.testing.assert_close(output, hidden @ network.weight2[a] + network.bias2[a, 0])
    network(x, agent).sum().backward()
    assert network.weight1.grad is not None
    assert network.weight1.grad.flatten(1).any(1).tolist() == [True, False, True, True], "nobody asked agent 1"


@pytest.mark.parametrize("topology", ["per_task", "single"])
def test_agents_are_the_tasks_or_one(topology: Any) -> None:
    """What task 0 learns is task 1's too if and only if they share their agent."""
    router = make_router("wpl", SPEC, topology=topology)
    assert isinstance(router, WPL)
    before = router.probability(state(torch.tensor([0, 1])))
    lane = state(torch.tensor([0]))
    router.learn(one_decision(lane, router.act(lane), torch.tensor([1.0])))
    changed = (router.probability(state(torch.tensor([0, 1]))) != before).any(1)
    assert changed.tolist() == [True, topology == "single"]


@pytest.mark.parametrize("dispatcher", ["reinforce-approx", "q-learning-approx", "wpl-approx"])
def test_a_dispatcher_learns_which_agent_suits_a_task(dispatcher: str) -> None:
    """Two agents that see nothing; even tasks want action 0, odd ones 1. Only dispatching can tell them apart."""
    options: dict[str, Any] = {"learning_rate": 0.01}
    if dispatcher == "q-learning-approx":
        options["epsilon"] = (1.0, 0.1, 6000)
    router = DispatchedRouter(
        SPEC, router="reinforce", agents=2, seed=1, dispatcher=dispatcher, dispatcher_options=options
    )
    assert isinstance(router.agent_router, Reinforce)
    seen = state(torch.arange(6).repeat(8))
    wanted = seen.task % 2
    for _ in range(250):
        decision = router.act(seen)
        router.learn(one_decision(seen, decision, torch.where(decision.action == wanted, 1.0, -1.0)))
    assert torch.equal(router.act(seen, greedy=True).action, wanted)


def test_only_the_agents_that_were_picked_learn() -> None:
    router = DispatchedRouter(SPEC, router="reinforce", router_options={"optimizer": "sgd"}, agents=3)
    assert isinstance(router.agent_router, Reinforce)
    assert isinstance(router.agent_router.policy, LookupTable)
    seen = state(torch.arange(2))
    decision = router.act(seen)
    picked = decision.agent
    assert picked is not None
    router.learn(one_decision(seen, decision, torch.ones(2)))
    moved = router.agent_router.policy.table.detach().flatten(1).any(1)
    assert moved.nonzero().flatten().tolist() == sorted(set(picked.tolist()))


def test_a_dispatcher_earns_all_that_the_route_earns() -> None:
    game = make_game(network="mlp", batch_size=1, rho=1.0)
    router = DispatchedRouter(game.spec, dispatcher="q-learning", dispatcher_options={"step": 1.0})
    assert isinstance(router.dispatcher_router, QLearning)
    router.play(game, 20)
    total = game.trace.action_rewards.sum() + game.trace.final_reward
    assert total != game.trace.final_reward
    picked = game.trace.decisions[0].agent
    assert picked is not None
    torch.testing.assert_close(router.dispatcher_router.value[0, 0, picked], total)


def test_a_dispatched_route_keeps_its_agent_and_needs_one() -> None:
    game = make_game(network="mlp", batch_size=8)
    router = make_router("wpl", game.spec, topology="dispatched")
    first = router.act(game.reset())
    later = game.step(first)
    assert later is not None
    assert first.agent is not None
    assert later.agent is first.agent
    with pytest.raises(RuntimeError, match="must act from depth 1 on"):
        router.act(replace(later, agent=None))


def test_dispatched_deals_may_be_routed_side_by_side() -> None:
    """Two games in turn with one router: each route goes on with the agent that was picked for it."""
    games = [make_game(network="mlp", batch_size=8, seed=seed) for seed in range(2)]
    router = make_router("dispatched", games[0].spec, router="q-learning", dispatcher="random")
    states: list[State | None] = [game.reset() for game in games]
    while states[0] is not None:
        states = [game.step(router.act(state)) for game, state in zip(games, states, strict=True) if state is not None]
    for game in games:
        first, *later = (decision.agent for decision in game.trace.decisions)
        assert first is not None
        assert all(agent is not None and agent.equal(first) for agent in later)


def test_a_part_that_dispatches_picks_for_its_own_layer_only() -> None:
    game = make_game(data=little_data(3, (2, 2, 2)), network="mlp", hidden=4, batch_size=30)
    options = {"dispatcher": "random", "router": "q-learning", "agents": 5}
    router = PerLayer(game.spec, routers=["dispatched", "q-learning", "q-learning"], options=[options, {}, {}])
    router.play(game, 30)
    second = router.parts[1]
    assert isinstance(second, QLearning)
    assert (second.value != 0).flatten(1).any(1).all()
    assert all(decision.agent is None for decision in game.trace.decisions)


def test_agents_need_somebody_to_pick_them() -> None:
    router = WPL(replace(SPEC, agents=3))
    with pytest.raises(ValueError, match="3 agents share the tasks and nobody dispatches"):
        router.act(state(torch.arange(2)))


def test_a_router_per_layer_learns_as_one_for_all() -> None:
    """WPL's depths are agents that see only their own R_i, so splitting them up changes nothing."""
    game = make_game(network="mlp", batch_size=40, rho=0.5)
    whole, split = WPL(game.spec, gamma=0.5), PerLayer(game.spec, routers=["wpl"] * 3, gamma=0.5)
    for _ in range(4):
        state: State | None = game.reset()
        while state is not None:
            state = game.step(whole.act(state))
        whole.learn(game.trace)
        split.learn(game.trace)
    for depth, router in enumerate(split.parts):
        assert isinstance(router, WPL)
        torch.testing.assert_close(router.policy[:, 0], whole.policy[:, depth])
    assert not torch.allclose(whole.policy, whole.policy[:1])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dispatched", {"router": "reinforce-approx", "dispatcher": "q-learning", "router_options": {}}),
        ("dispatched", {"router": "q-learning", "dispatcher": "reinforce-approx", "dispatcher_options": {}}),
        ("per-layer", {"routers": ["wpl", "reinforce-approx", "wpl"], "options": [{}, {}, {}]}),
    ],
)
def test_a_part_may_train_the_blocks(name: str, options: dict[str, Any]) -> None:
    asked = deepcopy(options)
    part = asked["options"][1] if name == "per-layer" else next(own for own in asked.values() if own == {})
    part["train_blocks"] = True
    weights: list[dict[str, Tensor]] = []
    for chosen in (options, asked):
        game = make_game(batch_size=32)
        router = make_router(name, game.spec, **chosen)
        router.play(game, 10 * 32)
        weights.append(game.network.state_dict())
        assert game.router_loss is None
    assert not all(value.equal(weights[1][key]) for key, value in weights[0].items())


def test_a_dispatcher_needs_agents() -> None:
    with pytest.raises(ValueError, match="agents is 0"):
        make_router("dispatched", SPEC, agents=0)


def test_every_layer_can_have_its_own_reward() -> None:
    game = make_game(network="mlp", batch_size=32, rho=(0.3, 0.0, 1.0))
    for _ in range(2):
        state: State | None = game.reset()
        while state is not None:
            state = game.step(Decision(torch.zeros_like(state.task)))
    torch.testing.assert_close(
        game.trace.action_rewards, torch.tensor([[0.3, 0.0, 1.0]]).expand_as(game.trace.action_rewards)
    )
    with pytest.raises(ValueError, match="rho has 2 weights for 3 depths"):
        make_game(network="mlp", rho=(0.3, 0.0))


def test_the_collaboration_reward_reaches_a_learner_weighed_once() -> None:
    """A block that is always chosen earns rho itself, 0.3 and not 0.09, and SARSA takes it into its values."""
    game = make_game(network="mlp", batch_size=32, rho=0.3)
    router = Sarsa(game.spec, step=1.0, epsilon=0.0)
    router.value[:, :, 4] = 10.0
    for _ in range(2):
        state: State | None = game.reset()
        while state is not None:
            state = game.step(router.act(state, greedy=True))
    torch.testing.assert_close(game.trace.action_rewards, torch.full((len(game.trace.task), 3), 0.3))
    router.value[:, :, 4] = 10.0
    router.learn(game.trace)
    last = {task: lane for lane, task in enumerate(game.trace.task.tolist())}
    for task, lane in last.items():
        expected = 0.3 + game.trace.final_reward[lane]
        torch.testing.assert_close(router.value[task, 2, 4], expected)
