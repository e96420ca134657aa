"""Hedge over whole routes, averages over routes in evaluation, and convolutions that are routed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from worlds import little_data

from routing_env.agents import make_router
from routing_env.agents.route_hedge import RouteHedge
from routing_env.data.planted import partition_score
from routing_env.game.build import make_game, resolve
from routing_env.game.convnets import routed_convnet
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import SettingError
from routing_env.runs.routers import forgets
from routing_env.testing import check_router
from routing_env.types import Batch, Counterfactuals, Decision, Router, State, Trace

DATA = little_data(4, (2, 3, 2), per_task=16)


def a_game(**given: Any) -> RoutingGame:
    return make_game(
        **{"data": DATA, "network": "mlp", "layers": 2, "hidden": 4, "blocks": (4, 12), "batch_size": 8, **given}
    )


def hedge(game: RoutingGame, **options: Any) -> RouteHedge:
    router = make_router("route-hedge", game.spec, seed=0, **options)
    assert isinstance(router, RouteHedge)
    return router


def columns(game: RoutingGame, batch: Batch, column: int) -> Tensor:
    """The output of everybody's n-th block in every layer."""
    with game.evaluating():
        return game.network(batch.x, batch.task, lambda state: torch.full_like(state.task, column))[0]


@pytest.mark.parametrize("options", [{"copies": 2}, {"copies": 2, "passes": False}])
def test_conformance(options: dict[str, Any]) -> None:
    check_router(partial(make_router, "route-hedge", **options))


def test_the_evidence_is_the_mean_probability_of_the_right_class() -> None:
    """The first deal, by hand: the own column before the step of the blocks, the others behind it."""
    game = make_game(data=DATA, network="mlp", layers=1, blocks=3, batch_size=8, learning_rate=0.5)
    router = hedge(game, memory=4.0, explore=1.0, least=1.0)
    batch = game.data.gather(game.data.train[torch.arange(0, 36, 4)])
    state = game.reset(batch)
    decision = router.act(state)
    assert game.step(decision) is None
    routes = router.other_routes(game.trace)
    assert routes is not None
    router.learn(replace(game.trace, route_outcomes=game.counterfactual_outcomes(routes)))
    own = decision.agent
    assert own is not None
    after = torch.stack([game.judge(columns(game, batch, c), batch)[0].loss for c in range(3)], dim=1)
    loss = after.scatter(1, own[:, None], game.trace.outcome.loss[:, None])
    assert not torch.equal(loss, after)
    for task in range(3):
        rows = (-loss[batch.task == task]).exp()
        expected = (1 - 0.75 ** len(rows)) * rows.mean(0)
        torch.testing.assert_close(router.evidence[task], expected)
    assert router.counts.tolist() == torch.bincount(batch.task).tolist()


def test_weights_are_exponential_in_the_evidence_and_favour_the_first_column_at_first() -> None:
    router = hedge(a_game(), rate=2.0, bonus=0.5, memory=10.0, explore=0.4, least=0.1, anneal=20)
    first = router.weights()[0]
    softmax = torch.tensor([1.0, *[0.0] * 11]).softmax(0)
    torch.testing.assert_close(first, 0.6 * softmax + 0.4 / 12)
    router.evidence[0, 3], router.counts[0] = 1.0, 10
    softmax = torch.tensor([0.5, 0, 0, 2.0, *[0.0] * 8]).softmax(0)
    torch.testing.assert_close(router.weights()[0], 0.75 * softmax + 0.25 / 12)


@pytest.mark.parametrize("seed", [0, 1])
def test_tasks_part_where_their_functions_differ_and_stay_together_where_they_do_not(seed: int) -> None:
    apart = make_game(data="planted", data_options=("samples=100",), learning_rate=0.2, batch_size=24, seed=seed)
    router = hedge(apart)
    router.play(apart, 30 * len(apart.data.train))
    groups = apart.spec.groups
    assert groups is not None
    routes = F.one_hot(router.evidence.argmax(1), apart.spec.actions)[:, None]
    assert partition_score(routes, groups) == 1
    crowd = make_game(scenario="crowd-12", seed=seed)
    together = hedge(crowd)
    together.play(crowd, 8 * len(crowd.data.train))
    assert len(together.evidence.argmax(1).unique()) == 1


def test_copies_play_in_turn_with_blocks_of_their_own() -> None:
    game = a_game(learning_rate=0.3)
    router = hedge(game, copies=2, own_last=True)
    assert router.columns == 2
    for deal in range(4):
        before = {name: value.clone() for name, value in game.network.state_dict().items()}
        router.play(game, 1)  # a deal
        taken = game.trace.actions
        copy = deal % 2
        assert taken[:, 0].div(2, rounding_mode="floor").eq(copy).all()
        assert taken[:, 1].equal(6 * copy + game.trace.task)
        for layer, chosen in enumerate(taken.unbind(1)):
            for block in set(range(len(game.network.bank(layer)))) - set(chosen.tolist()):  # pyright: ignore
                for name, value in game.network.bank(layer).blocks[block].state_dict().items():  # pyright: ignore
                    assert torch.equal(value, before[f"banks.{layer}.blocks.{block}.{name}"])


def test_evaluation_averages_the_probabilities_of_all_copies() -> None:
    game = a_game(learning_rate=0.3)
    router = hedge(game, copies=4)
    assert router.mixture(torch.arange(3)) is None, "nothing has been played"
    router.play(game, 400)
    batch = next(game.data.batches("test", 10_000))
    probability = torch.zeros(len(batch), game.data.outputs)
    missing = torch.arange(game.data.outputs) >= torch.tensor(game.data.classes)[batch.task, None]
    for copy in range(4):
        taken = torch.stack([torch.full_like(batch.task, copy), 3 * copy + router.evidence.argmax(1)[batch.task]], 1)
        with game.evaluating():
            output = game.network(batch.x, batch.task, lambda state, taken=taken: taken[:, state.depth])[0]
        probability += output.masked_fill(missing, -torch.inf).softmax(1) / 4
    evaluation = game.evaluate(router, "test")
    right = probability.argmax(1) == batch.target
    loss = -probability.gather(1, batch.target[:, None])[:, 0].log()
    for task in range(3):
        assert evaluation.accuracy[task] == right[batch.task == task].double().mean()
        torch.testing.assert_close(evaluation.loss[task], loss[batch.task == task].double().mean())
    assert evaluation.routes.sum((1, 2)).tolist() == [2 * n for n in torch.bincount(batch.task).tolist()]


def test_an_average_over_an_illegal_route_is_refused() -> None:
    class Illegal(Router):
        """Averages a route that does not exist in the last layer of three blocks."""

        def act(self, state: State, *, greedy: bool = False) -> Decision:
            """Take the first action."""
            return Decision(torch.zeros_like(state.task))

        def mixture(self, task: Tensor) -> tuple[Tensor, Tensor]:
            """One route."""
            return torch.tensor([[[3, 3]]]).expand(1, len(task), 2), torch.ones(1, len(task))

    with pytest.raises(ValueError, match="a route that evaluation is to average is not legal"):
        a_game(blocks=(4, 3)).evaluate(Illegal(), "test")


def test_regression_is_averaged_as_it_is() -> None:
    game = make_game(data=little_data(4, regression=2), network="mlp", layers=1, blocks=2, batch_size=8)
    router = hedge(game, copies=2)
    router.play(game, 40)
    batch = next(game.data.batches("test", 10_000))
    mean = (columns(game, batch, 0) + columns(game, batch, 1)) / 2
    squared = (mean - batch.target).square().mean(1)
    for task, loss in enumerate(game.evaluate(router, "test").loss.tolist()):
        assert loss == pytest.approx(float(squared[batch.task == task].double().mean()), rel=1e-5)


def test_what_cannot_be_is_refused() -> None:
    game = a_game()
    with pytest.raises(ValueError, match="copies is 5; it must be at most the number of blocks of each layer"):
        hedge(game, copies=5)
    with pytest.raises(ValueError, match=r"copies is 4; .* own_last must be off: the last layer has too few blocks"):
        hedge(a_game(blocks=(4, 8)), copies=4, own_last=True)
    with pytest.raises(ValueError, match="it must be off, as the last layer has 2 blocks for 3 tasks"):
        hedge(a_game(blocks=(4, 2)), own_last=True)
    with pytest.raises(ValueError, match="2 agents share the tasks; route-hedge chooses whole routes itself"):
        make_router("dispatched", game.spec, router="route-hedge", agents=2)
    router = hedge(game)
    state = game.reset()
    while state is not None:
        state = game.step(Decision(torch.zeros_like(state.task)))
    with pytest.raises(ValueError, match="do not name the columns"):
        router.learn(game.trace)


def test_known_tasks_keep_their_evidence_when_others_arrive() -> None:
    game, larger = a_game(), a_game(data=little_data(4, (2, 3, 2, 2), per_task=16))
    router = hedge(game)
    router.play(game, 80)
    grown = router.grow(larger.spec)
    assert torch.equal(grown.evidence[:3], router.evidence)
    assert grown.evidence[3].eq(0).all()
    assert grown.counts.tolist() == [*router.counts.tolist(), 0]


def test_a_router_is_told_what_the_routes_that_it_names_lead_to() -> None:
    """By play alone; a router that learns from it and has no state is known to forget."""

    class Learns(Router):
        """Asks about two routes, and keeps nothing."""

        told: ClassVar[list[Counterfactuals | None]] = []

        def act(self, state: State, *, greedy: bool = False) -> Decision:
            """Take the first action."""
            return Decision(state.legal.int().argmax(1))

        def other_routes(self, trace: Trace) -> Tensor | None:
            """In the first deal: what has been played, and the same again."""
            return None if self.told else torch.stack([trace.actions, trace.actions])

        def learn(self, trace: Trace) -> dict[str, float]:
            """Learn something."""
            self.told.append(trace.route_outcomes)
            return {}

    game = a_game(learning_rate=1e-9)
    Learns().play(game, 2)
    Learns().play(game, 2)
    first, second = Learns.told
    assert second is None
    assert first is not None
    assert first.loss.shape[0] == 2
    assert torch.equal(first.loss[0], first.loss[1])
    assert forgets(Learns())
    assert not forgets(hedge(a_game()))


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_routed_convolutions_are_the_network_composed_by_hand(layers: int) -> None:
    torch.manual_seed(0)
    network = routed_convnet((3, 16, 16), 4, 3, layers=layers, filters=5).eval()
    assert network.depth == layers
    assert network.spec(2).legal.sum().item() == 3 * layers
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)  # pyright: ignore[reportArgumentType]
    x, task = torch.randn(7, 3, 16, 16), torch.arange(7) % 2
    chosen = torch.randint(3, (7, layers))
    output, _ = network(x, task, lambda state: chosen[:, state.depth])
    assert output.shape == (7, 4)
    for lane in range(7):
        v = network.stem(x[lane : lane + 1])
        for layer in range(layers):
            v = network.bank(layer).blocks[int(chosen[lane, layer])](v)
        torch.testing.assert_close(output[lane], v[0], rtol=1e-4, atol=1e-5)


def test_settings_of_routed_convolutions() -> None:
    for blocks, layers in (((2, 2), 3), ((2, 0, 2), 3), (2, 6), (2, 0)):
        with pytest.raises(ValueError, match=r"block counts are|layers is|must be at least 1"):
            make_game(data="digits", network="routed_convnet", blocks=blocks, layers=layers)
    with pytest.raises(ValueError, match="routed_convnet takes images"):
        routed_convnet((5,), 2, 1)
    with pytest.raises(SettingError, match="hidden is 8 beside the network 'routed_convnet'"):
        resolve({"data": "digits", "network": "routed_convnet", "hidden": 8})
    dropped = routed_convnet((8, 8), 2, [2, 2, 4], filters=4, dropout=0.5)
    assert len({id(block[-1]) for block in dropped.bank(1).blocks}) == 1, "one generator for all blocks"  # pyright: ignore
