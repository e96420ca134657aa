"""How a game's states are shown to agents: vectors and action masks, in numpy, and their spaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from routing_env.names import suggestion
from routing_env.types import GameSpec, State

Observation = Any
"""float32 [n], or a dict of it as "observation" and of int8 [A] as "action_mask"."""
Vectors = NDArray[np.float32]
Masks = NDArray[np.int8]

MASKS = ("obs", "info", "both", "none")
PARTS = ("v", "task", "depth")


class ObservationFormat:
    """concat(v, one-hot task, one-hot depth) or parts of it, and where the action mask goes.

    Everything is converted for all lanes at once; per lane there are only slices.

    Args:
        spec: of the game.
        mask: "obs" and "both" put the mask into the observation, "info" and "both" into the info, "none" nowhere.
        parts: which of "v", "task" and "depth" there are; they always come in this order.

    Attributes:
        low: float32 [n], the least values of a vector.
        high: float32 [n], the greatest.
        in_info: whether the mask goes into the info.

    Raises:
        ValueError: an unknown mask or part, or no part.
    """

    def __init__(self, spec: GameSpec, mask: str, parts: Sequence[str]) -> None:
        check_choice("mask", mask, MASKS)
        for part in parts:
            check_choice("part", part, PARTS)
        if not parts:
            raise ValueError(f"parts is empty; an observation needs at least one of {', '.join(PARTS)}")
        self.in_info = mask in ("info", "both")
        self._in_observation = mask in ("obs", "both")
        self._actions, self._depth = spec.actions, spec.depth
        self._place: dict[str, slice] = {}
        size = 0
        for part, width in zip(PARTS, (spec.features, spec.tasks, spec.depth), strict=True):
            if part in parts:
                self._place[part] = slice(size, size + width)
                size += width
        self.low, self.high = np.zeros(size, np.float32), np.ones(size, np.float32)
        if "v" in self._place:
            self.low[self._place["v"]], self.high[self._place["v"]] = -np.inf, np.inf

    def space(self, actions: int | None = None) -> spaces.Space[Any]:
        """A new space of one agent's observations.

        Args:
            actions: size of the agent's action space; by default A.
        """
        vector = spaces.Box(self.low, self.high, dtype=np.float32)
        if not self._in_observation:
            return vector
        mask = spaces.Box(0, 1, (actions or self._actions,), dtype=np.int8)
        return spaces.Dict({"observation": vector, "action_mask": mask})

    def blank(self, task: NDArray[np.int64]) -> Vectors:
        """The vectors of lanes of some tasks with nothing but the task in them yet.

        Args:
            task: int64 [B].

        Returns:
            float32 [B, n].
        """
        blank = np.zeros((len(task), len(self.low)), np.float32)
        if "task" in self._place:
            blank[np.arange(len(task)), self._place["task"].start + task] = 1
        return blank

    def fill(self, blank: Vectors, v: Tensor, depth: int) -> Vectors:
        """The vector of every lane.

        Args:
            blank: float32 [B, n], from :meth:`blank`; it is left as it is.
            v: float32 [B, at most F], which zeros fill up to F.
            depth: how many decisions the lanes have behind them; D after the last.

        Returns:
            float32 [B, n], a new array.
        """
        seen = blank.copy()
        if "v" in self._place:
            seen[:, : v.shape[1]] = v.cpu().numpy()
        if "depth" in self._place and depth < self._depth:
            seen[:, self._place["depth"].start + depth] = 1
        return seen

    def vectors(self, state: State) -> Vectors:
        """The vector of every lane in a state, float32 [B, n]."""
        return self.fill(self.blank(state.task.cpu().numpy()), state.v, state.depth)

    def observations(self, vectors: Vectors, masks: Iterable[Masks]) -> list[Observation]:
        """What some agents see.

        Args:
            vectors: float32 [number of agents, n].
            masks: of each agent, int8 of the size of its action space.
        """
        if not self._in_observation:
            return list(vectors)
        return [{"observation": vector, "action_mask": mask} for vector, mask in zip(vectors, masks, strict=True)]

    def observe(self, state: State) -> list[Observation]:
        """What the agent of every lane sees in a state."""
        return self.observations(self.vectors(state), masks(state))


def masks(state: State) -> Masks:
    """The legal actions as int8 [B, A], a copy."""
    return state.legal.cpu().numpy().astype(np.int8)


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Check an argument that must be one of a few words.

    Raises:
        ValueError: it is none of them.
    """
    if value not in known:
        raise ValueError(f"{name} is {value!r}; {suggestion(str(value), known)}")
