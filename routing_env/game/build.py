"""From settings to a game: :func:`resolve` is the one place where what is not given is filled in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import MISSING, fields, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from routing_env.data import EndlessPass, MultiTaskData, OnePerTask, ShuffledPass, first_tasks, load, training_share
from routing_env.data.dealers import Dealer, DriftingTasks
from routing_env.game.averaging import WeightAverage
from routing_env.game.convnets import routed_convnet, simple_convnet
from routing_env.game.measured_rewards import MEASURED_REWARDS, MeasuredReward
from routing_env.game.network import RoutedNetwork, mlp
from routing_env.game.own_parts import own_part
from routing_env.game.recurrent import RoutedGRU, RoutedLSTM, steps_and_features
from routing_env.game.rewards import COLLABORATIONS, FINAL_REWARDS, CollaborationReward, FinalReward
from routing_env.game.routed_model import RoutedModel
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Given, SettingError, Settings, check, is_function
from routing_env.game.training import LOSSES, BlockTrainer, network_mode
from routing_env.names import as_integer, find, parse_options
from routing_env.scenarios import settled_by_scenario, with_scenario
from routing_env.torch_settings import find_device, usual_torch

NetworkFactory = Callable[[MultiTaskData], RoutedModel]
"""Builds a network for a data set, new on every call."""

RECURRENT: dict[str, Callable[..., RoutedModel]] = {
    "routed_lstm": RoutedLSTM.from_settings,
    "routed_gru": RoutedGRU.from_settings,
}

CONVOLUTIONAL: dict[str, Callable[..., RoutedModel]] = {
    "simple_convnet": simple_convnet,
    "routed_convnet": routed_convnet,
}

NETWORKS: dict[str, Callable[..., RoutedModel]] = {"mlp": mlp, **CONVOLUTIONAL, **RECURRENT}

DEALERS: dict[str, Callable[[MultiTaskData, int, int], Dealer]] = {
    "shuffled": ShuffledPass,
    "endless": EndlessPass,
    "per_task": OnePerTask,
}
"""From data, samples per deal and seed to a dealer."""


@usual_torch()
def make_game(**given: Any) -> RoutingGame:
    """Build a game. The same settings give the same game, bit for bit on the CPU.

    Args:
        given: fields of :class:`~routing_env.game.settings.Settings`; ``data`` may also be a
            :class:`~routing_env.data.base.MultiTaskData`. What is not given follows from the data set.

    Raises:
        SettingError: a setting that does not exist, has the wrong type, is out of range, or does not go with another.
        ValueError: a setting that does not fit the data.
    """
    return build_game(*resolve(given))


@usual_torch()
def resolve(given: Given, *, also: Iterable[str] = (), routed: bool = True) -> tuple[Settings, MultiTaskData]:
    """Load the data, and give every setting its value: the given one, the data set's usual one, or the default.

    Args:
        given: settings by their names, as for :func:`make_game`.
        also: other arguments that the caller takes, for the message about an unknown one.
        routed: whether the network is to be routed.

    Returns:
        The settings, and the data on their device.

    Raises:
        SettingError: a setting that does not exist, has the wrong type, or does not go with another.
        ValueError: a setting out of range, or data that cannot be loaded.
    """
    own = given.get("data")
    if isinstance(own, MultiTaskData):
        for name in ("tasks", "fraction", "validation", "data_options"):
            if name in given:
                raise SettingError(
                    f"{name} is {given[name]!r} beside data of your own; it cuts data sets by name: cut your data with "
                    "routing_env.data.first_tasks and training_share, and give validation where the data are made"
                )
        given = {**given, "data": own.name}
    elif "data" in given and not isinstance(own, str):
        raise SettingError(f"data is {own!r}; it must be a MultiTaskData, or a string that names one")
    given = with_scenario(check(given, Settings, also=also))
    _check_together(given)
    data = own if isinstance(own, MultiTaskData) else load_data(given)
    settings = Settings(**{**_derived(given, data), **_usual(data), **given})
    _check_memory(settings, data, 1)  # of each layer; baselines have fewer blocks than networks
    if "hidden" in given and settings.network == "routed_convnet":
        raise SettingError(
            f"hidden is {settings.hidden} beside the network 'routed_convnet', which has no fully connected layers "
            "between; leave it out, or give filters"
        )
    if "hidden" in given and settings.network == "mlp" and settings.layers == 1 and routed:
        raise SettingError(f"hidden is {settings.hidden} beside a single layer; leave it out, or set layers above 1")
    if "filters" in given and settings.network not in CONVOLUTIONAL:
        raise SettingError(
            f"filters is {settings.filters} beside the network {settings.network!r}, which has no convolutions; "
            "leave it out, or use simple_convnet"
        )
    if data.classes is None and settings.final_reward == "correct":
        raise SettingError("final_reward is 'correct', which regression never is; use 'negative_loss' or 'team'")
    return settings, data.to(find_device(settings.device))


@usual_torch()  # whatever mode the caller is in, the blocks can be trained
def build_game(settings: Settings, data: MultiTaskData) -> RoutingGame:
    """Build the game of resolved settings, on the device of the data.

    Raises:
        ValueError: a setting out of range.
    """
    check({field.name: getattr(settings, field.name) for field in fields(settings)}, Settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(settings, data)
    network = network.to(data.device)
    if settings.visitors:
        network.visitors = routes_of_visitors(settings.visitors, data, network)
    spec = network.spec(data.tasks, data.device, data.input_shape)
    _refuse_single_samples(settings, network, data)
    build_collaboration = find("collaboration reward", settings.collaboration, COLLABORATIONS)
    game = RoutingGame(
        data,
        network,
        build_trainer(settings, network),
        build_dealer(settings, data),
        own_part("collaboration", build_collaboration(spec, settings.rho), CollaborationReward),
        final_reward=build_final_reward(settings, data),
        loss=find("loss", settings.loss, LOSSES),
        block_batch=settings.block_batch,
    )
    game.settings = as_built(settings, network)
    return game


def load_data(given: Given) -> MultiTaskData:
    """The data set that settings name, cut as they say. Settings that are not given have their defaults.

    Raises:
        ValueError: an unknown name, or a setting out of range.
        FileNotFoundError: a file is missing.
    """
    given = {**settled_by_scenario(given), **given}
    name, data_dir, validation, fraction, tasks, seed = (
        given.get(name, default_of(name)) for name in ("data", "data_dir", "validation", "fraction", "tasks", "seed")
    )
    options = parse_options(given.get("data_options", ()))
    data = load(name, data_dir=data_dir, validation=validation, seed=seed, **options)
    if tasks is not None:
        data = first_tasks(data, tasks)
    return data if fraction == 1 else training_share(data, fraction, seed=seed)


def build_dealer(settings: Settings, data: MultiTaskData) -> Dealer:
    """The dealer of resolved settings.

    Raises:
        ValueError: tasks cannot change hands.
    """
    build = find("dealer", settings.dealer, DEALERS)
    dealer = own_part("dealer", build(data, settings.batch_size, settings.seed), Dealer)
    return DriftingTasks(dealer, data, settings.drift) if settings.drift else dealer


def routes_of_visitors(number: int, data: MultiTaskData, network: RoutedModel) -> Tensor:
    """The routes int64 [T, D] of the first tasks of each group, -1 for the others.

    The visitors of a group take one block of each layer, another one than those of the next group.

    Raises:
        ValueError: the data know no groups, or a group has no further task.
    """
    if data.groups is None:
        raise ValueError(f"visitors is {number}, but {data.name} has no groups; use planted")
    spec = network.spec(data.tasks, input_shape=data.input_shape)
    routes = torch.full((data.tasks, spec.depth), -1)
    for group in sorted(set(data.groups)):
        members = [task for task, own in enumerate(data.groups) if own == group]
        if not 0 < number < len(members):
            raise ValueError(f"visitors is {number}; it must be from 0 to {len(members) - 1}, less than group {group}")
        routes[members[:number]] = torch.tensor([layer[(group + 1) % len(layer)] for layer in spec.layers])
    return routes.to(data.device)


def build_network(settings: Settings, data: MultiTaskData) -> RoutedModel:
    """The network of resolved settings; its weights come from torch's own generator."""
    build = find("network", settings.network, NETWORKS)
    if is_function(settings.network):
        return own_part("network", build(data), RoutedModel)
    _check_memory(settings, data, settings.blocks)
    sizes = {"filters": settings.filters} if settings.network in CONVOLUTIONAL else {}
    if settings.network != "routed_convnet":
        sizes["hidden"] = settings.hidden
    return build(
        data.input_shape,
        data.outputs,
        settings.blocks,
        layers=settings.layers,
        recursive=settings.recursive,
        pass_action=settings.pass_action,
        depth=settings.depth,
        dropout=settings.dropout,
        **sizes,
    )


def as_built(settings: Settings, network: RoutedModel) -> Settings:
    """The settings that describe a network that a function has built; ``blocks`` is the size of the largest layer."""
    if not is_function(settings.network):
        return settings
    passes = network.pass_action is not None
    if not isinstance(network, RoutedNetwork):
        largest = network.actions - passes
        sizes = {"hidden": network.features, "layers": network.depth, "depth": network.depth, "blocks": largest}
        return replace(settings, **sizes, recursive=False, pass_action=passes)
    banks = [network.bank(layer) for layer in range(len(network.banks))]
    return replace(
        settings,
        hidden=prod(banks[0].out_shape if len(banks) > 1 else banks[0].in_shape),
        layers=len(banks),
        blocks=max(map(len, banks)),
        recursive=network.recursive,
        pass_action=passes,
        depth=network.depth,
    )


def build_final_reward(settings: Settings, data: MultiTaskData) -> FinalReward:
    """The final reward of resolved settings.

    Raises:
        ValueError: the data do not have what it is measured by.
    """
    reward: FinalReward | type[MeasuredReward] = find(
        "final reward", settings.final_reward, {**FINAL_REWARDS, **MEASURED_REWARDS}
    )
    if isinstance(reward, type) and issubclass(reward, MeasuredReward):
        return reward(data, settings.seed)
    return reward


def build_trainer(settings: Settings, network: nn.Module, *, apart: Iterable[nn.Parameter] = ()) -> BlockTrainer:
    """The optimiser and schedule of resolved settings for a network's parameters; ``apart`` as in the trainer."""
    optimizer: Any = settings.optimizer
    if is_function(optimizer):
        optimizer = find("optimizer", optimizer, {})
    decay = settings.weight_average
    return BlockTrainer(
        network.parameters(),
        optimizer=optimizer,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        decay_every=settings.decay_every,
        decay_factor=settings.decay_factor,
        apart=apart,
        average=WeightAverage(network.parameters(), network.buffers(), decay) if decay else None,
    )


def check_seed(seed: Any) -> int:
    """The seed of a world as a Python integer.

    Raises:
        ValueError: it is not an integer from 0 to 2**63 - 1.
    """
    number = as_integer(seed)
    if number is None or not 0 <= number < 2**63:
        raise ValueError(f"seed is {seed!r}; it must be an integer from 0 to 2**63 - 1")
    return number


def _refuse_single_samples(settings: Settings, network: RoutedModel, data: MultiTaskData) -> None:
    """Refuse training on one sample at a time where batch norm outside the blocks would need more.

    A sample of ones is routed in training mode; the network is left as it was.

    Raises:
        SettingError: it cannot be routed.
    """
    norms = any(isinstance(part, _BatchNorm) for part in network.modules())
    if not norms or max(settings.block_batch or 1, settings.batch_size) > 1:
        return
    before = deepcopy(network.state_dict())
    ones = torch.ones(1, *data.input_shape, device=data.device)
    task = torch.zeros(1, dtype=torch.int64, device=data.device)
    try:
        with torch.random.fork_rng(devices=[]), network_mode(network, train=True), torch.no_grad():
            network(ones, task, lambda state: state.legal.int().argmax(1))
    except ValueError as error:
        name = "batch_size" if settings.block_batch is None else "block_batch"
        raise SettingError(f"{name} is {getattr(settings, name)}: {error}") from error
    finally:
        network.load_state_dict(before)


def _check_memory(settings: Settings, data: MultiTaskData, blocks: int | tuple[int, ...]) -> None:
    """Refuse a network of which the weights alone take more memory than the machine has.

    The estimate counts only what every built-in network has: a matrix from each width to the next in every block.

    Raises:
        SettingError: there is too little memory.
    """
    if is_function(settings.network) or "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return
    hidden, layers = settings.hidden, settings.layers
    inner = [hidden**2] * (layers - 2)
    sizes = [hidden, *inner, hidden * data.outputs] if layers > 1 else [data.outputs]
    if settings.network in RECURRENT:
        sizes = [hidden**2] * layers
    counts = blocks if isinstance(blocks, tuple) else [blocks] * layers
    weights = sum(count * (size + _EMPTY_BLOCK) for count, size in zip(counts, sizes, strict=False))
    if settings.network in CONVOLUTIONAL:
        weights += settings.filters**2
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 4 * weights > memory:
        raise SettingError(
            f"hidden is {hidden}, layers {layers}, blocks {settings.blocks} and filters {settings.filters}: a network "
            f"of more than {4 * weights // 2**30:,} GiB, and this machine has {memory // 2**30:,}; lower one of them"
        )


_EMPTY_BLOCK = 500
"""Weights that take as much memory as a module without any."""


def default_of(name: str) -> Any:
    """The default of a setting."""
    return next(field.default for field in fields(Settings) if field.name == name and field.default is not MISSING)


def _usual(data: MultiTaskData) -> dict[str, Any]:
    """The settings of a game that the data set is usually trained with; for images of your own those of the paper."""
    usual: Mapping[str, Any] = data.usual
    if not usual and len(data.input_shape) in (2, 3) and min(data.input_shape[-2:]) >= 8:
        usual = {"network": "simple_convnet", "hidden": 128}
    names = {field.name for field in fields(Settings)}
    return check({name: value for name, value in usual.items() if name in names}, Settings)


def _derived(given: Given, data: MultiTaskData) -> dict[str, Any]:
    """The defaults that follow from the data or from other settings."""
    regression = data.classes is None
    chosen = {**_usual(data), **given}
    network = chosen.get("network", default_of("network"))
    recurrent = isinstance(network, str) and network in RECURRENT
    layers = chosen.get("layers", 1 if recurrent else default_of("layers"))
    return {
        "blocks": len(set(data.groups or range(data.tasks))),
        "layers": layers,
        "depth": layers * (steps_and_features(data.input_shape)[0] if recurrent else 1),
        "loss": "squared_error" if regression else "cross_entropy",
        "final_reward": "negative_loss" if regression else "correct",
    }


def _check_together(given: Given) -> None:
    """Refuse settings that would silently do nothing beside the other ones.

    Raises:
        SettingError: settings beside a function that settles them itself, momentum beside Adam, or a collaboration
            reward without rho.
    """
    for kind, settled in (("network", Settings.OF_NETWORK), ("optimizer", Settings.OF_OPTIMIZER)):
        for name in settled if is_function(given.get(kind, "")) else ():
            if name in given:
                raise SettingError(
                    f"{name} is {given[name]!r} beside {'an' if kind[0] in 'aeiou' else 'a'} {kind} function, which "
                    f"settles it itself; leave it out, or give the name of a built-in {kind}"
                )
    if given.get("collaboration") in COLLABORATIONS and "rho" not in given:
        raise SettingError(f"collaboration is {given['collaboration']!r} without rho and pays nothing; give rho too")
    if given.get("optimizer") == "adam" and given.get("momentum"):
        raise SettingError(f"momentum is {given['momentum']} beside adam, which has none; leave it out, or use sgd")
