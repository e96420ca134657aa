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
        self._actions = spec.actions
        self._place: dict[str, slice] = {}
        size = 0
        for part, width in zip(PARTS, (spec.features, spec.tasks, spec.depth), strict=True):
            if part in parts:
                self._place[part] = slice(size, size + width)
                size += width
        self._tasks = np.eye(spec.tasks, dtype=np.float32)
        self._depths = np.eye(spec.depth + 1, spec.depth, dtype=np.float32)
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

    def vectors(self, v: Tensor, task: NDArray[np.int64], depth: int) -> Vectors:
        """The vector of every lane.

        Args:
            v: float32 [B, at most F], which zeros fill up to F.
            task: int64 [B].
            depth: how many decisions the lanes have behind them; D after the last.

        Returns:
            float32 [B, n], a new array.
        """
        seen = np.zeros((len(task), len(self.low)), np.float32)
        for part, place in self._place.items():
            if part == "v":
                seen[:, : v.shape[1]] = v.cpu().numpy()
            else:
                seen[:, place] = self._tasks[task] if part == "task" else self._depths[depth]
        return seen

    def vectors_of(self, state: State) -> Vectors:
        """The vector of every lane in a state, float32 [B, n]."""
        return self.vectors(state.v, state.task.cpu().numpy(), state.depth)

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
        return self.observations(self.vectors_of(state), masks(state))


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
