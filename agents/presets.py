"""Options of routers for games other than routing, as plain data.

The defaults of all routers suit routing, where an agent should commit to a route within a few thousand samples while
the blocks specialise. Between agents that only play each other, such steps are too long: the policies do not approach a
mixed equilibrium but circle around it. ``python -m routing_env.maintenance.matrix_games`` measures both presets, and
docs/routers.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MATRIX_GAMES: dict[str, dict[str, Any]] = {
    "giga-wolf": {"step": 0.002, "value_step": 0.4},
    "hysteretic-q": {"decrease": 0.1, "step": 0.1, "epsilon": 0.05},
    "pga-app": {"step": 0.002, "prediction": 2.0, "value_step": 0.4},
    "wolf-phc": {"step": 0.001, "value_step": 0.2},
    "wpl": {"rule": "full-vector", "step": 0.004, "value_step": 0.4},
    "wpl-approx": {"network": "table", "optimizer": "sgd", "learning_rate": 0.4, "step": 0.02},
}
"""For repeated matrix games whose rewards have a range of about 2, by the name of the router.

Steps have the unit of 1 / reward: divide them by the range of the rewards and multiply by 2 where it differs. All
options are constants, so they do not depend on the number of agents, which share one count of samples.
"""

PRESETS: dict[str, Mapping[str, Mapping[str, Any]]] = {"routing": {}, "matrix-games": MATRIX_GAMES}
"""Options by preset and router; "routing" stands for the defaults of every router."""


def preset_options(preset: str, router: object) -> Mapping[str, Any]:
    """The options of a router in a preset.

    Args:
        preset: A key of ``PRESETS``.
        router: What names the router.

    Raises:
        ValueError: Unknown preset, or one that has no options for this router.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; it must be {' or '.join(map(repr, PRESETS))}")
    if preset == "routing":
        return {}
    known = PRESETS[preset]
    if router not in known:
        raise ValueError(f"the preset {preset!r} has no options for router {router!r}; it knows {', '.join(known)}")
    return known[str(router)]
