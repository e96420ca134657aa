"""A game's lanes in numpy: dealt, stepped and ended together. What all shells have in common."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from routing_env.data import OnePerTask, SplitName
from routing_env.envs.observation import PARTS, Masks, ObservationFormat, Vectors, masks
from routing_env.envs.processes import refuse_worker_processes
from routing_env.game.build import build_game, check_seed, resolve
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Given, SettingError, Settings
from routing_env.types import Decision, State


class Lanes:
    """The lanes of one game as arrays; one conversion from tensors for all of them.

    An illegal action loses the route: r_final = -1, and nothing on the route is trained.

    Args:
        game: to be played.
        number: B, the number of lanes in every deal of the game.
        mask: where the action mask is, see :class:`~routing_env.envs.observation.ObservationFormat`.
        parts: of the observation, see there.
        owned: whether the game belongs to these lanes alone, so that a seed may replace it and a copy may copy it.

    Attributes:
        game: what is being played; a seed replaces it by a new one with the same observers.
        vectors: float32 [B, n], what the lanes observe; a new array after every step.
        masks: int8 [B, A], the legal actions; all ones when the routes have ended and nothing is left to choose.
        tasks: int64 [B].
        depth: decisions taken in this deal.
        illegal: the first illegal action of each lane that has lost its route in this deal.
        ends: None while the routes are under way, then what they led to: task, correct, prediction, label, loss,
            final_reward and route as arrays of B rows; a lost route is -1 from where it was lost.
    """

    def __init__(
        self, game: RoutingGame, number: int, *, mask: str = "none", parts: Sequence[str] = PARTS, owned: bool = True
    ) -> None:
        self.game = game
        self.owned = owned
        self.spec = self.game.spec
        self.number = number
        self.format = ObservationFormat(self.spec, mask, parts)
        self._mask, self._parts = mask, tuple(parts)
        self._rows, self._known = np.arange(number), frozenset(range(self.spec.actions))
        self._task_of_lane: NDArray[np.int64] | None = None
        self._warned = False
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
        also: Iterable[str] = (),
    ) -> Lanes:
        """Build a game from the settings that an environment was given, and its lanes.

        Args:
            given: settings by their names, see :func:`~routing_env.game.build.make_game`.
            lanes: number of samples of a shuffled pass that make a deal. Where they are fewer than the data set's usual
                batch, the blocks collect a usual batch for each step, unless ``block_batch`` says otherwise; a single
                sample is always collected. None deals ``copies`` samples of every task instead.
            copies: samples of every task.
            mask: as for the constructor.
            parts: as for the constructor.
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
        dealer = "per_task" if lanes is None else "endless"
        settings, data = resolve({"dealer": dealer, **given}, also=also)
        usual, collect = settings.batch_size, settings.block_batch
        dealt = copies * data.tasks if lanes is None else lanes
        if collect is None and (dealt == 1 or (lanes is not None and dealt < usual)):
            collect = usual
        settings = replace(settings, batch_size=dealt, block_batch=collect)
        made = cls(build_game(settings, data), dealt, mask=mask, parts=parts)
        made._task_of_lane = None if lanes is not None else np.arange(dealt) % data.tasks
        return made

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
    def routes(self) -> NDArray[np.int64]:
        """The actions of this deal so far, int64 [B, depth]; -1 from where a route was lost."""
        return np.stack(self._chosen, axis=1) if self._chosen else np.empty((len(self.tasks), 0), np.int64)

    @property
    def correct(self) -> NDArray[np.bool_] | None:
        """Whether the prediction of each lane was right, bool [B]; None on the way there and for regression."""
        return None if self.ends is None or self.game.data.classes is None else self.ends["correct"]

    def deal(self, seed: int | None = None) -> None:
        """Deal the next samples to all lanes; a deal under way is abandoned.

        Args:
            seed: start the whole world over from this seed first: blocks, order of the data, history of the rewards.

        Raises:
            ValueError: a seed that is not an integer from 0 to 2**63 - 1, any seed where the game is not owned, or a
                dealer whose deals do not fit the lanes.
            RuntimeError: a vectorising wrapper has taken the lanes into another process.
        """
        if self._process != os.getpid():
            refuse_worker_processes()
            self._process = os.getpid()
        if seed is not None:
            self._start_over(check_seed(seed))
        state = self._deal()
        if len(state.task) != self.number:
            raise ValueError(
                f"the dealer deals {len(state.task)} samples to {self.number} lanes; it must deal one to each lane"
            )
        tasks = state.task.cpu().numpy()
        if self._task_of_lane is not None and not np.array_equal(tasks, self._task_of_lane):
            raise ValueError("the dealer must deal a sample of every task, lane b of task b modulo their number")
        self.forget()
        self.tasks = tasks
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
        """Everything but the deal under way, whose graph cannot be copied."""
        if not self.owned:
            raise TypeError("lanes of a game that is not their own cannot be copied; build the environment anew")
        state = {name: value for name, value in vars(self).items() if name != "game"}
        return state | {"settings": self.settings, "data": self.game.data, "game_state": self.game.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        refuse_worker_processes()
        settings, data, game_state = (state.pop(name) for name in ("settings", "data", "game_state"))
        vars(self).update(state)
        self.game = build_game(settings, data)
        self.game.load_state_dict(game_state)
        self.forget()

    def _start_over(self, seed: int) -> None:
        if not self.owned:
            raise ValueError("the game is not this environment's own; give the seed where the game is built")
        game = build_game(replace(self.settings, seed=seed), self.game.data)
        game.observers = self.game.observers
        self.game = game  # not before: what has failed has changed nothing

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


class _View(Lanes):
    """Lanes through the blocks of others, dealt from a split in its own order; nothing is trained."""

    def __init__(self, source: Lanes, split: SplitName, copies: int) -> None:
        self._source = source
        number = copies * source.spec.tasks
        super().__init__(source.game, number, mask=source._mask, parts=source._parts, owned=False)
        self._dealer = OnePerTask(self.game.data, number, 0, split=split)

    def _start_over(self, seed: int) -> None:
        """A seed changes nothing here: the blocks belong to other lanes, and the order of the samples is fixed."""

    def _deal(self) -> State:
        # A shallow copy shares network and history, but its deal is its own: the other's is not disturbed.
        self.game = copy.copy(self._source.game)
        return self.game.reset(self._dealer.next_batch(), train=False)
