"""What lanes are dealt: training samples that train the blocks, or a split in a fixed order that trains nothing."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import torch
from torch import Tensor

from routing_env.data import MultiTaskData
from routing_env.envs.world import World
from routing_env.game.routing_game import RoutingGame
from routing_env.types import Decision, State


class Deals(Protocol):
    """Deals samples of a world to lanes and plays them.

    Attributes:
        game: has the current deal, or the last one; there is none before the first.
    """

    game: RoutingGame

    def start_over(self, world: World, seed: int) -> None:
        """Start over from a seed."""
        ...

    def deal(self, world: World) -> State:
        """Deal the next samples; a deal under way is abandoned."""
        ...

    def step(self, world: World, decision: Decision, forfeit: Tensor | None) -> State | None:
        """Apply one block per lane."""
        ...


class TrainingDeals:
    """Deals from the world's dealer, which train the blocks and count. They play on the world's game.

    Attributes:
        under_way: whether a deal is under way.
    """

    game: RoutingGame

    def __init__(self) -> None:
        self.under_way = False
        self._dealt_at = 0
        self._warned = False

    def start_over(self, world: World, seed: int) -> None:
        """Restart the world, and warn, once, that it forgets what it has learned."""
        if world.own and world.game.samples and not self._warned:
            warnings.warn(
                f"reset(seed={seed}) restarts the world and discards what its blocks have learned from "
                f"{world.game.samples:,} training samples; give a seed once, in the constructor or at the first reset, "
                "and none from then on; to evaluate, use env.evaluate, or an environment of the same world=... with "
                "split=.... This is said once for each environment.",
                stacklevel=4,
            )
            self._warned = True
        world.start_over(self, seed)

    def deal(self, world: World) -> State:
        """Deal the dealer's next samples."""
        self.game = world.training_game(self)
        state = self.game.reset()
        self.under_way, self._dealt_at = True, world.game.samples
        return state

    def step(self, world: World, decision: Decision, forfeit: Tensor | None) -> State | None:
        """Apply one block per lane.

        Raises:
            RuntimeError: other lanes have trained or replaced the blocks of this deal, whose graph is out of date.
        """
        if world.name is not None:
            replaced, collects = self.game.trainer is not world.game.trainer, world.collects
            if replaced or (not collects and world.game.samples != self._dealt_at):
                raise RuntimeError(
                    f"another environment has trained or restarted world {world.name!r} since these samples were "
                    "dealt; call reset to deal the next. Environments of one world can play at the same time if they "
                    "have a block_batch; otherwise use more lanes of one environment: RoutingVecEnv(copies=...) or "
                    "gymnasium.make_vec(num_envs=...)"
                )
        state = self.game.step(decision, forfeit=forfeit)
        self.under_way = state is not None
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the deal under way."""
        return {name: value for name, value in vars(self).items() if name != "game"} | {"under_way": False}


class FixedDeals:
    """Deals a split in a fixed order and trains nothing: in each round a sample of every task, in their stored order.

    Samples for which nothing has been decided yet are dealt again. Therefore all evaluations of a full pass see the
    same deals, even if a wrapper deals the next samples at the end of an episode.

    Args:
        data: to deal from.
        split: "train", "validation" or "test".
        lanes: B, samples per deal. The last deal of a pass is filled up from the beginning.
        every_task: lane b routes task b % T. Tasks with fewer samples than others then start again within a pass;
            otherwise they drop out, and a pass has every sample once.

    Raises:
        ValueError: the split is unknown or empty.
    """

    game: RoutingGame

    def __init__(self, data: MultiTaskData, split: Any, lanes: int, *, every_task: bool) -> None:
        self._rows = data.split(split)
        task = self._rows.task.cpu()
        number = torch.bincount(task, minlength=data.tasks)
        turn = torch.arange(int(number.max()))[:, None]
        start = number.cumsum(0) - number
        table = task.argsort(stable=True)[(start + turn % number.clamp_min(1)).clamp_max(len(task) - 1)]
        order = table.flatten() if every_task else table[turn < number]
        self._deals = order[torch.arange(-(-len(order) // lanes) * lanes) % len(order)].view(-1, lanes)
        self._place = 0
        self._begun = False

    def start_over(self, world: World, seed: int) -> None:
        """Start at the beginning of the order, which is the same for every seed; the world is left alone."""
        self._place, self._begun = 0, False

    def deal(self, world: World) -> State:
        """Deal the next samples of the split."""
        self._place, self._begun = (self._place + self._begun) % len(self._deals), False
        self.game = world.evaluation_game()
        rows = self._deals[self._place].to(world.game.data.device)
        return self.game.reset(world.game.data.gather(self._rows[rows]), train=False)

    def step(self, world: World, decision: Decision, forfeit: Tensor | None) -> State | None:
        """Apply one block per lane."""
        state = self.game.step(decision, forfeit=forfeit)
        self._begun = True
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the deal under way."""
        return {name: value for name, value in vars(self).items() if name != "game"}
