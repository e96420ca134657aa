"""Many seeds in one computation: an upper bound on the time that this could save.

One game stands for S independent ones: it has S times the lanes, tasks and blocks per layer, and the tasks of one seed
route among that seed's blocks only. It saves more than S real games in one computation could, because it has one stem,
one dealer and one stream of random numbers instead of S. If it is not faster, then a complete implementation cannot be
either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from routing_env.agents import make_router
from routing_env.game.routing_game import RoutingGame
from routing_env.maintenance.speed.workloads import Workload
from routing_env.types import Counterfactuals, Decision, Router, State, Trace


def many_seeds(workload: Workload, seeds: int) -> tuple[OwnBlocks, Router]:
    """Make the game of S seeds, and a WPL router for it with an agent for each task of each seed.

    Args:
        workload: Workload of one seed.
        seeds: S.
    """
    many = replace(workload, tasks=seeds * workload.tasks, blocks=seeds * workload.blocks, batch=seeds * workload.batch)
    many = replace(many, samples=max(workload.samples, many.tasks))
    router = make_router("wpl", replace(workload.game().spec, tasks=many.tasks))
    return OwnBlocks(many.game(), workload), router


class OwnBlocks:
    """Presents a game of many seeds to a router that numbers the blocks of each seed from 0.

    Args:
        game: The game of all seeds.
        workload: Workload of one seed.
    """

    def __init__(self, game: RoutingGame, workload: Workload) -> None:
        self.game = game
        self._tasks = workload.tasks
        self._blocks = workload.blocks
        self._states: list[State] = []
        self._decisions: list[Decision] = []
        self.spec = game.spec
        self.router_loss: Callable[[Trace], Tensor] | None = None
        self.counterfactuals = False

    @property
    def trace(self) -> Trace:
        """The trace with the states and decisions as the router saw them."""
        trace = self.game.trace
        return replace(trace, states=tuple(self._states), decisions=tuple(self._decisions))

    def reset(self) -> State:
        """Deal the next samples."""
        self._states, self._decisions = [], []
        return self._seen(self.game.reset())

    def step(self, decision: Decision) -> State | None:
        """Translate each action to the blocks of the lane's seed, and apply it."""
        self._decisions.append(decision)
        task = self._states[-1].task
        state = self.game.step(Decision(decision.action + task // self._tasks * self._blocks))
        return None if state is None else self._seen(state)

    def counterfactual_outcomes(self, routes: Tensor) -> Counterfactuals:
        """Translate each action to the blocks of the lane's seed."""
        of_all = routes[:, None] if routes.dim() == 2 else routes
        return self.game.counterfactual_outcomes(of_all + (self._states[0].task // self._tasks * self._blocks)[:, None])

    def play_captured(self, router: Router, samples: int) -> int:
        """Nothing: the translation is not captured."""
        return 0

    def log(self, values: Mapping[str, float]) -> None:
        """Ignored; present for the ``Game`` protocol."""

    def _seen(self, state: State) -> State:
        self._states.append(replace(state, legal=state.legal[:, : self._blocks]))
        return self._states[-1]
