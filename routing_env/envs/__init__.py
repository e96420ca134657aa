"""Environments: thin shells that translate between the game and the interfaces of others.

Importing this package registers them; ``import routing_env`` does.
"""

from __future__ import annotations

import pettingzoo


def _register() -> None:
    """Enter the environments in PettingZoo's registry, which there is from 1.27 on."""
    if hasattr(pettingzoo, "register"):
        pettingzoo.register("parallel", "routing_env/routing-v0", "routing_env.envs.parallel:parallel_env")
        pettingzoo.register("aec", "routing_env/routing-v0", "routing_env.routing_v0:env")


_register()
