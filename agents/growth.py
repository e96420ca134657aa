"""What routers share that take further tasks (:meth:`routing_env.types.Router.grow`)."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from routing_env.types import GameSpec


def check_growth(known: GameSpec, spec: GameSpec) -> None:
    """Refuse a specification that differs from the known one in more than further tasks.

    Raises:
        ValueError: It has fewer tasks, other groups of the known tasks, or differs in anything else.
    """
    if spec.tasks < known.tasks:
        raise ValueError(f"the router knows {known.tasks} tasks and cannot forget any; it was given {spec.tasks}")
    for name in (field.name for field in fields(GameSpec) if field.name != "tasks"):
        then, now = getattr(known, name), getattr(spec, name)
        if name == "groups" and now is not None:
            now = now[: known.tasks]
        same = torch.equal(then, now) if isinstance(then, Tensor) and isinstance(now, Tensor) else then == now
        if not same:
            raise ValueError(f"only tasks may be added to a router; {name} was {then}, and is {now} now")
