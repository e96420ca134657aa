"""The moving average of the weights: its numbers by hand, and that training never sees it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from routing_env.agents import make_router
from routing_env.game.averaging import WeightAverage
from routing_env.game.build import make_game
from routing_env.game.routing_game import RoutingGame
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run
from routing_env.types import Decision

SETTINGS: dict[str, Any] = {"data": "digits", "network": "simple_convnet", "hidden": 8, "filters": 4}


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def averages(game: RoutingGame) -> dict[str, Tensor]:
    with game.evaluating():
        return weights(game.network)


def played(samples: int = 200, **given: Any) -> RoutingGame:
    game = make_game(**SETTINGS, **given)
    make_router("random", game.spec, seed=0).play(game, samples)
    return game


def test_averages_by_hand() -> None:
    trained, other = nn.Parameter(torch.tensor([9.0])), nn.Parameter(torch.tensor([5.0]))
    statistic, count = torch.tensor([1.0]), torch.tensor(3)
    average = WeightAverage([trained, other], [statistic, count], 0.6)
    expected: list[float] = []
    for value in (1.0, 2.0, 6.0, 0.0):
        with torch.no_grad():
            trained.fill_(value)
            statistic.fill_(10 * value)
        average.update([trained])
        with average.applied():
            expected.append(trained.item())
            assert (other.item(), count.item()) == (5.0, 3)
            assert statistic.item() == pytest.approx(10 * trained.item())
        assert trained.item() == value
    # the mean of one and of two steps; then 1 - 0.6 of the way, since 2 / 3 is above 0.6
    assert expected == pytest.approx([1.0, 1.5, 1.5 + 0.4 * 4.5, 3.3 - 0.4 * 3.3])


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_named(decay: float) -> None:
    with pytest.raises(ValueError, match=f"weight_average is {decay}; it must be in"):
        make_game(data="planted", weight_average=decay)


def test_training_is_the_same_to_the_bit_and_evaluation_has_other_weights() -> None:
    plain, averaged = played(), played(weight_average=0.9)
    assert same(weights(plain.network), weights(averaged.network))
    assert same(averages(plain), weights(plain.network))
    assert not same(averages(averaged), weights(averaged.network))
    assert same(weights(plain.network), weights(averaged.network)), "evaluation has given the weights back"


def test_evaluation_is_that_of_a_network_with_the_averages() -> None:
    game, other = played(weight_average=0.9), make_game(**SETTINGS)
    other.network.load_state_dict(averages(game))
    router = make_router("fixed", game.spec)
    ours, theirs = (one.evaluate(router, "test") for one in (game, other))
    assert torch.equal(ours.loss, theirs.loss)
    assert not torch.equal(ours.loss, played().evaluate(router, "test").loss)


def test_the_average_of_a_block_moves_only_when_the_block_is_trained() -> None:
    game = make_game(data="planted", weight_average=0.9)
    for block in (0, 1, 0):
        before = averages(game)
        state = game.reset()
        game.step(Decision(torch.full_like(state.task, block)))
        moved = {name for name, value in averages(game).items() if not torch.equal(value, before[name])}
        assert moved == {name for name in before if name.startswith(f"banks.0.blocks.{block}.")}


def test_evaluation_within_a_deal_leaves_its_gradients_alone() -> None:
    ends: list[dict[str, Tensor]] = []
    for evaluates in (False, True):
        game = played(weight_average=0.9)
        router = make_router("fixed", game.spec)
        state = game.reset()
        while state is not None:
            if evaluates:
                game.evaluate(router, "validation")
            state = game.step(router.act(state))
        ends.append(weights(game.network))
    assert same(*ends)


def test_a_copy_and_a_restored_game_go_on_with_the_same_averages() -> None:
    game, restored = played(weight_average=0.9), make_game(**SETTINGS, weight_average=0.9)
    restored.load_state_dict(game.state_dict())
    ends: list[dict[str, Tensor]] = []
    for one in (game, restored, copy.deepcopy(game)):
        make_router("random", one.spec, seed=1).play(one, 100)
        ends.append(averages(one))
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])
    with pytest.raises(ValueError, match="average"):
        make_game(**SETTINGS).load_state_dict(game.state_dict())


@pytest.mark.parametrize("router", ["wpl", "mmoe"])
def test_a_resumed_run_evaluates_by_the_same_averages(router: str, tmp_path: Path) -> None:
    quiet = Display(Console(quiet=True))
    given = {"data": "planted", "router": router, "threads": 1, "weight_average": 0.95}
    directories = {name: RunDirectory(tmp_path / name) for name in ("whole", "cut", "plain")}
    for directory in directories.values():
        directory.path.mkdir()
    Run.of({**given, "epochs": 2}).train(directories["whole"], quiet)
    Run.of({**given, "epochs": 1}).train(directories["cut"], quiet)
    Run.of({**given, "epochs": 2}).train(directories["cut"], quiet)
    Run.of({**given, "epochs": 2, "weight_average": 0.0}).train(directories["plain"], quiet)
    rows = {name: [{**row, "seconds": 0} for row in one.read_metrics()] for name, one in directories.items()}
    assert rows["whole"] == rows["cut"]
    assert rows["whole"][-1]["train_loss"] == rows["plain"][-1]["train_loss"]
    assert rows["whole"][-1]["test_loss"] != rows["plain"][-1]["test_loss"]
