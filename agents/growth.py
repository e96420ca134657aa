"""What routers share that take further tasks (:meth:`routing_env.types.Router.grow`)."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from routing_env.types import GameSpec


def enlarged(known: Tensor, fresh: Tensor, place: int) -> Tensor:
    """The larger tensor of a grown router: known numbers where they were, fresh ones for agents and inputs in addition.

    Args:
        known: [agents, inputs, ...], or any tensor of the shape of ``fresh``.
        fresh: As ``known``, with further agents at the end and further inputs from ``place`` on.
        place: Where the further inputs are inserted.

    Raises:
        NotImplementedError: The shapes differ in another way.
    """
    if known.shape == fresh.shape:
        return known.clone()
    grows = known.ndim == fresh.ndim and known.shape[2:] == fresh.shape[2:]
    added = [now - then for then, now in zip(known.shape, fresh.shape, strict=False)][:2]
    if not grows or min(added) < 0 or (added[1:] > [0] and known.shape[1] < place):
        raise NotImplementedError(
            f"a network with a tensor of shape {list(known.shape)} cannot grow to {list(fresh.shape)}: only the first "
            "axis may grow by agents, and the second one by the inputs of tasks that follow v and the known tasks"
        )
    whole = fresh.clone()
    if added[1:] > [0]:
        inputs = torch.arange(known.shape[1], device=known.device)
        whole[: len(known), torch.where(inputs < place, inputs, inputs + added[1])] = known
    else:
        whole[: len(known)] = known
    return whole


def with_further_tasks(known: GameSpec, spec: GameSpec) -> GameSpec:
    """The specification of a grown router: the new one, with the number of agents that the router has been given.

    Args:
        known: What the router has known so far.
        spec: What it is given now.

    Raises:
        ValueError: It has fewer tasks, other groups of the known tasks, or differs in anything else.
    """
    if spec.tasks < known.tasks:
        raise ValueError(f"the router knows {known.tasks} tasks and cannot forget any; it was given {spec.tasks}")
    if spec.agents is None:
        spec = replace(spec, agents=known.agents)
    for name in (field.name for field in fields(GameSpec) if field.name != "tasks"):
        then, now = getattr(known, name), getattr(spec, name)
        if name in ("groups", "programs") and now is not None:
            now = now[: known.tasks]
        same = torch.equal(then, now) if isinstance(then, Tensor) and isinstance(now, Tensor) else then == now
        if not same:
            raise ValueError(f"only tasks may be added to a router; {name} was {then}, and is {now} now")
    return spec
