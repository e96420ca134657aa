"""The best sharing or the best route, if the data know it: the yardstick on ``planted``, ``mixed`` and ``compose``."""

from __future__ import annotations

from typing import ClassVar

import torch

from routing_env.agents.rules import RuleRouter, certain
from routing_env.types import Decision, GameSpec, State


class Oracle(RuleRouter):
    """Oracle: the tasks of group g take block g of each layer, or a task takes the blocks of its program.

    Where the data know kinds of samples, a sample of kind k takes block k of the only layer. Where the data know
    programs, function k is block k of the first layer, PASS fills the route after a short program, and the first block
    of the last layer classifies.

    Args:
        spec: The specification of a game whose data know their groups, kinds or programs.
        seed: Ignored; present because every router is built with one.

    Raises:
        ValueError: The data know none of these, or the network cannot represent what they know.
    """

    captures: ClassVar[bool] = True

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self._kinds, self._first = spec.kinds, torch.tensor(spec.layers[0], device=spec.device)
        if spec.kinds is not None:
            _require_blocks(spec, spec.kinds, "kinds")
            if spec.depth > 1:
                raise ValueError(f"depth is {spec.depth}; only the first decision sees the kind: set layers=1")
            routes = []
        elif spec.programs is not None:
            routes = _routes_of_programs(spec, spec.programs)
        elif spec.groups is not None:
            routes = _routes_of_groups(spec, spec.groups)
        else:
            raise ValueError(
                "the oracle needs data that know the best sharing; use the data set 'planted', 'mixed' or 'compose'"
            )
        self._action = torch.tensor(routes, device=spec.device)
        self._by_groups = spec.programs is None

    def grow(self, spec: GameSpec) -> Oracle:
        """The best sharing of all tasks."""
        return Oracle(spec)

    def decide(self, state: State) -> Decision:
        """Take the known action of each lane's task or kind; where a group's block is illegal, the first legal one."""
        if self._kinds is not None:
            return certain(self._first[state.v[:, : self._kinds].argmax(1)], state.legal)
        legal = state.legal if self._by_groups else torch.ones_like(state.legal)
        return certain(self._action[state.depth][state.task], legal)


def _routes_of_groups(spec: GameSpec, groups: tuple[int, ...]) -> list[list[int]]:
    """The actions [D, T] that give each group a separate block of each layer, and PASS where no layer is left."""
    _require_blocks(spec, max(groups) + 1, "groups")
    return [[layer[0 if layer == (spec.pass_action,) else g] for g in groups] for layer in spec.layers]


def _require_blocks(spec: GameSpec, needed: int, what: str) -> None:
    blocks = min(len(layer) for layer in spec.layers if layer != (spec.pass_action,))
    if blocks < needed:
        raise ValueError(f"a layer has {blocks} blocks for {needed} {what}; raise blocks")


def _routes_of_programs(spec: GameSpec, programs: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    """The actions [D, T] that apply to each task the functions of its program, block k of the first layer for k."""
    first, last, steps = spec.layers[0], spec.layers[-1], spec.depth - 1
    shortest, longest = min(map(len, programs)), max(map(len, programs))
    functions = 1 + max(map(max, programs))
    if steps < longest:
        raise ValueError(f"depth is {spec.depth}; raise it to {longest + 1} for programs of {longest} functions")
    if set(first) & set(last):
        raise ValueError("a block of a layered network applies at one depth only; set recursive=True")
    if len(first) < functions:
        raise ValueError(f"the first layer has {len(first)} blocks for {functions} functions; raise blocks")
    if spec.pass_action is None and shortest < steps:
        raise ValueError(f"a program has {shortest} functions for {steps} decisions; set pass_action=True")
    routes = torch.full((steps + 1, len(programs)), spec.pass_action or 0)
    for task, program in enumerate(programs):
        routes[: len(program), task] = torch.tensor([first[k] for k in program])
    routes[-1] = last[0]
    return routes.tolist()
