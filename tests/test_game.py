"""The whole game against the plain composition of the chosen blocks, and what may change when."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from worlds import Blueprint, bits, layered, legal_routes, little_data, little_game, noise, play, playable, snapshot

from routing_env.data import MultiTaskData
from routing_env.game.network import RoutedNetwork
from routing_env.game.routing_game import RoutingGame
from routing_env.game.training import BlockTrainer
from routing_env.types import Batch, Decision

RECURSIVE = Blueprint((3, 4, 4, 2), (2, 3, 2), depth=4, recursive=True, pass_action=True)
LAYERED = Blueprint((3, 4, 4, 2), (2, 3, 2), depth=3)

Optimizer = Callable[[RoutedNetwork], BlockTrainer]
OPTIMIZERS: dict[str, Optimizer] = {
    "SGD": lambda network: BlockTrainer(network.parameters(), learning_rate=0.1),
    "SGD with momentum and weight decay": lambda network: BlockTrainer(
        network.parameters(), learning_rate=0.1, momentum=0.9, weight_decay=0.01
    ),
    "Adam with weight decay": lambda network: BlockTrainer(
        network.parameters(), optimizer="adam", learning_rate=0.01, weight_decay=0.01
    ),
}


def data_for(blueprint: Blueprint) -> MultiTaskData:
    return little_data(blueprint.widths[0], [blueprint.widths[-1]] * 3)


def samples(lanes: int, data: MultiTaskData, seed: int = 0) -> Batch:
    """Samples in float64, so that comparisons can be tight."""
    x = noise(lanes, *data.input_shape, seed=seed)
    task = torch.arange(lanes) % data.tasks
    if data.classes is None:
        return Batch(x, task, noise(lanes, data.outputs, seed=seed + 1))
    return Batch(x, task, (x[:, 0] * 100).long() % torch.tensor(data.classes)[task])


def stem(width: int) -> nn.Module:
    """A trained stem with a batch norm, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(width)
        return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))


@given(blueprint=playable(), data=st.data())
def test_outcome_and_gradients_are_those_of_the_plain_composition(blueprint: Blueprint, data: st.DataObject) -> None:
    lanes = data.draw(st.integers(2, 9))
    routes = data.draw(legal_routes(blueprint, lanes))
    network = blueprint.network(seed=data.draw(st.integers(0, 99)), stem=stem(blueprint.widths[0])).double()
    plain = deepcopy(network)
    game = little_game(network, data_for(blueprint))
    batch = samples(lanes, game.data)

    outcome = play(game, routes, batch).outcome

    output = blueprint.output(plain, plain.stem(batch.x), routes)
    loss = F.cross_entropy(output, batch.target, reduction="none")
    torch.testing.assert_close(outcome.output, output.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(outcome.loss, loss.detach(), rtol=1e-10, atol=1e-10)
    assert torch.equal(outcome.prediction, output.argmax(1))
    assert torch.equal(outcome.correct, output.argmax(1) == batch.target)
    assert torch.equal(game.trace.final_reward, torch.where(outcome.correct, 1.0, -1.0).double())
    loss.mean().backward()
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10, msg=name)
            torch.testing.assert_close(ours.detach(), theirs.detach() - 0.1 * theirs.grad)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=25)
@given(blueprint=playable(), data=st.data())
def test_blocks_on_no_route_are_bitwise_unchanged(optimizer: str, blueprint: Blueprint, data: st.DataObject) -> None:
    """Several steps by different routes, so that the blocks left out have momentum from before."""
    network = blueprint.network(seed=1)
    game = little_game(network, data_for(blueprint), trainer=OPTIMIZERS[optimizer](network))
    play(game, blueprint.routes)
    for _ in range(4):
        routes = data.draw(legal_routes(blueprint, 5))
        before = bits(dict(network.named_parameters()))
        taken = play(game, routes).actions.tolist()
        after = bits(dict(network.named_parameters()))
        on_route = {blueprint.block(depth, action) for route in taken for depth, action in enumerate(route)}
        for layer, count in enumerate(blueprint.counts):
            for number in range(count):
                own = [name for name in before if name.startswith(f"banks.{layer}.blocks.{number}.")]
                if (layer, number) not in on_route:
                    assert all(before[name] == after[name] for name in own)
                elif layer == len(blueprint.counts) - 1:
                    assert any(before[name] != after[name] for name in own), "blocks that classified have learned"


@pytest.mark.parametrize("blueprint", [LAYERED, RECURSIVE])
@settings(max_examples=40)
@given(data=st.data())
def test_forfeited_lanes_train_nothing(blueprint: Blueprint, data: st.DataObject) -> None:
    """The game goes on as if the lanes that forfeit had never been dealt."""
    lanes = 6
    routes = torch.tensor(data.draw(legal_routes(blueprint, lanes)))
    leaves_at = torch.tensor(data.draw(st.lists(st.integers(0, 6), min_size=lanes, max_size=lanes)))
    games = [little_game(blueprint.network().double(), data_for(blueprint), rho=0.5) for _ in range(2)]
    batch = samples(lanes, games[0].data)
    for game in games:  # some history to be rewarded by
        play(game, blueprint.routes, samples(4, game.data, seed=1))
    untouched = bits(dict(games[0].network.named_parameters()))
    stays = leaves_at >= blueprint.depth

    state = games[0].reset(batch)
    while state is not None:
        forfeit = leaves_at == state.depth
        gone = leaves_at <= state.depth
        state = games[0].step(Decision(routes[:, state.depth].where(~gone, -7)), forfeit=forfeit)
    trace = games[0].trace
    assert torch.equal(trace.outcome.forfeited, ~stays)
    assert (trace.final_reward[~stays] == -1).all()
    assert not trace.outcome.correct[~stays].any()
    for depth, state in enumerate(trace.states):
        assert state.legal.gather(1, trace.actions[:, depth : depth + 1]).all(), "the trace names legal actions only"
        assert (trace.action_rewards[leaves_at <= depth, depth] == 0).all()

    if not stays.any():
        assert bits(dict(games[0].network.named_parameters())) == untouched
        return
    expected = play(games[1], routes[stays], Batch(batch.x[stays], batch.task[stays], batch.target[stays]))
    torch.testing.assert_close(trace.outcome.output[stays], expected.outcome.output)
    torch.testing.assert_close(trace.final_reward[stays], expected.final_reward)
    torch.testing.assert_close(trace.action_rewards[stays], expected.action_rewards)
    for ours, theirs in zip(games[0].network.parameters(), games[1].network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_forfeit_is_never_better_than_the_worst_route_of_the_deal() -> None:
    """With a negative loss below -1 giving up would pay, were it worth -1."""
    blueprint = Blueprint((2, 3), (1,), depth=1)
    game = little_game(blueprint.network().double(), little_data(2, [2] * 3, regression=3))
    batch = samples(4, game.data)
    game.reset(Batch(batch.x, batch.task, batch.target + 10))
    game.step(Decision(torch.zeros(4, dtype=torch.int64)), forfeit=torch.tensor([False, True, False, False]))
    reward = game.trace.final_reward
    assert reward[1] < -1
    assert reward[1] == reward.min()


def test_a_deal_that_does_not_train_changes_nothing() -> None:
    game = little_game(RECURSIVE.network(stem=stem(3)), data_for(RECURSIVE), rho=0.5)
    play(game, RECURSIVE.routes)
    before = snapshot(game)
    traces = [play(game, RECURSIVE.routes, game.data.gather(game.data.train), train=False) for _ in range(2)]
    assert snapshot(game) == before
    assert torch.equal(traces[0].outcome.output, traces[1].outcome.output)
    assert traces[0].action_rewards.any(), "the history still rewards"
    play(game, RECURSIVE.routes, train=True)
    assert snapshot(game) != before


def test_block_batch_collects_and_then_steps_as_one_batch() -> None:
    """Three deals of four samples: no step before the last of them, then the one that a single deal would take."""
    routes = torch.tensor(LAYERED.routes)[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    collecting = little_game(LAYERED.network(stem=stem(3)), data_for(LAYERED), block_batch=12)
    direct = little_game(LAYERED.network(stem=stem(3)), data_for(LAYERED))
    batch = direct.data.gather(direct.data.train[torch.arange(0, 24, 2)])
    start = bits(collecting.network.state_dict())
    for rows in torch.arange(12).split(4):
        assert bits(collecting.network.state_dict()) == start, "neither weights nor batch norm move before the step"
        play(collecting, routes[rows], Batch(batch.x[rows], batch.task[rows], batch.target[rows]))
    play(direct, routes, batch)
    assert bits(collecting.network.state_dict()) == bits(direct.network.state_dict())
    assert bits(collecting.network.state_dict()) != start
    play(collecting, routes[:4])
    assert bits(collecting.network.state_dict()) == bits(direct.network.state_dict()), "and it starts to collect anew"


@pytest.mark.parametrize("block_batch", [None, 8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_game_continues_from_its_state_bitwise(optimizer: str, block_batch: int | None) -> None:
    def make(seed: int) -> RoutingGame:
        network = RECURSIVE.network(seed, stem=stem(3))
        trainer = OPTIMIZERS[optimizer](network)
        return little_game(network, data_for(RECURSIVE), seed=seed, rho=0.3, trainer=trainer, block_batch=block_batch)

    game, resumed = make(1), make(2)
    for _ in range(7):
        play(game, RECURSIVE.routes[::-1])
    kept = game.state_dict()
    resumed.load_state_dict(kept)
    before = deepcopy(kept)
    for _ in range(12):
        traces = play(game, RECURSIVE.routes), play(resumed, RECURSIVE.routes)
        assert torch.equal(traces[0].states[0].v, traces[1].states[0].v)
        assert torch.equal(traces[0].action_rewards, traces[1].action_rewards)
    assert snapshot(game) == snapshot(resumed)
    assert repr(kept) == repr(before), "a state that was kept does not move with the game"


def test_outputs_beyond_a_tasks_classes_are_never_predicted_and_never_trained() -> None:
    blueprint = Blueprint((3, 4), (1,), depth=1)
    game = little_game(blueprint.network().double(), little_data(3, (2, 3, 4), per_task=24))
    batch = samples(40, game.data)
    only_two = batch.task == 0
    network = deepcopy(layered(game.network))

    outcome = play(game, [[0]], batch).outcome
    assert (outcome.prediction < torch.tensor([2, 3, 4])[batch.task]).all()
    output = network.bank(0).blocks[0](batch.x[only_two])[:, :2]
    torch.testing.assert_close(
        outcome.loss[only_two], F.cross_entropy(output, batch.target[only_two], reduction="none")
    )

    play(game, [[0]], Batch(batch.x[only_two], batch.task[only_two], batch.target[only_two]))
    gradient = next(layered(game.network).bank(0).blocks[0].parameters()).grad
    assert gradient is not None
    assert gradient[:2].all()
    assert not gradient[2:].any()


def test_regression_is_rewarded_with_the_negative_loss() -> None:
    blueprint = Blueprint((3, 2), (2,), depth=1)
    game = little_game(blueprint.network().double(), little_data(3, [2] * 3, regression=2))
    batch = samples(5, game.data)
    plain = deepcopy(layered(game.network))
    routes = [[0], [1], [1], [0], [1]]
    outcome = play(game, routes, batch).outcome
    output = blueprint.output(plain, batch.x, routes).detach()
    torch.testing.assert_close(outcome.prediction, output)
    torch.testing.assert_close(game.trace.final_reward, -(output - batch.target).square().mean(1).float())
    assert not outcome.correct.any()


def test_epochs_and_the_schedule_go_by_samples_dealt() -> None:
    data = data_for(LAYERED)
    network = LAYERED.network()
    trainer = BlockTrainer(network.parameters(), learning_rate=1.0, decay_every=2)
    game = little_game(network, data, batch_size=9, trainer=trainer)
    deals = -(-len(data.train) // 9)
    for epoch in range(5):
        assert (game.epoch, trainer.epoch) == (epoch, epoch)
        assert trainer.learning_rate == pytest.approx(0.1 ** (epoch // 2))
        for _ in range(deals):
            play(game, LAYERED.routes)
    assert game.samples == 5 * len(data.train)


def test_a_gates_gradient_is_that_of_the_loss_with_respect_to_the_blocks_output() -> None:
    blueprint = Blueprint((3, 4, 2), (2, 2), depth=2)
    game = little_game(blueprint.network().double(), data_for(blueprint))
    plain, batch = deepcopy(layered(game.network)), samples(4, game.data)
    gates = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    state = game.reset(batch)
    routes = [[0, 1], [1, 1], [0, 0], [1, 0]]
    while state is not None:
        action = torch.tensor(routes)[:, state.depth]
        state = game.step(Decision(action, gate=gates[state.depth]))
    hidden = [history[1] for history in blueprint.compose(plain, batch.x, routes)]
    output = torch.cat([plain.bank(1).blocks[route[1]](v) for v, route in zip(hidden, routes, strict=True)])
    (slope,) = torch.autograd.grad(F.cross_entropy(output, batch.target), output)
    assert gates.grad is not None
    torch.testing.assert_close(gates.grad[1], (slope * output).sum(1))


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision(torch.tensor([0, 3])), r"action 3 of lane 1 \(task 1\) is illegal at depth 1; legal are \[0, 1\]"),
        (Decision(torch.tensor([-1, 0])), "action -1 of lane 0"),
        (Decision(torch.tensor([0, 99])), "action 99 of lane 1"),
        (Decision(torch.tensor([0])), r"actions must be int64 of shape \[2\]; got torch.int64 of shape \[1\]"),
        (Decision(torch.tensor([0.0, 1.0])), "got torch.float32"),
        (
            Decision(torch.tensor([0, 1]), torch.ones(2, 2)),
            r"probability must be a float tensor of shape \[2, 3\] on cpu; got a tensor \S+ of shape \[2, 2\]",
        ),
        (
            Decision(torch.tensor([0, 1]), gate=torch.ones(3)),
            r"gate must be a float tensor of shape \[2\] on cpu; got a tensor torch.float32 of shape \[3\]",
        ),
    ],
)
def test_a_bad_decision_changes_nothing(decision: Decision, message: str) -> None:
    games = [little_game(LAYERED.network(), data_for(LAYERED), batch_size=2, rho=0.5) for _ in range(2)]
    for game in games:
        play(game, LAYERED.routes)
        game.reset()
    before = snapshot(games[0])
    with pytest.raises(ValueError, match=message):
        games[0].step(decision)
    assert snapshot(games[0]) == before
    for game in games:  # the deal goes on as if nothing had happened
        for _ in range(3):
            game.step(Decision(torch.tensor([1, 0])))
    assert torch.equal(games[0].trace.outcome.output, games[1].trace.outcome.output)
    assert snapshot(games[0]) == snapshot(games[1])


def test_stepping_out_of_turn() -> None:
    game = little_game(LAYERED.network(), data_for(LAYERED))
    nothing = Decision(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="call reset to deal"):
        game.step(nothing)
    with pytest.raises(RuntimeError, match="no deal has ended yet"):
        _ = game.trace
    play(game, LAYERED.routes)
    before = snapshot(game)
    with pytest.raises(RuntimeError, match="the routes have ended; call reset"):
        game.step(nothing)
    assert snapshot(game) == before


def _batch(x: Tensor | None = None, task: list[int] | None = None, target: list[int] | None = None) -> Batch:
    return Batch(torch.ones(2, 3) if x is None else x, torch.tensor(task or [0, 1]), torch.tensor(target or [0, 1]))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (_batch(x=torch.tensor([[1.0, torch.nan, 0.0]] * 2)), "NaN or infinity"),
        (_batch(x=torch.tensor([[1.0, torch.inf, 0.0]] * 2)), "NaN or infinity"),
        (_batch(x=torch.ones(2, 3, dtype=torch.float64)), "must be torch.float32, as the network is"),
        (_batch(x=torch.ones(2, 4)), r"inputs of shape \[2, 4\]"),
        (_batch(x=torch.ones(0, 3)), r"inputs of shape \[0, 3\]"),
        (_batch(task=[0, 3]), "tasks of the batch must be .* in 0 to 2"),
        (_batch(task=[0, -1]), "tasks of the batch"),
        (_batch(target=[0, 2]), "targets of the batch"),
        (_batch(target=[0]), "targets of the batch"),
    ],
)
def test_a_bad_batch_changes_nothing(batch: Batch, message: str) -> None:
    game = little_game(LAYERED.network(stem=stem(3)), data_for(LAYERED))
    before = snapshot(game)
    with pytest.raises(ValueError, match=message):
        game.reset(batch)
    assert snapshot(game) == before


def test_a_bad_regression_target_is_refused() -> None:
    game = little_game(Blueprint((3, 2), (1,), depth=1).network(), little_data(3, [2] * 3, regression=2))
    for target in (torch.tensor([[0.0, torch.nan]]), torch.zeros(1, 3)):
        with pytest.raises(ValueError, match="targets of the batch must be finite and of shape"):
            game.reset(Batch(torch.ones(1, 3), torch.tensor([0]), target))


def test_a_diverged_loss_leaves_the_weights_alone() -> None:
    def diverged(output: Tensor, target: Tensor) -> Tensor:
        return output.sum(1) * torch.inf

    game = little_game(LAYERED.network(), data_for(LAYERED), loss=diverged)
    before = snapshot(game)
    with pytest.raises(FloatingPointError, match="training has diverged"):
        play(game, LAYERED.routes)
    assert snapshot(game) == before


def test_a_network_that_does_not_fit_the_data() -> None:
    data = data_for(LAYERED)
    for widths, message in (((3, 5), r"gives \(5,\) outputs; little needs \(2,\)"), ((4, 2), r"takes \(4,\); samples")):
        with pytest.raises(ValueError, match=message):
            little_game(Blueprint(widths, (1,), depth=1).network(), data)
    with pytest.raises(ValueError, match="block_batch is 0"):
        little_game(LAYERED.network(), data, block_batch=0)


def test_observers_see_training_deals_only() -> None:
    game = little_game(LAYERED.network(), data_for(LAYERED))
    seen: list[object] = []
    game.observers.append(seen.append)
    play(game, LAYERED.routes, train=False)
    assert seen == []
    trace = play(game, LAYERED.routes)
    assert seen == [trace]


def test_the_history_of_rewards_counts_the_lanes_that_play() -> None:
    games = [little_game(LAYERED.network(), data_for(LAYERED), rho=1.0) for _ in range(2)]
    probability = torch.tensor([[0.2, 0.8, 0.0], [0.7, 0.3, 0.0], [0.6, 0.4, 0.0], [0.5, 0.5, 0.0]])
    stays = torch.tensor([True, False, True, False])
    batch = games[0].data.gather(games[0].data.train[torch.arange(4)])
    games[0].reset(batch)
    games[0].step(Decision(torch.tensor([1, -1, 0, 5]), probability), forfeit=~stays)
    games[1].reset(Batch(batch.x[stays], batch.task[stays], batch.target[stays]))
    games[1].step(Decision(torch.tensor([1, 0]), probability[stays]))
    for game in games:
        history = game.collaboration.state_dict()["average"]
        torch.testing.assert_close(history[0], torch.tensor([0.4, 0.6, 0.0]))


@pytest.mark.parametrize("block_batch", [None, 5])
def test_blocks_learn_where_the_caller_has_switched_gradients_off(block_batch: int | None) -> None:
    games = [little_game(LAYERED.network(), data_for(LAYERED), block_batch=block_batch) for _ in range(2)]
    before = snapshot(games[0])
    play(games[0], LAYERED.routes)
    with torch.no_grad():
        play(games[1], LAYERED.routes)
    assert snapshot(games[1]) == snapshot(games[0]) != before


def test_a_single_sample_for_batch_norm_is_explained() -> None:
    network = LAYERED.network(stem=nn.BatchNorm1d(3))
    game = little_game(network, data_for(LAYERED))
    with pytest.raises(ValueError, match="collect them with block_batch"):
        game.reset(_batch(x=torch.ones(1, 3), task=[0], target=[1]))
