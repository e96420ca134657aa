"""Environments: thin shells that translate between the game and the interfaces of other libraries.

Importing this package, which ``import routing_env`` does, registers the environments.
"""

from __future__ import annotations

import gymnasium
import pettingzoo

from routing_env.scenarios import SCENARIOS


def _register() -> None:
    """Register the environments and scenarios with Gymnasium and, from version 1.27 on, with PettingZoo."""
    for name in ("Routing-v0", "routing_env:Routing-v0"):  # some look the second form up in the registry as it stands
        gymnasium.register(
            name,
            entry_point="routing_env.envs.single:RoutingEnv",
            vector_entry_point="routing_env.envs.vector:RoutingVectorEnv",
        )
    _register_tuple("RoutingTuple-v0")
    _register_tuple("routing_env:RoutingTuple-v0")
    for scenario, about in SCENARIOS.items():
        if not about.run:  # in which tasks arrive; a single agent has no tasks
            gymnasium.register(
                f"routing-bench/{scenario}-v0",
                entry_point="routing_env.envs.single:RoutingEnv",
                vector_entry_point="routing_env.envs.vector:RoutingVectorEnv",
                kwargs={"scenario": scenario},
            )
            _register_tuple(f"routing-bench/{scenario}-tuple-v0", scenario=scenario)
        if hasattr(pettingzoo, "register"):
            name, given = f"routing-bench/{scenario}-v0", {"scenario": scenario}
            pettingzoo.register("parallel", name, "routing_env.routing_v0:parallel_env", kwargs=given)
            pettingzoo.register("aec", name, "routing_env.routing_v0:env", kwargs=given)
    if hasattr(pettingzoo, "register"):
        pettingzoo.register("parallel", "routing_env/routing-v0", "routing_env.routing_v0:parallel_env")
        pettingzoo.register("aec", "routing_env/routing-v0", "routing_env.routing_v0:env")


def _register_tuple(name: str, **given: str) -> None:
    """Register the environment with Tuple spaces, which earns each agent its own reward."""
    gymnasium.register(
        name,
        entry_point="routing_env.envs.epymarl:EPyMARLEnv",
        kwargs={"common_reward": False, **given},
        disable_env_checker=True,  # which knows no reward for each agent
    )


_register()
