"""Reference routers, one algorithm per file, by name."""

from __future__ import annotations

import inspect
from typing import Any

from routing_env.names import import_object, look_up, suggestion
from routing_env.types import GameSpec, Router

ROUTERS: dict[str, str] = {
    "all-shared": "routing_env.agents.all_shared:AllShared",
    "fixed": "routing_env.agents.fixed:Fixed",
    "oracle": "routing_env.agents.oracle:Oracle",
    "q-learning": "routing_env.agents.q_learning:QLearning",
    "random": "routing_env.agents.uniform:UniformRandom",
    "wpl": "routing_env.agents.wpl:WPL",
}
"""Name to ``module:Class``; see each class's docstring."""


def router_class(name: str) -> type[Router]:
    """The router of that name, or of that ``module:Class`` or ``file.py:Class``.

    Raises:
        ValueError: an unknown name, with the nearest known one; or something that is no router.
    """
    found: Any = import_object(name if ":" in name else look_up("router", name, ROUTERS))
    missing = [method for method in ("act", "learn", "play", "state_dict", "load_state_dict") if not hasattr(found, method)]
    if not inspect.isclass(found) or missing:
        raise ValueError(f"{name!r} is no router: it lacks {', '.join(missing)}; subclass routing_env.Router")
    return found


def make_router(name: str, spec: GameSpec, *, seed: int = 0, **options: Any) -> Router:
    """Build a router by name for a game.

    Raises:
        ValueError: an unknown name or option, with the nearest known one.
    """
    factory = router_class(name)
    known = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for option in options:
        if option not in known and not takes_any:
            own = [parameter for parameter in known if parameter not in ("self", "spec", "seed")]
            raise ValueError(f"router {name!r} has no option {option!r}; {suggestion(option, own) if own else 'it has none'}")
    build: Any = factory
    return build(spec, seed=seed, **options)
