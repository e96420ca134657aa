"""Small games of every kind of network, with blocks and a history that are not those of the beginning."""

from __future__ import annotations

from typing import Any

from routed_models import MODELS
from torch import nn
from worlds import little_data

from routing_env.agents import make_router
from routing_env.data import MultiTaskData
from routing_env.game.build import make_game
from routing_env.game.network import RoutedNetwork, linear_layers
from routing_env.game.routing_game import RoutingGame

DATA = little_data(4, (2, 3, 2), per_task=16)


def with_batch_norm(data: MultiTaskData) -> RoutedNetwork:
    """Batch norm in the stem and in the blocks."""
    stem = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    blocks = [[nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2)] for _ in range(2)]
    return RoutedNetwork(stem, [*blocks, *linear_layers([4, data.outputs], 3)], (4,))


GAMES: dict[str, dict[str, Any]] = {
    **{name: {"network": model} for name, model in MODELS.items()},
    "layered": {"network": "mlp", "hidden": 4, "layers": 2},
    "recursive": {
        "network": "mlp",
        "hidden": 4,
        "layers": 2,
        "recursive": True,
        "pass_action": True,
        "depth": 3,
        "blocks": 2,
    },
}

GAMES_AND_BATCH_NORM = {**GAMES, "batch-norm": {"network": with_batch_norm}}


def trained(name: str, **more: Any) -> RoutingGame:
    """A game after ten deals of WPL."""
    game = make_game(data=DATA, batch_size=8, rho=0.3, learning_rate=0.1, **GAMES_AND_BATCH_NORM[name], **more)
    make_router("wpl", game.spec).play(game, 80)
    return game
