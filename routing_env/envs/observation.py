"""What agents see of a game's states: vectors and action masks as NumPy arrays, and their spaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from routing_env.names import as_integer, suggestion
from routing_env.types import GameSpec, State

Observation = Any
"""float32 [n], or a dict with this vector as "observation" and an int8 [A] mask as "action_mask"."""
Vectors = NDArray[np.float32]
Masks = NDArray[np.int8]

MASKS = ("obs", "info", "both", "none")
PARTS = ("v", "task", "depth")


class ObservationFormat:
    """The form of observations: concat(v, one-hot task, one-hot depth) or parts of it, and where the mask goes.

    All lanes are converted at once; a single lane's observation is a slice.

    Args:
        spec: the sizes of the game.
        mask: "obs" and "both" put the mask into the observation, "info" and "both" into the info, "none" nowhere.
        parts: which of "v", "task" and "depth" an observation contains; they always come in this order.

    Attributes:
        low: float32 [n], the lower bounds of a vector.
        high: float32 [n], the upper bounds.
        in_info: whether the mask goes into the info.

    Raises:
        ValueError: an unknown mask or part, or no part at all.
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
        """Make the space of one agent's observations.

        Args:
            actions: size of the agent's action space; by default A.
        """
        vector = spaces.Box(self.low, self.high, dtype=np.float32)
        if not self._in_observation:
            return vector
        mask = spaces.Box(0, 1, (actions or self._actions,), dtype=np.int8)
        return spaces.Dict({"observation": vector, "action_mask": mask})

    def blank(self, task: NDArray[np.int64]) -> Vectors:
        """Vectors in which only the task is filled in.

        Args:
            task: the task of each lane, int64 [B].

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
            blank: float32 [B, n], from :meth:`blank`; not modified.
            v: float32 [B, at most F], zero-padded to F.
            depth: number of decisions taken so far; D after the last.

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

    def observations(self, vectors: Iterable[Vectors], masks: Iterable[Masks]) -> list[Observation]:
        """Combine vectors and masks into one observation per agent.

        Args:
            vectors: for each agent, float32 [n].
            masks: for each agent, int8 of the size of its action space.
        """
        if not self._in_observation:
            return list(vectors)
        return [{"observation": vector, "action_mask": mask} for vector, mask in zip(vectors, masks, strict=True)]

    def observe(self, state: State) -> list[Observation]:
        """The observation of every lane's agent in a state."""
        return self.observations(self.vectors(state), masks(state))


def masks(state: State) -> Masks:
    """The legal actions as int8 [B, A], a copy."""
    return state.legal.cpu().numpy().astype(np.int8, order="C")  # the rows of an expanded tensor are one


def read_action(agent: str, action: object, size: int) -> int:
    """The action of an agent as a Python integer.

    Raises:
        ValueError: it is not an integer from 0 to size - 1.
    """
    chosen = as_integer(action)
    if chosen is None or not 0 <= chosen < size:
        raise ValueError(f"action of {agent} is {action!r}; it must be an integer from 0 to {size - 1}")
    return chosen


def read_actions(actions: object, lanes: int, size: int, who: Sequence[str] = ()) -> NDArray[np.int64]:
    """The actions of all lanes, from a list, a tuple or an array, as a new int64 array [B].

    Args:
        actions: an integer for each lane.
        lanes: B.
        size: number of actions.
        who: the agents that chose them, one for each action, so that the message names the first who is wrong.

    Raises:
        ValueError: they are not B integers from 0 to size - 1.
    """
    given = actions.tolist() if isinstance(actions, np.ndarray | Tensor) else actions
    chosen = _integers(given)
    if chosen is not None and len(chosen) == lanes and min(chosen) >= 0 and max(chosen) < size:
        return np.array(chosen, np.int64)
    if who:
        for agent, action in zip(who, cast(Sequence[object], given), strict=True):
            read_action(agent, action, size)  # refuses the first wrong one, by its name
    found = f"{actions.dtype} {given}" if isinstance(actions, np.ndarray | Tensor) else repr(actions)
    raise ValueError(f"actions must be {lanes} integers from 0 to {size - 1}; got {found}")


def _integers(given: object) -> list[int] | None:
    """Python integers; None for anything else than a list or a tuple of integers."""
    if not isinstance(given, list | tuple):
        return None
    chosen = [as_integer(one) for one in cast(Sequence[object], given)]
    return None if None in chosen else cast(list[int], chosen)


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Check an argument that must be one of a few words.

    Raises:
        ValueError: it is none of them; the message suggests the closest match.
    """
    if value not in known:
        raise ValueError(f"{name} is {value!r}; {suggestion(str(value), known)}")
