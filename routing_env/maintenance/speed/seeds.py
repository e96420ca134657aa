"""Many seeds in one computation: what it could spare at most.

One game stands for S independent ones: S times the lanes, the tasks and the blocks of a layer, and tasks of one seed
route among that seed's own blocks. It spares more than S real games in one computation could, since its stem, dealer
and random numbers are one instead of S. Where it is no quicker, nothing that does the whole work can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from routing_env.agents import make_router
from routing_env.game.routing_game import RoutingGame
from routing_env.maintenance.speed.worlds import World
from routing_env.types import Decision, Router, State, Trace


def many_seeds(world: World, seeds: int) -> tuple[OwnBlocks, Router]:
    """The game of so many seeds, and a WPL router for it with an agent for each task of each seed.

    Args:
        world: of one seed.
        seeds: S.
    """
    many = replace(world, tasks=seeds * world.tasks, blocks=seeds * world.blocks, batch=seeds * world.batch)
    many = replace(many, samples=max(world.samples, many.tasks))
    router = make_router("wpl", replace(world.game().spec, tasks=many.tasks))
    return OwnBlocks(many.game(), world), router


class OwnBlocks:
    """A game of many seeds to a router that numbers the blocks of each seed from 0.

    Args:
        game: of all.
        world: of one seed.
    """

    def __init__(self, game: RoutingGame, world: World) -> None:
        self.game = game
        self._tasks = world.tasks
        self._blocks = world.blocks
        self._states: list[State] = []
        self._decisions: list[Decision] = []
        self.spec = game.spec
        self.router_loss: Callable[[Trace], Tensor] | None = None

    @property
    def trace(self) -> Trace:
        """As the router has seen it."""
        trace = self.game.trace
        return replace(trace, states=tuple(self._states), decisions=tuple(self._decisions))

    def reset(self) -> State:
        """Deal the next samples."""
        self._states, self._decisions = [], []
        return self._seen(self.game.reset())

    def step(self, decision: Decision) -> State | None:
        """Apply a block of the lane's own seed."""
        self._decisions.append(decision)
        task = self._states[-1].task
        state = self.game.step(Decision(decision.action + task // self._tasks * self._blocks))
        return None if state is None else self._seen(state)

    def log(self, values: Mapping[str, float]) -> None:
        """Nobody asks."""

    def _seen(self, state: State) -> State:
        self._states.append(replace(state, legal=state.legal[:, : self._blocks]))
        return self._states[-1]
