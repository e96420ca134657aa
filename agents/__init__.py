"""Reference routers, one algorithm per file, by name."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Literal, cast

from routing_env.names import import_object, look_up, suggestion
from routing_env.types import GameSpec, Router

Topology = Literal["per_task", "single", "dispatched"]

ROUTERS: dict[str, str] = {
    "actor-critic": "routing_env.agents.actor_critic:ActorCritic",
    "advantage-actor-critic": "routing_env.agents.actor_critic:AdvantageActorCritic",
    "advantage-learning": "routing_env.agents.advantage_learning:AdvantageLearning",
    "advantage-learning-approx": "routing_env.agents.advantage_learning:AdvantageLearningApprox",
    "all-shared": "routing_env.agents.all_shared:AllShared",
    "dispatched": "routing_env.agents.dispatched:Dispatched",
    "exp3": "routing_env.agents.exp3:EXP3",
    "fixed": "routing_env.agents.fixed:Fixed",
    "giga-wolf": "routing_env.agents.giga_wolf:GIGAWoLF",
    "gumbel-softmax": "routing_env.agents.gumbel:GumbelSoftmax",
    "hysteretic-q": "routing_env.agents.hysteretic_q:HystereticQ",
    "oracle": "routing_env.agents.oracle:Oracle",
    "per-layer": "routing_env.agents.per_layer:PerLayer",
    "pga-app": "routing_env.agents.pga_app:PGAAPP",
    "q-learning": "routing_env.agents.q_learning:QLearning",
    "q-learning-approx": "routing_env.agents.q_learning:QLearningApprox",
    "random": "routing_env.agents.uniform:UniformRandom",
    "reinforce": "routing_env.agents.reinforce:Reinforce",
    "reinforce-approx": "routing_env.agents.reinforce:ReinforceApprox",
    "relax": "routing_env.agents.relax:RELAX",
    "round-robin": "routing_env.agents.round_robin:RoundRobin",
    "sarsa": "routing_env.agents.sarsa:Sarsa",
    "sarsa-approx": "routing_env.agents.sarsa:SarsaApprox",
    "wolf-phc": "routing_env.agents.wolf_phc:WoLFPHC",
    "wpl": "routing_env.agents.wpl:WPL",
    "wpl-approx": "routing_env.agents.wpl_approx:WPLApprox",
}
"""Name to ``module:Class``; see each class's docstring."""


def router_class(name: str) -> type[Router]:
    """The router of that name, or of that ``module:Class`` or ``file.py:Class``.

    Raises:
        ValueError: an unknown name, with the nearest known one; or something that is no router.
    """
    found: Any = import_object(name if ":" in name else look_up("router", name, ROUTERS))
    missing = [
        method for method in ("act", "learn", "play", "state_dict", "load_state_dict") if not hasattr(found, method)
    ]
    if not inspect.isclass(found) or missing:
        raise ValueError(f"{name!r} is no router: it lacks {', '.join(missing)}; subclass routing_env.Router")
    return cast(type[Router], found)


def make_router(name: str, spec: GameSpec, *, seed: int = 0, topology: Topology = "per_task", **options: Any) -> Router:
    """Build a router by name for a game.

    Args:
        name: a key of ``ROUTERS``, a ``module:Class`` or a ``file.py:Class``.
        spec: of the game.
        seed: of the router.
        topology: "per_task" gives each task an agent, "single" has one agent for all, "dispatched" lets a dispatcher
            pick an agent per sample (Figure 3); the router "dispatched" has more options.
        options: of the router.

    Raises:
        ValueError: an unknown name, topology or option, with the nearest known one.
    """
    if topology == "dispatched":
        return make_router("dispatched", spec, seed=seed, router=name, router_options=options)
    if topology == "single":
        spec = replace(spec, agents=1)
    elif topology != "per_task":
        raise ValueError(f"topology is {topology!r}; it must be 'per_task', 'single' or 'dispatched'")
    factory = router_class(name)
    known = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for option in options:
        if option not in known and not takes_any:
            own = [parameter for parameter in known if parameter not in ("self", "spec", "seed")]
            raise ValueError(
                f"router {name!r} has no option {option!r}; {suggestion(option, own) if own else 'it has none'}"
            )
    build: Any = factory
    return build(spec, seed=seed, **options)
