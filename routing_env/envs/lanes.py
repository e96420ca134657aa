"""A game's lanes in numpy: dealt, stepped and ended together. What all shells have in common."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from routing_env.data import OnePerTask, SplitName
from routing_env.envs.observation import PARTS, Masks, ObservationFormat, Vectors, masks
from routing_env.envs.world import World, check_seed, refuse_worker_processes
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import GameConfig
from routing_env.types import Decision, State


class Lanes:
    """The lanes of one game as arrays; one conversion from tensors for all of them.

    An illegal action loses the route: r_final = -1, nothing of the route is trained.

    Args:
        origin: the world to build a game from, or a game, which then cannot start over from another seed.
        number: B, how many lanes every deal of the game has.
        mask: see :class:`~routing_env.envs.observation.ObservationFormat`.
        parts: likewise.

    Attributes:
        game: what is being played; a seed puts a new one in its place, with the observers of the old one.
        vectors: float32 [B, n], what the lanes see; a new array after every step.
        masks: int8 [B, A], likewise; all ones when the routes have ended, as there is nothing left to choose.
        tasks: int64 [B].
        depth: decisions taken in this deal.
        illegal: the first illegal action of each lane that has lost its route in this deal.
        ends: None while the routes are on their way, then what came of them: task, correct, prediction, label, loss,
            final_reward and route as arrays of B rows; a lost route is -1 from where it was lost.
    """

    def __init__(
        self, origin: World | RoutingGame, number: int, *, mask: str = "none", parts: Sequence[str] = PARTS
    ) -> None:
        self.game = origin.game() if isinstance(origin, World) else origin
        self.world = origin.built(self.game) if isinstance(origin, World) else None
        self.spec = self.game.spec
        self.number = number
        self.format = ObservationFormat(self.spec, mask, parts)
        self._mask, self._parts = mask, tuple(parts)
        self._rows, self._known = np.arange(number), frozenset(range(self.spec.actions))
        self._warned = False
        self._process = os.getpid()
        self.forget()

    @property
    def config(self) -> GameConfig:
        """The settings of the game.

        Raises:
            ValueError: the game is somebody else's.
        """
        if self.world is None:
            raise ValueError("the game is not this environment's own; its settings are where it was built")
        return self.world.config

    @property
    def routes(self) -> NDArray[np.int64]:
        """The actions of this deal so far, int64 [B, depth]; -1 from where a route was lost."""
        return np.stack(self._chosen, axis=1) if self._chosen else np.empty((len(self.tasks), 0), np.int64)

    @property
    def correct(self) -> NDArray[np.bool_] | None:
        """Whether the prediction of each lane was right, bool [B]; None on the way there and for regression."""
        return None if self.ends is None or self.game.data.classes is None else self.ends["correct"]

    def deal(self, seed: int | None = None) -> None:
        """Deal the next samples to all lanes; routes on their way are given up.

        Args:
            seed: start the whole world over from here first: blocks, order of the data, history of the rewards.

        Raises:
            ValueError: a seed that is no integer from 0 to 2**63 - 1, or any, where the game is somebody else's.
            RuntimeError: a vectorising wrapper has taken the lanes into another process.
        """
        if self._process != os.getpid():
            refuse_worker_processes()
            self._process = os.getpid()
        if seed is not None:
            self._start_over(check_seed(seed))
        state = self._deal()
        if len(state.task) != self.number:
            raise ValueError(f"the game deals {len(state.task)} samples to {self.number} lanes; they must agree")
        self.forget()
        self.tasks = state.task.cpu().numpy()
        self._blank = self.format.blank(self.tasks)
        self._show(state)

    def step(self, actions: ArrayLike, *, who: Sequence[str] = ()) -> NDArray[np.float32]:
        """Apply one block per lane.

        Args:
            actions: integers [B] in [0, A).
            who: chose them, for the warning that an action was illegal.

        Returns:
            The rewards float32 [B], with the final reward in the last one.

        Raises:
            RuntimeError: no deal is on its way.
            ValueError: actions of the wrong shape, type or range; nothing has changed.
        """
        if not len(self.masks) or self.ends is not None:
            raise RuntimeError("the routes have ended; call reset to deal the next samples")
        chosen = self._read(actions)
        device = self.spec.device
        legal, forfeit = self.masks[self._rows, chosen], None
        if not legal.all():
            forfeit = torch.from_numpy(legal == 0).to(device)
        state = self.game.step(Decision(torch.from_numpy(chosen).to(device)), forfeit=forfeit)
        if forfeit is not None:
            lost = {lane: int(chosen[lane]) for lane in (legal == 0).nonzero()[0].tolist()}
            self.illegal = lost | self.illegal
            self._warn_once(who)
        if self.illegal:
            chosen = chosen.copy()  # the game keeps the other
            chosen[list(self.illegal)] = -1
        self._chosen.append(chosen)
        rewards = self.game.action_reward.cpu().numpy()
        if state is None:
            self._show_end()
            return rewards + self.game.trace.final_reward.cpu().numpy()
        self._show(state)
        return rewards

    def view(self, split: SplitName, copies: int = 1) -> Lanes:
        """Other lanes through the same blocks that train nothing, one or more for each task of a split."""
        return _View(self, split, copies)

    def infos(self) -> list[dict[str, Any]]:
        """What each lane is told beside observation and reward, as plain Python values, in dicts of the caller's own.

        They are empty until an action was illegal or the routes have ended.
        """
        if self.ends is None:
            told: list[dict[str, Any]] = [{} for _ in range(self.number)]
        else:
            names, columns = tuple(self.ends), [values.tolist() for values in self.ends.values()]
            told = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        for lane, action in self.illegal.items():
            told[lane]["illegal_action"] = action
        return told

    def forget(self) -> None:
        """Give the deal up that is on its way."""
        self.vectors: Vectors = np.empty((0, 0), np.float32)
        self.masks: Masks = np.empty((0, 0), np.int8)
        self.tasks: NDArray[np.int64] = np.empty(0, np.int64)
        self._blank: Vectors = np.empty((0, 0), np.float32)
        self.illegal: dict[int, int] = {}
        self.depth = 0
        self.ends: dict[str, NDArray[Any]] | None = None
        self._chosen: list[NDArray[np.int64]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the deal on its way, whose graph cannot be copied."""
        if self.world is None:
            raise TypeError("lanes of somebody else's game cannot be copied; build the environment from settings")
        state = {name: value for name, value in vars(self).items() if name != "game"}
        return state | {"game_state": self.game.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        refuse_worker_processes()
        game_state = state.pop("game_state")
        vars(self).update(state)
        assert self.world is not None
        self.game = self.world.game()
        self.game.load_state_dict(game_state)
        self.forget()

    def _start_over(self, seed: int) -> None:
        if self.world is None:
            raise ValueError("the game is not this environment's own; give the seed where the game is built")
        world = replace(self.world, config=replace(self.world.config, seed=seed))
        game = world.game()
        game.observers = self.game.observers
        self.world, self.game = world, game  # not before: what has failed has changed nothing

    def _deal(self) -> State:
        return self.game.reset()

    def _read(self, actions: ArrayLike) -> NDArray[np.int64]:
        given = np.asarray(actions)
        fits = given.shape == (self.number,) and given.dtype.kind in "iu"
        if not fits or not self._known.issuperset(given.tolist()):
            raise ValueError(
                f"actions must be {self.number} integers from 0 to {self.spec.actions - 1}; "
                f"got {given.dtype} {given.tolist()}"
            )
        return given.astype(np.int64)

    def _show(self, state: State) -> None:
        self.depth = state.depth
        self.vectors, self.masks = self.format.fill(self._blank, state.v, state.depth), masks(state)

    def _show_end(self) -> None:
        trace = self.game.trace
        outcome = trace.outcome
        self.depth = self.spec.depth
        self.vectors = self.format.fill(self._blank, outcome.output, self.depth)
        self.masks = np.ones_like(self.masks)
        ends = {
            "correct": outcome.correct,
            "prediction": outcome.prediction,
            "label": outcome.target,
            "loss": outcome.loss,
            "final_reward": outcome.final_reward,
        }
        told = {name: value.cpu().numpy() for name, value in ends.items()}
        self.ends = {"task": self.tasks, **told, "route": self.routes}

    def _warn_once(self, who: Sequence[str]) -> None:
        if not self._warned:
            self._warned = True
            lane, action = min(self.illegal.items())
            name = who[lane] if who else f"lane {lane} (task {self.tasks[lane]})"
            warnings.warn(
                f"{name} chose action {action}, which is illegal there, and has lost its route; heed the "
                "action mask. This is said once for each environment; every such action is in the infos as "
                "'illegal_action'.",
                stacklevel=4,
            )


class _View(Lanes):
    """Lanes through the blocks of others, dealt from a split in its own order; nothing is trained."""

    def __init__(self, source: Lanes, split: SplitName, copies: int) -> None:
        self._source = source
        super().__init__(source.game, copies * source.spec.tasks, mask=source._mask, parts=source._parts)
        self._dealer = OnePerTask(self.game.data, 0, copies=copies, split=split)

    def _start_over(self, seed: int) -> None:
        """A seed changes nothing here: the blocks are somebody else's, and the order of the samples is fixed."""

    def _deal(self) -> State:
        # A shallow copy shares network and history, but its deal is its own: the other's is not disturbed.
        self.game = copy.copy(self._source.game)
        return self.game.reset(self._dealer.next_batch(), train=False)
