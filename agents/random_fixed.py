"""A random route for every task, drawn before training and never changed: what commitment alone earns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from routing_env.agents.rules import RuleRouter, certain
from routing_env.state_dicts import check_state
from routing_env.types import Decision, GameSpec, State


class RandomFixed(RuleRouter):
    """Random fixed routes, by a hash of seed, task and depth; only the blocks learn.

    Every router should be compared with it. Where it is as good as a learned router, the blocks have adapted to
    whatever routes they were given, and the game does not measure how well a router routes.

    Args:
        spec: The specification of the game.
        seed: Seed of the routes.

    Attributes:
        order: int64 [T, D, A], the actions of each task and depth from the first choice to the last; the first legal
            one is taken.
    """

    captures: ClassVar[bool] = True

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self.seed = seed
        orders = [
            [np.random.default_rng([seed, task, depth]).permutation(spec.actions) for depth in range(spec.depth)]
            for task in range(spec.tasks)
        ]
        self.order = torch.from_numpy(np.array(orders)).to(spec.device)

    def grow(self, spec: GameSpec) -> RandomFixed:
        """The same routes, and those of the further tasks."""
        return RandomFixed(spec, seed=self.seed)

    def state_dict(self) -> dict[str, Any]:
        """The routes."""
        return {"seed": self.seed, "order": self.order.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.state_dict())
        self.seed = state["seed"]
        self.order.copy_(state["order"])

    def decide(self, state: State) -> Decision:
        """Take the first legal action in the task's order."""
        order = self.order[state.task, state.depth]
        first = state.legal.gather(1, order).int().argmax(1)
        return certain(order.gather(1, first[:, None])[:, 0], state.legal)
