"""A game's lanes in numpy: dealt, stepped and ended together. What all shells have in common."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from routing_env.data import SplitName
from routing_env.envs.deals import Deals, FixedDeals, TrainingDeals
from routing_env.envs.observation import PARTS, Masks, ObservationFormat, Vectors, read_actions
from routing_env.envs.processes import refuse_worker_processes
from routing_env.envs.world import Role, World
from routing_env.game.build import build_game, check_seed, resolve
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Given, SettingError, Settings, types_of
from routing_env.types import Decision, State

DEFAULT_DATA = "planted"
"""Data set of an environment that is given none; docs/scenarios.md has the evidence for it."""

_MANY = 5
"""Deals given up before their end, without one that came to its end, that look like a time limit."""


class Lanes:
    """The lanes of one game as arrays; one conversion from tensors for all of them.

    An illegal action loses the route: r_final = -1, and nothing on the route is trained.

    Args:
        world: whose game is to be played.
        number: B, the number of lanes in every deal.
        mask: where the action mask is, see :class:`~routing_env.envs.observation.ObservationFormat`.
        parts: of the observation, see there.
        state_parts: what :meth:`state` contains of each lane; None for the parts of the observation.
        split: deal this split in a fixed order and train nothing; None deals training samples and trains.
        every_task: with a split: lane b routes task b % T.

    Attributes:
        state_format: the form in which :meth:`state` shows each lane.
        varies: whether ``number`` follows the deals, because not all tasks have arrived.
        vectors: float32 [B, n], what the lanes observe; a new array after every step.
        tasks: int64 [B].
        depth: decisions taken in this deal.
        illegal: the first illegal action of each lane that has lost its route in this deal.
        ends: None while the routes are under way, then what they led to: task, correct, prediction, label, loss,
            final_reward and route as arrays of B rows; a lost route is -1 from where it was lost.
    """

    def __init__(
        self,
        world: World,
        number: int,
        *,
        mask: str = "none",
        parts: Sequence[str] = PARTS,
        state_parts: Sequence[str] | None = None,
        split: str | None = None,
        every_task: bool = True,
    ) -> None:
        self.world = world
        self.spec = self.game.spec
        self.number = number
        self.format = ObservationFormat(self.spec, mask, parts)
        self.state_format = ObservationFormat(self.spec, "none", parts if state_parts is None else state_parts)
        self._mask, self._parts = mask, tuple(parts)
        self._rows = np.arange(number)
        self._task_of_lane: list[int] | None = None
        self._blank_of = list[int]()
        self._deals: Deals = TrainingDeals()
        if split is not None:
            self._deals = FixedDeals(self.game.data, split, number, every_task=every_task)
        self.varies = False
        self._copyable = False
        self._warned = False
        self._unfinished: int | None = 0
        self._process = os.getpid()
        self.forget()

    @classmethod
    def of(
        cls,
        given: Given,
        *,
        lanes: int | None = None,
        copies: int = 1,
        mask: str = "none",
        parts: Sequence[str] = PARTS,
        state_parts: Sequence[str] | None = None,
        also: Iterable[str] = (),
    ) -> Lanes:
        """Build a game from the settings that an environment was given, and its lanes.

        Args:
            given: settings by their names, see :func:`~routing_env.game.build.make_game`, and the fields of
                :class:`~routing_env.envs.world.Role`.
            lanes: number of samples of a shuffled pass that make a deal. Where they are fewer than the data set's usual
                batch, the blocks collect a usual batch for each step, unless ``block_batch`` says otherwise; a single
                sample is always collected. None deals ``copies`` samples of every task instead.
            copies: samples of every task.
            mask: as for the constructor.
            parts: as for the constructor.
            state_parts: as for the constructor.
            also: other arguments of the environment, for the message about an unknown one.

        Raises:
            SettingError: a setting that does not exist, has the wrong type, or does not go with another.
            ValueError: a setting out of range.
            RuntimeError: environments are being spread over processes.
        """
        refuse_worker_processes()
        if "batch_size" in given:
            raise SettingError(
                "there is no batch_size: the number of lanes says how many samples are routed together; "
                "set block_batch to collect more of them for each step of the blocks"
            )
        also = (*also, *types_of(Role))
        role, given = Role.of(given, also=also)
        dealer = {"dealer": "per_task" if lanes is None else "endless"}
        world = World.find(role.world)
        if world is None:
            default = {} if {"data", "scenario"} & given.keys() else {"data": DEFAULT_DATA}
            settings, data = resolve(default | dealer | given, also=also)
            usual, collect = settings.batch_size, settings.block_batch
        else:
            settings, data, usual = world.agreed(dealer, given, also=also), world.game.data, world.usual_batch
            collect = settings.block_batch
        dealt = copies * data.tasks if lanes is None else lanes
        if collect is None and (dealt == 1 or (lanes is not None and dealt < usual)):
            collect = usual
        settings = replace(settings, batch_size=dealt, block_batch=collect)
        if world is None:
            world = World(build_game(settings, data), name=role.world, usual_batch=usual)
        shown: dict[str, Any] = {"mask": mask, "parts": parts, "state_parts": state_parts}
        made = cls(world, dealt, **shown, split=role.split, every_task=lanes is None)
        made._task_of_lane = None if lanes is not None else [lane % data.tasks for lane in range(dealt)]
        made._copyable = role.world is None
        if role.train:
            world.admit(made._deals, settings)
        world.enter()
        return made

    @property
    def game(self) -> RoutingGame:
        """The game of the world; a seed replaces it with a new one with the same observers."""
        return self.world.game

    @property
    def under_way(self) -> bool:
        """Whether a deal is under way."""
        return bool(len(self.tasks)) and self.ends is None

    @property
    def settings(self) -> Settings:
        """The settings of the game.

        Raises:
            ValueError: the game was not built from settings.
        """
        if self.game.settings is None:
            raise ValueError("the game was put together by hand; only a game that was built from settings knows them")
        return self.game.settings

    @property
    def masks(self) -> Masks:
        """:meth:`legal` as int8 [B, A], a new array."""
        return self.legal().astype(np.int8, order="C")

    def legal(self) -> NDArray[np.bool_]:
        """The legal actions, bool [B, A], not to be written to; all of them when the routes have ended.

        Raises:
            RuntimeError: there is no deal.
        """
        self.refuse_without_deal("action mask")
        return self._legal if self.ends is None else np.ones_like(self._legal)

    def refuse_without_deal(self, what: str) -> None:
        """Raise where nothing has been dealt yet.

        Raises:
            RuntimeError: there is no deal.
        """
        if not len(self.tasks):
            raise RuntimeError(f"there is no {what} before the first reset; call reset")

    @property
    def routes(self) -> NDArray[np.int64]:
        """The actions of this deal so far, int64 [B, depth]; -1 from where a route was lost."""
        return np.array(self._chosen, np.int64).reshape(len(self._chosen), len(self.tasks)).T

    @property
    def correct(self) -> NDArray[np.bool_] | None:
        """Whether the prediction of each lane was right, bool [B]; None on the way there and for regression."""
        return None if self.ends is None or self.game.data.classes is None else self.ends["correct"]

    def deal(self, seed: int | None = None) -> None:
        """Deal the next samples to all lanes; a deal under way is abandoned.

        Args:
            seed: restart the whole world from this seed first: blocks, order of the data, history of the rewards. Lanes
                with a split restart its order only.

        Raises:
            ValueError: a seed that is not an integer from 0 to 2**63 - 1, any seed where the game is not owned, or a
                dealer whose deals do not fit the lanes.
            RuntimeError: a vectorising wrapper has taken the lanes into another process.
        """
        if self._process != os.getpid():
            refuse_worker_processes()
            self._process = os.getpid()
        if seed is not None:
            self._deals.start_over(self.world, check_seed(seed))
        self._count_unfinished()
        state = self._deals.deal(self.world)
        if self.varies:
            self.number = len(state.task)
            self._rows, self._task_of_lane = np.arange(self.number), list(range(self.number))
        if len(state.task) != self.number:
            raise ValueError(
                f"the dealer deals {len(state.task)} samples to {self.number} lanes; it must deal one to each lane"
            )
        tasks = state.task.tolist()
        if self._task_of_lane is not None and tasks != self._task_of_lane:
            raise ValueError("the dealer must deal a sample of every task, lane b of task b modulo their number")
        self._begin(state.task.cpu().numpy())
        if tasks != self._blank_of:
            self._blank, self._blank_of = self.format.blank(self.tasks), tasks
        self._show(state)

    def step(self, actions: ArrayLike, *, who: Sequence[str] = ()) -> NDArray[np.float32]:
        """Apply one block per lane.

        Args:
            actions: integers [B] in [0, A).
            who: chose them, for messages about wrong and illegal actions.

        Returns:
            The rewards float32 [B], a new array; the last ones include the final reward.

        Raises:
            RuntimeError: no deal is under way, or it is out of date because other lanes have trained the world.
            ValueError: actions of the wrong shape, type or range; nothing has changed.
        """
        if not self.under_way:
            raise RuntimeError("the routes have ended; call reset to deal the next samples")
        chosen = read_actions(actions, self.number, self.spec.actions, who)
        device = self.spec.device
        legal, forfeit = self._legal[self._rows, chosen], None
        if not all(legal.tolist()):
            forfeit = torch.from_numpy(~legal).to(device)
        state = self._deals.step(self.world, Decision(torch.from_numpy(chosen).to(device)), forfeit)
        if forfeit is not None:
            lost = {lane: int(chosen[lane]) for lane in (~legal).nonzero()[0].tolist()}
            self.illegal = lost | self.illegal
            self._warn_once(who)
        if self.illegal:
            chosen = chosen.copy()  # the game keeps the other
            chosen[list(self.illegal)] = -1
        self._chosen.append(chosen)
        rewards = self._deals.game.action_reward.cpu().numpy()
        if state is None:
            self._show_end()
            return rewards + self._deals.game.trace.final_reward.cpu().numpy()
        self._show(state)
        return rewards.copy()

    def state(self) -> Vectors:
        """What all lanes show side by side, float32 [B * n] with the n of ``state_format``.

        Raises:
            RuntimeError: there is no deal.
        """
        self.refuse_without_deal("state")
        return self.state_format.fill(self.state_format.blank(self.tasks), self._v, self.depth).reshape(-1)

    def view(self, split: SplitName, copies: int = 1) -> Lanes:
        """Other lanes through the same blocks that train nothing, one or more for each task of a split."""
        return Lanes(self.world, copies * self.spec.tasks, mask=self._mask, parts=self._parts, split=split)

    def close(self) -> None:
        """Leave the world, whose name is free once no lanes train it."""
        self.world.learners.discard(self._deals)

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
        self._begin(np.empty(0, np.int64))
        self.vectors: Vectors = np.empty((0, 0), np.float32)
        self._legal: NDArray[np.bool_] = np.empty((0, 0), np.bool_)
        self._v = torch.empty(0, 0)
        self.depth = 0

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the deal under way, whose graph cannot be copied."""
        if not self._copyable:
            raise TypeError(
                "an environment that shares its world with others cannot be copied; make another one with the same "
                "world=..., or copy game.state_dict()"
            )
        state = {name: value for name, value in vars(self).items() if name != "world"}
        world = {"usual_batch": self.world.usual_batch, "trains": self._deals in self.world.learners}
        game = {"settings": self.settings, "data": self.game.data, "game_state": self.game.state_dict()}
        return state | world | game

    def __setstate__(self, state: dict[str, Any]) -> None:
        refuse_worker_processes()
        taken = ("settings", "data", "game_state", "usual_batch", "trains")
        settings, data, game_state, usual_batch, trains = (state.pop(name) for name in taken)
        vars(self).update(state)
        game = build_game(settings, data)
        game.load_state_dict(game_state)
        self.world = World(game, usual_batch=usual_batch)
        if trains:
            self.world.admit(self._deals, settings)
        self.forget()

    def _count_unfinished(self) -> None:
        """Count the deals given up before their end, until one comes to its end; warn when they are many."""
        if self._unfinished is None or not (self.under_way and self.depth):
            return
        self._unfinished += 1
        if self._unfinished == _MANY:
            warnings.warn(
                f"each of {_MANY} episodes was reset before its end, which comes after {self.spec.depth} steps; no "
                "final reward is paid and nothing is trained. If there is a time limit (max_episode_steps), raise it "
                f"to at least {self.spec.depth}.",
                stacklevel=4,
            )

    def _begin(self, tasks: NDArray[np.int64]) -> None:
        self.tasks = tasks
        self.illegal: dict[int, int] = {}
        self.ends: dict[str, NDArray[Any]] | None = None
        self._chosen: list[NDArray[np.int64]] = []

    def _show(self, state: State) -> None:
        self.depth, self._v, self._legal = state.depth, state.v, state.legal.cpu().numpy()
        self.vectors = self.format.fill(self._blank, self._v, self.depth)

    def _show_end(self) -> None:
        self._unfinished = None
        trace = self._deals.game.trace
        outcome = trace.outcome
        self.depth, self._v = self.spec.depth, outcome.output
        self.vectors = self.format.fill(self._blank, self._v, self.depth)
        ends = {
            "correct": outcome.correct,
            "prediction": outcome.prediction,
            "label": outcome.target,
            "loss": outcome.loss,
            "final_reward": trace.final_reward,
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
