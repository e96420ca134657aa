"""Routing networks as a multi-agent game.

The names below are loaded when they are first used, so that ``import routing_env`` stays quick. It enters the
environments in the registries of others, as those expect.
"""

from __future__ import annotations

import _signal  # pyright: ignore[reportMissingImports]  # built in, so that no Ctrl-C comes before the next line

_mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT}) if hasattr(_signal, "pthread_sigmask") else None

from routing_env import interrupts  # noqa: E402

interrupts.exit_at_once(only_in_command=True)  # before the slow imports
if _mask is not None:  # not on Windows
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _mask)

from typing import TYPE_CHECKING  # noqa: E402

from routing_env import envs as envs  # noqa: E402
from routing_env.names import lazy_attributes  # noqa: E402

if TYPE_CHECKING:
    from routing_env.data import MultiTaskData as MultiTaskData
    from routing_env.envs.parallel import RoutingParallelEnv as RoutingParallelEnv
    from routing_env.game.build import make_game as make_game
    from routing_env.game.network import RoutedNetwork as RoutedNetwork
    from routing_env.game.routing_game import RoutingGame as RoutingGame
    from routing_env.game.settings import Settings as Settings
    from routing_env.routing_v0 import parallel_env as parallel_env
    from routing_env.runs.loading import load_run as load_run
    from routing_env.types import Decision as Decision
    from routing_env.types import GameSpec as GameSpec
    from routing_env.types import Router as Router
    from routing_env.types import State as State
    from routing_env.types import Trace as Trace

__version__ = "0.2.0"

_HOMES = {
    "Decision": "types",
    "GameSpec": "types",
    "MultiTaskData": "data",
    "RoutedNetwork": "game.network",
    "Router": "types",
    "RoutingGame": "game.routing_game",
    "RoutingParallelEnv": "envs.parallel",
    "Settings": "game.settings",
    "State": "types",
    "Trace": "types",
    "load_run": "runs.loading",
    "make_game": "game.build",
    "parallel_env": "routing_v0",
}

__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
