"""A game's lanes in numpy: dealt, stepped and ended together. What the vectorised interfaces have in common."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from routing_env.build import NetworkFactory, load_data, make_game, resolve
from routing_env.config import GameConfig
from routing_env.data import MultiTaskData, OnePerTask, SplitName
from routing_env.envs.observation import PARTS, Masks, ObservationFormat, Vectors, masks
from routing_env.game import RoutingGame
from routing_env.names import suggestion
from routing_env.training import Loss
from routing_env.types import Decision, State

_WORKERS = ("gymnasium.vector.async_vector_env", "stable_baselines3.common.vec_env.subproc_vec_env")


@dataclass(frozen=True)
class World:
    """What a game is built from, again for every seed.

    Attributes:
        config: settings.
        data: the tasks.
        network: builds a network of one's own, or None.
        loss: in place of cross-entropy or squared error.
        deal: see :func:`~routing_env.build.make_game`.
        copies: samples of every task in a deal of "per_task".
    """

    config: GameConfig
    data: MultiTaskData
    network: NetworkFactory | None
    loss: Loss | None
    deal: Literal["endless", "per_task"]
    copies: int = 1

    @classmethod
    def of(
        cls,
        data: str | MultiTaskData,
        network: str | NetworkFactory | None,
        loss: Loss | None,
        deal: Literal["endless", "per_task"],
        settings: dict[str, Any],
        *,
        lanes: int | None = None,
        copies: int = 1,
    ) -> World:
        """From the keyword arguments of an environment.

        ``lanes`` are those of a deal of "endless"; where they are fewer than the data set's usual batch, the blocks
        collect so many samples for a step, unless ``block_batch`` says otherwise.

        Raises:
            TypeError: a setting that does not exist, with the nearest that does.
            RuntimeError: somebody is spreading environments over processes.
        """
        _refuse_worker_processes()
        known = {field.name for field in fields(GameConfig)} - {"batch_size"}
        for name in settings:
            if name == "batch_size":
                raise TypeError(
                    "there is no batch_size: the number of lanes says how many samples are routed together; "
                    "set block_batch to collect more of them for each step of the blocks"
                )
            if name not in known:
                raise TypeError(f"there is no setting {name!r}; {suggestion(name, known | {'loss', 'parts'})}")
        named = {"data": data} if isinstance(data, str) else {}
        config = GameConfig(**named, network=cast(Any, None if callable(network) else network), **settings)
        if isinstance(data, str):
            data = load_data(config)
        config = resolve(config, data)
        if lanes is not None:
            usual = config.batch_size or lanes
            collect = usual if config.block_batch is None and lanes < usual else config.block_batch
            config = replace(config, batch_size=lanes, block_batch=collect)
        return cls(config, data, network if callable(network) else None, loss, deal, copies)

    def game(self) -> RoutingGame:
        """A new game."""
        return make_game(
            self.config, data=self.data, network=self.network, loss=self.loss, deal=self.deal, copies=self.copies
        )


class Lanes:
    """The lanes of one game as arrays; one conversion from tensors for all of them.

    An illegal action loses the route, as in the PettingZoo environment: r_final = -1, nothing of the route is trained.

    Args:
        origin: the world to build a game from, or a game, which then cannot start over from another seed.
        number: B, how many lanes every deal of the game has.
        mask: see :class:`~routing_env.envs.observation.ObservationFormat`.
        parts: likewise.

    Attributes:
        game: what is being played; a seed puts a new one in its place, with the observers of the old one.
        vectors: float32 [B, n], what the lanes see.
        masks: int8 [B, A].
        tasks: int64 [B].
        depth: decisions taken in this deal.
        illegal: int64 [B], the first illegal action of each lane in this deal, or -1.
        ends: None while the routes are on their way, then what came of them: correct, prediction, label, loss,
            final_reward and route as arrays of B rows.
    """

    def __init__(
        self, origin: World | RoutingGame, number: int, *, mask: str = "none", parts: Sequence[str] = PARTS
    ) -> None:
        self.world = origin if isinstance(origin, World) else None
        self.game = origin.game() if isinstance(origin, World) else origin
        self.spec = self.game.spec
        self.number = number
        self.format = ObservationFormat(self.spec, mask, parts)
        self._mask, self._parts = mask, tuple(parts)
        self._rows = np.arange(number)
        self._warned = False
        self._forget()

    @property
    def config(self) -> GameConfig:
        """The settings of the game.

        Raises:
            ValueError: the game is somebody else's.
        """
        if self.world is None:
            raise ValueError("the game is not this environment's own; its settings are where it was built")
        return self.world.config

    def deal(self, seed: int | None = None) -> None:
        """Deal the next samples to all lanes; routes on their way are given up.

        Args:
            seed: start the whole world over from here first: blocks, order of the data, history of the rewards.

        Raises:
            ValueError: a seed, where the game is somebody else's.
        """
        if seed is not None:
            self._start_over(seed)
        self._show(self._deal())

    def step(self, actions: ArrayLike) -> NDArray[np.float32]:
        """Apply one block per lane.

        Args:
            actions: integers [B] in [0, A).

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
        illegal, forfeit = self.masks[self._rows, chosen] == 0, None
        if illegal.any():
            illegal &= self.illegal < 0
            forfeit = torch.from_numpy(illegal).to(device)
        state = self.game.step(Decision(torch.from_numpy(chosen).to(device)), forfeit=forfeit)
        if forfeit is not None:
            self.illegal = np.where(illegal, chosen, self.illegal)
            self._warn_once()
        rewards = self.game.action_reward.cpu().numpy()
        if state is None:
            self._show_end()
            return rewards + self.game.trace.final_reward.cpu().numpy()
        self._show(state)
        return rewards

    def view(self, split: SplitName, copies: int = 1) -> Lanes:
        """Other lanes through the same blocks that train nothing, one or more for each task of a split."""
        return _View(self, split, copies)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the deal on its way, whose graph cannot be copied."""
        if self.world is None:
            raise TypeError("lanes of somebody else's game cannot be copied; build the environment from settings")
        state = {name: value for name, value in vars(self).items() if name != "game"}
        return state | {"game_state": self.game.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        game_state = state.pop("game_state")
        vars(self).update(state)
        assert self.world is not None
        self.game = self.world.game()
        self.game.load_state_dict(game_state)
        self._forget()

    def _start_over(self, seed: int) -> None:
        if self.world is None:
            raise ValueError("the game is not this environment's own; give the seed where the game is built")
        observers = self.game.observers
        self.world = replace(self.world, config=replace(self.world.config, seed=seed))
        self.game = self.world.game()
        self.game.observers = observers

    def _deal(self) -> State:
        return self.game.reset()

    def _forget(self) -> None:
        """No deal is on its way."""
        self.vectors: Vectors = np.empty((0, 0), np.float32)
        self.masks: Masks = np.empty((0, 0), np.int8)
        self.tasks: NDArray[np.int64] = np.empty(0, np.int64)
        self.illegal: NDArray[np.int64] = np.empty(0, np.int64)
        self.depth = 0
        self.ends: dict[str, NDArray[Any]] | None = None

    def _read(self, actions: ArrayLike) -> NDArray[np.int64]:
        given = np.asarray(actions)
        known = self.spec.actions
        fits = given.shape == (self.number,) and given.dtype.kind in "iu"
        if not fits or given.min() < 0 or given.max() >= known:
            raise ValueError(
                f"actions must be {self.number} integers from 0 to {known - 1}; got {given.dtype} {given.tolist()}"
            )
        return given.astype(np.int64)

    def _show(self, state: State) -> None:
        if state.depth == 0:
            self.tasks = state.task.cpu().numpy()
            if len(self.tasks) != self.number:
                raise ValueError(f"the game deals {len(self.tasks)} samples to {self.number} lanes; they must agree")
            self.illegal = np.full(self.number, -1)
            self.ends = None
        self.depth = state.depth
        self.vectors, self.masks = self.format.vectors(state.v, state.task, state.depth), masks(state)

    def _show_end(self) -> None:
        trace = self.game.trace
        outcome = trace.outcome
        output = outcome.output.new_zeros(self.number, self.spec.features)
        output[:, : outcome.output.shape[1]] = outcome.output
        self.depth = self.spec.depth
        self.vectors, self.masks = self.format.vectors(output, trace.task, self.depth), np.ones_like(self.masks)
        ends = {
            "correct": outcome.correct,
            "prediction": outcome.prediction,
            "label": outcome.target,
            "loss": outcome.loss,
            "final_reward": outcome.final_reward,
            "route": trace.actions,
        }
        self.ends = {name: value.cpu().numpy() for name, value in ends.items()}

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            lane = int((self.illegal >= 0).argmax())
            warnings.warn(
                f"lane {lane} (task {self.tasks[lane]}) chose action {self.illegal[lane]}, which is illegal there, and "
                "has lost its route; heed the action mask. This is said once for each environment; every such action "
                "is in the infos as 'illegal_action'.",
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


def infos(lanes: Lanes) -> list[dict[str, Any]]:
    """What each lane is told beside observation and reward, as plain Python values; empty until something happens."""
    if lanes.ends is None:
        told: list[dict[str, Any]] = [{} for _ in range(lanes.number)]
    else:
        names, columns = lanes.ends.keys(), [values.tolist() for values in lanes.ends.values()]
        told = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    for lane in (lanes.illegal >= 0).nonzero()[0].tolist():
        told[lane]["illegal_action"] = int(lanes.illegal[lane])
    return told


def _refuse_worker_processes() -> None:
    """Raise where a vectorising wrapper builds an environment to run it in a process of its own."""
    names = {frame.frame.f_globals.get("__name__") for frame in inspect.stack(0)}
    if names.intersection(_WORKERS):
        raise RuntimeError(
            "environments in different processes cannot share their blocks, and each would train its own; use the "
            "lanes of one game instead: gymnasium.make_vec('routing_env:Routing-v0', num_envs=...) or "
            "routing_env.envs.sb3.RoutingVecEnv(copies=...)"
        )
