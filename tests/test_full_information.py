"""Full information: what lanes would have met with on other routes, and what routers make of it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from small_games import DATA, trained
from small_games import GAMES_AND_BATCH_NORM as GAMES
from torch import Tensor, nn
from worlds import little_data, snapshot

from routing_env import make_game
from routing_env.agents import make_router
from routing_env.analysis import frozen_payoffs
from routing_env.data import MultiTaskData
from routing_env.data.planted import plant
from routing_env.game.measured_rewards import MeasuredReward, Replay
from routing_env.game.network import RoutedNetwork
from routing_env.game.routing_game import RoutingGame
from routing_env.state_dicts import same_state
from routing_env.types import Batch, Counterfactuals, Decision, GameSpec, Outcome, Router, State, Trace


def played(game: RoutingGame, batch: Batch, routes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, r_final and rewards of lanes that play routes int64 [B, D] in the game, NaN where these are not legal."""
    state: State | None = game.reset(batch, train=False)
    alive = torch.ones(len(batch), dtype=torch.bool)
    while state is not None:
        only = state.legal.sum(1) == 1
        action = torch.where(only, state.legal.int().argmax(1), routes[:, state.depth])
        lost = ~state.legal.gather(1, action[:, None])[:, 0] & alive
        alive &= ~lost
        state = game.step(Decision(action), forfeit=lost)
    trace = game.trace
    loss, final, rewards = trace.outcome.loss, trace.final_reward, trace.action_rewards
    return (
        loss.where(alive, torch.nan),
        final.where(alive, torch.nan),
        rewards.where(alive[:, None], torch.nan),
    )


@pytest.mark.parametrize("name", GAMES)
def test_other_routes_lead_to_what_the_game_says_when_it_plays_them(name: str) -> None:
    game = trained(name)
    batch = game.data.gather(game.data.test[torch.arange(0, 24, 3)])
    spec = game.spec
    every = torch.tensor(list(product(range(spec.actions), repeat=spec.depth)))
    routes = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:40]]
    game.reset(batch, train=False)
    found = game.counterfactual_outcomes(routes)
    per_lane = game.counterfactual_outcomes(routes[torch.randint(len(routes), (3, len(batch)))])
    assert found.loss.shape == found.final_reward.shape == (len(routes), len(batch))
    assert per_lane.action_rewards.shape == (3, len(batch), spec.depth)
    legal = 0
    for n, route in enumerate(routes):
        expected = played(game, batch, route.expand(len(batch), -1))
        mine = (found.loss[n], found.final_reward[n], found.action_rewards[n])
        torch.testing.assert_close(mine, expected, equal_nan=True)
        legal += int((~found.loss[n].isnan()).sum())
    assert legal > 0


def test_each_lane_may_have_routes_for_itself() -> None:
    game = trained("layered")
    state = game.reset()
    routes = torch.randint(game.spec.actions, (5, len(state.task), 2), generator=torch.Generator().manual_seed(1))
    own = game.counterfactual_outcomes(routes)
    for lane in range(len(state.task)):
        alike = game.counterfactual_outcomes(routes[:, lane])
        torch.testing.assert_close(own.loss[:, lane], alike.loss[:, lane])


@pytest.mark.parametrize("name", GAMES)
def test_asking_changes_nothing(name: str) -> None:
    games = [trained(name) for _ in range(2)]
    routers = [make_router("random", game.spec, seed=3) for game in games]
    drawn = torch.random.get_rng_state()
    states: list[State | None] = [game.reset() for game in games]
    while states[0] is not None:
        before = snapshot(games[0])
        routes = games[0].spec.legal.int().argmax(1)[None]
        asked = games[0].counterfactual_outcomes(routes)
        assert not asked.loss.requires_grad
        assert snapshot(games[0]) == before
        states = [
            game.step(router.act(state))
            for game, router, state in zip(games, routers, states, strict=True)
            if state is not None
        ]
    games[0].counterfactual_outcomes(games[0].spec.legal.int().argmax(1)[None])
    assert snapshot(games[0]) == snapshot(games[1])
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert all(torch.equal(*(getattr(game.trace, name) for game in games)) for name in ("actions", "final_reward"))


def test_the_stem_runs_once_and_common_beginnings_are_shared() -> None:
    game = trained("batch-norm")
    network = game.network
    assert isinstance(network, RoutedNetwork)
    calls: list[int] = []
    for module in (network.stem, network.bank(0), network.bank(1), network.bank(2)):
        module.register_forward_hook(lambda _module, _inputs, output: calls.append(len(output)))
    state = game.reset()
    lanes = len(state.task)
    routes = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0], [1, 1, 2], [0, 0, 0]])
    game.counterfactual_outcomes(routes)
    assert calls == [lanes, 2 * lanes, 3 * lanes, 5 * lanes]


def test_routes_that_cannot_be_are_refused() -> None:
    game = make_game(data=DATA, batch_size=8, **GAMES["layered"])
    routes = torch.zeros(2, 2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="nothing has been dealt yet"):
        game.counterfactual_outcomes(routes)
    game.reset()
    for wrong, message in (
        (routes.float(), "routes must be int64"),
        (routes[:, :1], r"\[R, 2\]"),
        (routes[:0], "at least one"),
        (routes - 1, "actions from -1 to -1"),
    ):
        with pytest.raises(ValueError, match=message):
            game.counterfactual_outcomes(wrong)


class Asking(Router):
    """Draws at random, keeps every trace, and needs counterfactuals."""

    def __init__(self, spec: GameSpec, seed: int = 0, *, asks: bool = True) -> None:
        self.inner = make_router("random", spec, seed=seed)
        self.asks = asks
        self.traces: list[Trace] = []

    @property
    def needs_counterfactuals(self) -> bool:
        """As given."""
        return self.asks

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Draw at random."""
        return self.inner.act(state, greedy=greedy)

    def learn(self, trace: Trace) -> dict[str, float]:
        """Keep the trace."""
        self.traces.append(trace)
        return {}


@pytest.mark.parametrize("name", GAMES)
def test_traces_say_what_another_action_would_have_led_to(name: str) -> None:
    game, frozen = trained(name), trained(name)
    asking, other = Asking(game.spec), Asking(frozen.spec, asks=False)
    asking.play(game, 1)
    other.play(frozen, 1)
    assert snapshot(game) == snapshot(frozen)
    (trace,), (without,) = asking.traces, other.traces
    assert torch.equal(trace.actions, without.actions)
    assert torch.equal(trace.final_reward, without.final_reward)
    assert torch.equal(trace.action_rewards, without.action_rewards)
    assert without.counterfactuals is None
    found = trace.counterfactuals
    assert found is not None
    assert not game.counterfactuals
    taken = trace.actions[:, :, None]
    if name != "batch-norm":  # which is in evaluation mode here, and was not in the deal
        own = found.loss.gather(2, taken)[:, :, 0]
        torch.testing.assert_close(own, trace.outcome.loss[:, None].expand_as(own))
        own = found.final_reward.gather(2, taken)[:, :, 0]
        torch.testing.assert_close(own, trace.final_reward[:, None].expand_as(own))
    own = found.action_rewards.gather(2, taken[..., None].expand(-1, -1, -1, game.spec.depth))[:, :, 0]
    torch.testing.assert_close(own, trace.action_rewards[:, None].expand_as(own))
    returns = trace.counterfactual_returns(0.7)
    if name != "batch-norm":
        torch.testing.assert_close(returns.gather(2, taken)[:, :, 0], trace.returns(0.7))
    legal = torch.stack([state.legal for state in trace.states], dim=1)
    assert not (~returns.isnan() & ~legal).any()


def test_another_action_leads_to_what_the_route_with_it_leads_to() -> None:
    game = trained("layered", block_batch=1000)  # the blocks take no step
    router = Asking(game.spec)
    router.play(game, 1)
    (trace,) = router.traces
    found = trace.counterfactuals
    assert found is not None
    for depth, action in product(range(2), range(game.spec.actions)):
        if not game.spec.legal[depth, action]:
            assert found.loss[:, depth, action].isnan().all()
            continue
        other = trace.actions.clone()
        other[:, depth] = action
        whole = game.counterfactual_outcomes(other[None])
        torch.testing.assert_close(whole.loss[0], found.loss[:, depth, action])
        torch.testing.assert_close(whole.final_reward[0], found.final_reward[:, depth, action])


def test_rewards_that_are_not_a_lanes_own_have_no_counterfactuals() -> None:
    game = trained("layered", final_reward="team")
    before = snapshot(game)["samples"]
    with pytest.raises(ValueError, match="depends on the other lanes"):
        Asking(game.spec).play(game, 8)
    assert snapshot(game)["samples"] == before
    assert not game.counterfactuals


def test_a_trace_without_counterfactuals_says_how_to_get_them() -> None:
    game = trained("layered")
    router = Asking(game.spec, asks=False)
    router.play(game, 8)
    with pytest.raises(ValueError, match=r"game\.counterfactuals = True"):
        router.traces[0].counterfactual_returns()


def test_counterfactual_returns_discount_from_the_depth_of_the_other_action() -> None:
    nothing = torch.zeros(1)
    state = State(nothing[:, None], nothing.long(), 0, torch.ones(1, 1, dtype=torch.bool))
    decision = Decision(nothing.long())
    outcome = Outcome(state.task, nothing, nothing, nothing, nothing, state.task.bool(), state.task.bool())
    rewards = torch.tensor([[[[1.0, 2.0, 4.0]]] * 3]).view(1, 3, 1, 3)
    others = Counterfactuals(torch.zeros(1, 3, 1), torch.full((1, 3, 1), 10.0), rewards)
    trace = Trace((state,) * 3, (decision,) * 3, rewards[:, 0, 0], torch.full((1,), 10.0), outcome, others)
    expected = torch.tensor([[10 + 1 + 0.5 * 2 + 0.25 * 4, 10 + 2 + 0.5 * 4, 10 + 4.0]])
    torch.testing.assert_close(trace.counterfactual_returns(0.5)[:, :, 0], expected)


@pytest.mark.parametrize("name", ["layered", "recursive", "batch-norm"])
def test_the_improvement_is_what_the_step_did_to_the_loss(name: str) -> None:
    game = trained(name, final_reward="improvement")
    router = make_router("random", game.spec, seed=1)
    batch = game.data.gather(game.data.test[torch.arange(0, 24, 3)])
    before = deepcopy(game.network)
    state: State | None = game.reset(batch)
    while state is not None:
        state = game.step(router.act(state))
    trace, now = game.trace, dict(game.network.named_buffers())
    for statistic, buffer in before.named_buffers():  # those of the deal are there before the step
        buffer.copy_(now[statistic])
    missing = torch.arange(3) >= torch.tensor([2, 3, 2])[batch.task, None]
    losses: list[Tensor] = []
    for network in (before, game.network):
        output, _ = network.eval()(batch.x, batch.task, lambda state: trace.actions[:, state.depth])
        output = output.detach().masked_fill(missing, -torch.inf)
        losses.append(nn.functional.cross_entropy(output, batch.target, reduction="none"))
    torch.testing.assert_close(trace.final_reward, losses[0] - losses[1], rtol=1e-4, atol=1e-6)
    assert trace.final_reward.abs().max() > 0


def test_a_deal_that_trains_nothing_improves_nothing() -> None:
    game = trained("layered", final_reward="improvement")
    before = snapshot(game)
    state: State | None = game.reset(train=False)
    while state is not None:
        state = game.step(Decision(state.legal.int().argmax(1)))
    assert not game.trace.final_reward.any()
    assert {**snapshot(game), "dealer": None} == {**before, "dealer": None}


def test_the_validation_reward_is_the_accuracy_of_the_tasks_routes_on_the_validation_split() -> None:
    data = plant(groups=3, tasks_per_group=1, samples=100, features=6, validation=0.3)
    game = make_game(data=data, batch_size=30, final_reward="validation", learning_rate=1e-9, network="mlp", layers=2)
    routes = torch.tensor([[0, 1], [1, 2], [2, 2]])
    earned, count = torch.zeros(3), torch.zeros(3)
    for _ in range(60):
        state: State | None = game.reset()
        while state is not None:
            state = game.step(Decision(routes[state.task, state.depth]))
        trace = game.trace
        assert trace.final_reward.abs().eq(1).all()
        earned.index_add_(0, trace.task, trace.final_reward)
        count += torch.bincount(trace.task, minlength=3)
    accuracy = game.evaluate(lambda state: routes[state.task, state.depth], "validation").accuracy
    torch.testing.assert_close(earned / count, 2 * accuracy.float() - 1, atol=0.2, rtol=0)
    own = game.evaluate(lambda state: routes[state.task, state.depth], "train").accuracy
    assert count.min() > 100
    assert (accuracy - own).abs().max() > 0  # the samples of the deals would have given another number


@pytest.mark.parametrize("reward", ["validation", "improvement"])
def test_measured_rewards_change_nothing_else_and_resume_to_the_bit(reward: str) -> None:
    fresh = [make_game(data=DATA, batch_size=8, final_reward=reward, rho=0.3, **GAMES["layered"]) for _ in range(2)]
    routers = [make_router("wpl", game.spec, seed=0) for game in fresh]
    routers[0].play(fresh[0], 40)
    fresh[1].load_state_dict(deepcopy(fresh[0].state_dict()))
    routers[1].load_state_dict(deepcopy(routers[0].state_dict()))
    for game, router in zip(fresh, routers, strict=True):
        router.play(game, 40)
    assert same_state(routers[0].state_dict(), routers[1].state_dict())
    assert snapshot(fresh[0]) == snapshot(fresh[1])


def test_random_play_trains_the_same_blocks_whatever_the_reward() -> None:
    played_on: list[dict[str, Any]] = []
    for reward in ("correct", "validation", "improvement"):
        game = make_game(data=DATA, batch_size=8, final_reward=reward, **GAMES["batch-norm"])
        make_router("random", game.spec).play(game, 80)
        played_on.append(snapshot(game))
    assert played_on[0] == played_on[1] == played_on[2]


def test_measured_rewards_say_what_they_do_not_go_with() -> None:
    with pytest.raises(ValueError, match="has no validation samples; set validation above 0"):
        make_game(data=little_data(4, validation=0), final_reward="validation", **GAMES["layered"])
    game = make_game(data=DATA, final_reward="improvement", block_batch=100, **GAMES["layered"])
    with pytest.raises(ValueError, match="leave block_batch out"):
        game.reset()
    game = make_game(data=DATA, final_reward="improvement", **GAMES["layered"])
    with pytest.raises(ValueError, match="counterfactuals need a final reward that follows from the outcome"):
        Asking(game.spec).play(game, 8)
    with pytest.raises(ValueError, match="a router's loss on the blocks needs a final reward"):
        make_router("reinforce-approx", game.spec, train_blocks=True).play(game, 8)
    with pytest.raises(ValueError, match="a step of the blocks, which an analysis does not take"):
        frozen_payoffs(game, "test")


class Surprise(MeasuredReward):
    """A measured reward of your own: the loss of the lane's sample once the blocks have learned from it."""

    def __init__(self, data: MultiTaskData, seed: int) -> None:
        self.built_with = data, seed

    def begin(self, batch: Batch, replay: Replay) -> Callable[[], Tensor]:
        """Measure after the step alone."""
        return lambda: replay(batch).loss

    def __call__(self, outcome: Outcome) -> Tensor:
        """The loss."""
        return outcome.loss


def test_measured_rewards_of_your_own_and_lost_routes() -> None:
    game = make_game(data=DATA, final_reward=Surprise, seed=7, batch_size=8, learning_rate=0.1, **GAMES["layered"])
    reward = game.final_reward
    assert isinstance(reward, Surprise)
    assert reward.built_with == (game.data, 7)
    state: State | None = game.reset()
    lost = torch.arange(len(state.task)) == 2
    while state is not None:
        state = game.step(Decision(state.legal.int().argmax(1)), forfeit=lost)
    again = game.counterfactual_outcomes(game.trace.actions[None]).loss[0]
    torch.testing.assert_close(game.trace.final_reward[~lost], again[~lost])  # there is no stem that learns
    assert game.trace.final_reward[2] == -1


@pytest.mark.parametrize("reward", ["validation", "improvement"])
def test_measured_rewards_of_regression(reward: str) -> None:
    game = make_game(data=little_data(4, regression=2), final_reward=reward, batch_size=8, **GAMES["recursive"])
    traces: list[Trace] = []
    game.observers.append(traces.append)
    make_router("wpl", game.spec).play(game, 24)
    rewards = torch.cat([trace.final_reward for trace in traces])
    assert rewards.isfinite().all()
    assert (rewards < 0).all() if reward == "validation" else rewards.any()
