"""The router of a run: built beside its game, for the tasks that it knows at first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from routing_env.agents import make_router
from routing_env.data import MultiTaskData
from routing_env.game.build import build_game
from routing_env.game.routing_game import RoutingGame
from routing_env.names import parse_options
from routing_env.runs.settings import SB3_PREFIX, RunSettings
from routing_env.types import GameSpec, Router


def spec_of_first(spec: GameSpec, tasks: int) -> GameSpec:
    """What a router is told of a game that knows its first tasks alone."""
    groups, programs = (None if of is None else of[:tasks] for of in (spec.groups, spec.programs))
    return replace(spec, tasks=tasks, groups=groups, programs=programs)


def game_and_router(settings: RunSettings, data: MultiTaskData, tasks: int) -> tuple[RoutingGame, Router]:
    """The game of a run and a router that knows its first tasks."""
    options, seed = parse_options(settings.router_options), settings.game.seed
    if not settings.router.startswith(SB3_PREFIX):
        game = build_game(settings.game, data)
        return game, make_router(settings.router, spec_of_first(game.spec, tasks), seed=seed, **options)
    from routing_env.envs.sb3_router import SB3Router  # slow to import, and most runs do without

    game = build_game(settings.game, data)
    algorithm = settings.router.removeprefix(SB3_PREFIX)
    return game, SB3Router(game, settings.game.batch_size, algorithm, seed=seed, **options)


def forgets(router: Router) -> bool:
    """Whether a router learns, but keeps nothing of it in a checkpoint."""
    kind: type[Any] = type(router)
    learns = any(getattr(kind, name) is not getattr(Router, name) for name in ("learn", "play"))
    return learns and kind.state_dict is Router.state_dict
