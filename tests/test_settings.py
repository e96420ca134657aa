"""Every number among the settings has a type and a range, and both are checked at every door."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import nn
from worlds import little_data

from routing_env.data import MultiTaskData, load
from routing_env.envs.single import RoutingEnv
from routing_env.game.build import build_game, make_game, resolve
from routing_env.game.collecting import CollectedDeals
from routing_env.game.network import RoutedNetwork, linear_layers, mlp
from routing_env.game.settings import SettingError, Settings, ranges_of, types_of
from routing_env.game.training import BlockTrainer
from routing_env.runs.run import resolve_run
from routing_env.runs.settings import RunSettings

HUGE = 10**400

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"recursive": "no"}, "recursive is 'no'; it must be True or False"),
    ({"pass_action": 1}, "pass_action is 1; it must be True or False"),
    ({"block_batch": math.nan}, "block_batch is nan; it must be an integer or None"),
    ({"block_batch": 0}, "block_batch is 0; it must be at least 1"),
    ({"learning_rate": math.inf}, "learning_rate is inf; it must be a finite number"),
    ({"learning_rate": HUGE}, "it must be a finite number"),
    ({"learning_rate": 0}, "learning_rate is 0.0; it must be above 0"),
    ({"momentum": 0.9, "optimizer": "adam"}, "momentum is 0.9 beside adam, which has none"),
    ({"seed": -1}, "seed is -1; it must be an integer from 0 to 2**63 - 1"),
    ({"seed": 2**64}, "it must be an integer from 0 to 2**63 - 1"),
    ({"seed": True}, "seed is True; it must be an integer"),
    ({"hidden": 10**10}, "hidden is 10000000000; it must be at least 1 and at most"),
    ({"hidden": 10**9}, "hidden is 1000000000, layers 3"),
    ({"hidden": HUGE}, "it must be at least 1 and at most"),
    ({"blocks": 10**10}, "blocks is 10000000000; it must be at least 1 and at most"),
    ({"blocks": (2, 0, 2)}, "blocks is (2, 0, 2); it must be at least 1"),
    ({"blocks": ()}, "blocks is (); it must be at least 1"),
    ({"filters": 10**9, "network": "simple_convnet"}, "filters 1000000000: a network"),
    ({"batch_size": 10**10}, "batch_size is 10000000000; it must be at least 1 and at most"),
    ({"rho": (0.5, 1.5, 0.0)}, "rho is (0.5, 1.5, 0.0); it must be in [0, 1]"),
    ({"validation": 1.0}, "validation is 1.0; it must be in [0, 1)"),
    ({"drift": -1}, "drift is -1; it must be at least 0"),
]
WRONG_OF_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "epochs is 0; it must be at least 1"),
    ({"epochs": 1.5}, "epochs is 1.5; it must be an integer"),
    ({"threads": 10**10}, "threads is 10000000000; it must be at least 1 and at most 1,024"),
    ({"reference": "no"}, "reference is 'no'; it must be True or False"),
    ({"arrivals": "9+1", "replay": 1.0}, "replay is 1.0; it must be in [0, 1)"),
    ({"arrivals": "9+1", "shots": -1}, "shots is -1; it must be at least 0"),
    ({"arrivals": "9+1", "arrival_order": (0, -1)}, "arrival_order is (0, -1); it must be at least 0"),
]


@pytest.mark.parametrize("owner", [Settings, RunSettings])
def test_every_number_has_a_range_that_its_default_is_in(owner: type) -> None:
    def is_number(kind: Any) -> bool:
        return kind in (int, float) or any(map(is_number, get_args(kind)))

    numbers = {name for name, kind in types_of(owner).items() if is_number(kind)}
    assert numbers == ranges_of(owner).keys()


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_settings_of_the_wrong_kind_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        make_game(**given)
    with pytest.raises(SettingError, match=re.escape(message)):
        resolve_run(given)


@pytest.mark.parametrize(("given", "message"), WRONG_OF_RUNS, ids=lambda value: str(value)[:40])
def test_settings_of_a_run_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        resolve_run(given)


@pytest.mark.parametrize(
    "given", [{"hidden": 0}, {"drift": -1}, {"learning_rate": math.inf}, {"recursive": "no"}], ids=str
)
def test_settings_that_were_put_together_by_hand_are_checked_too(given: dict[str, Any]) -> None:
    settings, data = resolve({"hidden": 4, "blocks": 2})
    with pytest.raises(SettingError, match=next(iter(given))):
        build_game(replace(settings, **given), data)


def test_the_usual_settings_of_own_data_are_checked_too() -> None:
    data = replace(load("digits"), usual={"learning_rate": math.nan})
    with pytest.raises(SettingError, match="learning_rate is nan; it must be a finite number"):
        make_game(data=data)


OF_THE_TRAINER: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": math.inf}, "learning_rate is inf"),
    ({"momentum": 0.9, "optimizer": "adam"}, "momentum is 0.9 beside adam"),
    ({"decay_every": math.nan}, "decay_every is nan"),
    ({"weight_decay": "0"}, "weight_decay is '0'"),
]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CollectedDeals(math.nan), "block_batch is nan"),  # pyright: ignore[reportArgumentType]
        (lambda: mlp((2,), 2, 1, recursive="no"), "recursive is 'no'"),  # pyright: ignore[reportArgumentType]
        (lambda: mlp((2,), 2, 1, hidden=10**10), "hidden is 10000000000"),
        (lambda: mlp((2,), 2, 1, dropout=math.nan), "dropout is nan"),
        *[
            (lambda given=given: BlockTrainer([nn.Parameter(torch.zeros(1))], **given), message)
            for given, message in OF_THE_TRAINER
        ],
    ],
)
def test_parts_that_are_built_by_hand_refuse_the_same(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_batch_norm_that_would_see_single_samples_is_refused_when_the_game_is_built() -> None:
    def network(data: MultiTaskData) -> RoutedNetwork:
        features = data.input_shape[0]
        return RoutedNetwork(nn.BatchNorm1d(features), linear_layers([features, data.outputs], 2), (features,))

    given: dict[str, Any] = {"data": little_data(), "network": network}
    with pytest.raises(SettingError, match=r"block_batch is 1: batch norm outside the blocks cannot train on a single"):
        RoutingEnv(**given, block_batch=1)
    with pytest.raises(SettingError, match=r"batch_size is 1: batch norm outside the blocks"):
        make_game(**given, batch_size=1)
    assert RoutingEnv(**given, block_batch=2).settings.block_batch == 2
    assert make_game(**given, batch_size=4, block_batch=1).settings is not None  # deals are larger than that
    assert RoutingEnv(data=little_data(), network="mlp", block_batch=1).settings.block_batch == 1
