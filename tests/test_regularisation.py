"""Dropout behind the stem, wider stems and layers of different sizes: the same for routed networks and baselines."""

from __future__ import annotations

import copy
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from routing_env import parallel_env
from routing_env.agents import make_router
from routing_env.baselines import BASELINES, Baseline, plan_beside
from routing_env.baselines.ensemble import Ensemble
from routing_env.cli import main
from routing_env.game.build import build_network, make_game, resolve
from routing_env.game.convnets import simple_convnet
from routing_env.game.dropout import SeededDropout
from routing_env.game.network import RoutedNetwork, mlp
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import SettingError
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run, resolve_run

DROPPED: dict[str, Any] = {"data": "planted", "dropout": 0.3, "threads": 1}


def dropouts(module: nn.Module) -> list[SeededDropout]:
    return [part for part in module.modules() if isinstance(part, SeededDropout)]


def weights(game: RoutingGame) -> list[torch.Tensor]:
    return [value.clone() for value in game.network.state_dict().values()]


def played(game: RoutingGame, samples: int = 200) -> list[torch.Tensor]:
    make_router("wpl", game.spec, seed=0).play(game, samples)
    return weights(game)


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout, v = SeededDropout(0.25), torch.ones(1000, 40)
    dropped = dropout(v)
    assert dropped.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(dropout.eval()(v), v)


@pytest.mark.parametrize("build", [mlp, simple_convnet])
def test_without_dropout_no_module_is_added_and_with_it_the_weights_stay(build: Any) -> None:
    networks: list[RoutedNetwork] = []
    for share in (0.0, 0.5):
        torch.manual_seed(3)
        networks.append(build((8, 8), 5, 3, dropout=share))
    plain, dropped = networks
    assert not dropouts(plain)
    assert len(dropouts(dropped)) == 1
    assert isinstance(dropped.stem, nn.Sequential)
    assert isinstance(dropped.stem[-1], SeededDropout)
    theirs = dict(dropped.named_parameters())
    assert theirs.keys() == dict(plain.named_parameters()).keys()
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, theirs[name])


def test_games_and_environments_of_one_seed_drop_the_same_features_whatever_torch_draws_elsewhere() -> None:
    settings: dict[str, Any] = {"data": "planted", "dropout": 0.3}
    torch.manual_seed(1)
    first = played(make_game(**settings))
    torch.manual_seed(2)
    assert same(played(make_game(**settings)), first)
    assert not same(played(make_game(**settings, seed=1)), first)
    assert not same(played(make_game(data="planted")), first[:-1])

    def episodes() -> list[torch.Tensor]:
        env = parallel_env(**settings)
        env.reset(seed=5)
        for _ in range(3):
            env.step(dict.fromkeys(env.agents, 0))
            env.reset()
        return weights(env.game)

    torch.manual_seed(3)
    ours = episodes()
    torch.manual_seed(4)
    assert same(episodes(), ours)


def test_a_game_goes_on_with_the_same_bits_from_its_state_and_as_a_copy() -> None:
    game, restored = (make_game(data="planted", dropout=0.3) for _ in range(2))
    played(game)
    restored.load_state_dict(game.state_dict())
    copied = copy.deepcopy(game)
    ends = [played(one) for one in (game, restored, copied)]
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])


@pytest.mark.parametrize("router", ["wpl", "mmoe"])
def test_a_resumed_run_with_dropout_ends_with_the_same_bits(router: str, tmp_path: Path) -> None:
    quiet, given = Display(Console(quiet=True)), {**DROPPED, "router": router}
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    Run.of({**given, "epochs": 2}).train(whole, quiet)
    Run.of({**given, "epochs": 1}).train(cut, quiet)
    torch.manual_seed(99)
    Run.of({**given, "epochs": 2}).train(cut, quiet)
    first, second = ([{**row, "seconds": 0} for row in directory.read_metrics()] for directory in (whole, cut))
    assert first == second


@pytest.mark.parametrize("router", BASELINES)
def test_every_baseline_takes_over_the_dropout_and_the_filters_of_the_stem(router: str) -> None:
    settings, data = resolve_run(
        {"router": router, "data": "digits", "network": "simple_convnet", "dropout": 0.3, "filters": 5}
    )
    network = BaselineLearner(settings, data).network
    members = list(network.members) if isinstance(network, Ensemble) else [network]
    for member in members:  # each has a stem
        assert isinstance(member, Baseline)
        assert [part.p for part in dropouts(member)] == [0.3]
        assert [part.out_channels for part in member.stem.modules() if isinstance(part, nn.Conv2d)] == [5] * 4
    drawn = [dropouts(member)[0].get_extra_state() for member in members]
    assert not any(torch.equal(one, other) for one, other in combinations(drawn, 2)), "members drop the same features"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"dropout": 1.0}, ValueError, "dropout is 1.0; it must be in"),
        ({"dropout": -0.1}, ValueError, "dropout is -0.1; it must be in"),
        ({"filters": 8, "network": "mlp"}, SettingError, "filters is 8 beside the network 'mlp'"),
        ({"filters": 0, "network": "simple_convnet"}, ValueError, "filters is 0; it must be at least 1"),
        ({"dropout": 0.5, "network": "routed_gru"}, ValueError, "dropout is 0.5; RoutedGRU has no such variant"),
        ({"blocks": (2, 3), "network": "routed_gru"}, ValueError, "RoutedGRU takes one number for all of its layers"),
        ({"blocks": (2, 3)}, ValueError, "2 block counts for 3 layers"),
        ({"blocks": (2, 0, 3)}, ValueError, r"blocks is \(2, 0, 3\); it must be at least 1"),
        ({"blocks": ()}, ValueError, r"blocks is \(\); it must be at least 1"),
        ({"blocks": 2.5}, SettingError, "blocks is 2.5; it must be an integer"),
    ],
)
def test_settings_out_of_range_are_named(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_game(data="digits", **given)


def test_a_network_function_settles_dropout_and_filters() -> None:
    def own(data: Any) -> RoutedNetwork:
        return mlp(data.input_shape, data.outputs, 2)

    for name, value in (("dropout", 0.1), ("filters", 8)):
        with pytest.raises(SettingError, match=f"{name} is {value} beside a network function"):
            make_game(data="digits", network=own, **{name: value})


def test_layers_have_the_numbers_of_blocks_that_are_asked_for() -> None:
    settings, data = resolve({"data": "planted", "layers": 3, "blocks": [4, 1, 2]})
    assert settings.blocks == (4, 1, 2)
    game = make_game(data="planted", layers=3, blocks=[4, 1, 2])
    assert game.spec.legal.sum(1).tolist() == [4, 1, 2]
    plan = plan_beside(build_network(settings, data), data.tasks, settings)
    assert (plan.blocks, plan.layer_blocks) == (4, (4, 1, 2))
    parameters = {
        name: sum(one.numel() for one in make_game(data="planted", layers=3, blocks=blocks).network.parameters())
        for name, blocks in (("one", 3), ("each", (3, 3, 3)), ("own", (4, 1, 2)))
    }
    assert parameters["one"] == parameters["each"] != parameters["own"]
    assert same(
        played(make_game(data="planted", layers=3, blocks=(3, 3, 3))), played(make_game(data="planted", layers=3))
    )


@pytest.mark.parametrize("options", [(), ("logits=approximator",)])
def test_a_soft_mixture_has_the_blocks_of_each_layer(options: tuple[str, ...]) -> None:
    run = Run.of(
        {"router": "soft_mixture", "router_options": options, "data": "planted", "layers": 3, "blocks": (4, 1, 2)}
    )
    assert isinstance(run.learner, BaselineLearner)
    layers = run.learner.network.get_submodule("layers")
    assert [len(layer.get_parameter("weight")) for layer in layers.children()] == [4, 1, 2]
    run.learner.play(100, lambda: None)


def test_a_baseline_of_another_depth_has_the_blocks_of_the_largest_layer_everywhere() -> None:
    settings, data = resolve({"data": "planted", "layers": 3, "blocks": [4, 1, 2]})
    plan = plan_beside(build_network(settings, data), data.tasks, settings)
    assert plan.resized(width=7).layer_blocks == (4, 1, 2)
    assert plan.resized(depth=2).layer_blocks == (4, 4)


def test_the_command_line_takes_one_number_of_blocks_or_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for typed, expected in ((["2"], 2), (["3", "1"], (3, 1))):
        name = "-".join(typed)
        words = ["--data", "planted", "--layers", "2", "--blocks", *typed, "--dropout", "0.1", "--epochs", "1"]
        monkeypatch.setattr(sys, "argv", ["routing-env", "train", *words, "--no-reference", "--name", name])
        main()
        (folder,) = tmp_path.glob(f"runs/{name}/*")
        game = RunDirectory.open(folder).read_config().game
        assert (game.blocks, game.dropout) == (expected, 0.1)
