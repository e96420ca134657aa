"""From settings to a game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from routing_env.data import (
    EndlessPass,
    MultiTaskData,
    OnePerTask,
    ShuffledPass,
    first_tasks,
    load,
    recipe,
    training_share,
)
from routing_env.game.network import RoutedNetwork, mlp, simple_convnet
from routing_env.game.rewards import FINAL_REWARDS, Collaboration
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import GameConfig
from routing_env.game.training import BlockTrainer, Loss
from routing_env.names import look_up

NetworkFactory = Callable[[MultiTaskData], RoutedNetwork]
T = TypeVar("T")


def make_game(
    config: GameConfig | None = None,
    *,
    data: MultiTaskData | None = None,
    network: NetworkFactory | None = None,
    loss: Loss | None = None,
    deal: Literal["pass", "endless", "per_task"] = "pass",
    copies: int = 1,
) -> RoutingGame:
    """Build a game. The same settings give the same game, to the bit, on the CPU.

    Args:
        config: settings; None stands for the defaults.
        data: tasks of one's own in place of ``config.data``.
        network: builds a network of one's own for the data, in place of ``config.network`` and its sizes.
        loss: per lane, in place of cross-entropy or squared error.
        deal: "pass" deals up to ``batch_size`` samples of a shuffled pass, "endless" exactly so many, from one pass
            into the next, "per_task" samples of every task.
        copies: samples of every task in a deal of "per_task".

    Raises:
        ValueError: a setting out of range, with its name.
    """
    config = config or GameConfig()
    device = find_device(config.device)
    if data is None:
        data = load_data(config)
    elif config.tasks not in (None, data.tasks):
        raise ValueError(f"tasks is {config.tasks}, but the data have {data.tasks} tasks; cut them with first_tasks")
    data = data.to(device)
    config = resolve(config, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        routed = network(data) if network else make_network(config, data)
    routed = routed.to(device)
    if deal == "per_task":
        dealer = OnePerTask(data, config.seed, copies=copies)
    else:
        passes = {"pass": ShuffledPass, "endless": EndlessPass}
        dealer = look_up("deal", deal, passes)(data, _known(config.batch_size), config.seed)
    collaboration = Collaboration(
        routed.depth,
        routed.actions,
        rho=_known(config.rho),
        kind=config.collaboration,
        pass_action=routed.pass_action,
        device=device,
    )
    return RoutingGame(
        data,
        routed,
        make_trainer(config, routed),
        dealer,
        collaboration,
        final_reward=look_up("final reward", _known(config.final_reward), FINAL_REWARDS),
        loss=loss,
        block_batch=config.block_batch,
    )


def resolve(config: GameConfig, data: MultiTaskData) -> GameConfig:
    """The same settings with the data set's recipe where they leave the choice to it."""
    if data.classes is None and config.final_reward == "correct":
        raise ValueError("final_reward is 'correct', which regression never is; use 'negative_loss', or leave it out")
    usual = recipe(data)
    choices: dict[str, Any] = {
        "network": usual.network,
        "hidden": usual.hidden,
        "layers": usual.layers,
        "blocks": len(set(data.groups or range(data.tasks))),
        "rho": usual.rho,
        "learning_rate": usual.learning_rate,
        "batch_size": usual.batch_size,
        "final_reward": "negative_loss" if data.classes is None else "correct",
    }
    open_choices = {name: value for name, value in choices.items() if getattr(config, name) is None}
    return replace(config, data=data.name, **open_choices)


def load_data(config: GameConfig) -> MultiTaskData:
    """The data set that the settings name."""
    data = load(config.data, data_dir=config.data_dir, validation=config.validation, seed=config.seed)
    if config.tasks is not None:
        data = first_tasks(data, config.tasks)
    return data if config.fraction == 1 else training_share(data, config.fraction, seed=config.seed)


def make_network(config: GameConfig, data: MultiTaskData) -> RoutedNetwork:
    """The routed network for resolved settings; its weights come from torch's own generator."""
    for name in ("hidden", "layers", "blocks"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least 1")
    networks = {"mlp": mlp, "simple_convnet": simple_convnet}
    return look_up("network", _known(config.network), networks)(
        data.input_shape,
        data.outputs,
        _known(config.blocks),
        hidden=_known(config.hidden),
        layers=_known(config.layers),
        recursive=config.recursive,
        pass_action=config.pass_action,
        depth=config.depth,
    )


def make_trainer(config: GameConfig, network: nn.Module) -> BlockTrainer:
    """The optimiser and schedule of resolved settings for a network's parameters."""
    return BlockTrainer(
        network.parameters(),
        optimizer=config.optimizer,
        learning_rate=_known(config.learning_rate),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decay_every=config.decay_every,
        decay_factor=config.decay_factor,
    )


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not available: {str(error).splitlines()[0]}; try cpu") from error
    return device


def _known(value: T | None) -> T:
    """A setting that ``resolve`` has filled in."""
    assert value is not None
    return value
