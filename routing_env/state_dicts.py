"""Restoring from state dicts, all or nothing.

A ``load_state_dict`` first compares what it is given with what would fit, by default with the object's own state:
:func:`check_state` raises before anything has changed. What consists of parts restores them by :func:`restore`, which
undoes the earlier parts if a later one refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

_NAMED_DIFFERENCES = 3


@dataclass(frozen=True)
class AnyLength:
    """Fits a tensor whose first axis has any length, or a list of any length whose entries are like the first one.

    Attributes:
        like: a tensor, or a list with one entry.
    """

    like: Tensor | list[Any]


@dataclass(frozen=True)
class SomeOf:
    """Fits a dict that has some of these entries, or all of them."""

    like: Mapping[Any, Any]


@dataclass(frozen=True)
class Exactly:
    """Fits this value alone."""

    value: Any


ANYTHING = object()
"""Fits everything; another ``load_state_dict`` checks it."""


class Stateful(Protocol):
    """What has a state to restore, ``nn.Module`` included."""

    def state_dict(self) -> Mapping[str, Any]:
        """Everything that is needed to go on, as nested dicts and lists of tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object:
        """Restore from :meth:`state_dict`."""
        ...


def check_state(state: object, like: Any) -> None:
    """Refuse a state that does not fit.

    Args:
        state: what a ``load_state_dict`` was given.
        like: the same tree with any values. Keys, lengths, shapes, data types and the types of plain values must be
            equal; :class:`AnyLength`, :class:`SomeOf`, :class:`Exactly` and ``ANYTHING`` in the tree say what may, or
            may not, differ. An integer fits where a float is expected, and a tuple where a list is.

    Raises:
        ValueError: The state differs; the message names the first three differences.
    """
    found = list(islice(_differences(state, like, ""), _NAMED_DIFFERENCES))
    if found:
        raise ValueError("; ".join(found))


def restore(parts: Mapping[str, Stateful], state: object) -> None:
    """Restore all parts, or none of them.

    Args:
        parts: what to restore, in this order. The states of modules are checked here, since ``nn.Module`` loads what
            fits of a state that does not.
        state: for each part its state.

    Raises:
        ValueError: A part refuses its state, by whatever error. All parts are as they were.
    """
    check_state(state, dict.fromkeys(parts, ANYTHING))
    given, before, current = cast(Mapping[str, dict[str, Any]], state), dict[str, Any](), ""
    try:
        for name, part in parts.items():
            current = name
            before[name] = deepcopy(part.state_dict())
            if isinstance(part, nn.Module):
                check_state(given[name], before[name])
            part.load_state_dict(given[name])
    except Exception as error:
        for name, own in before.items():
            if not same_state(parts[name].state_dict(), own):
                parts[name].load_state_dict(own)
        raise ValueError(f"{current}: {error}") from error


def same_state(one: Any, other: Any) -> bool:
    """Whether two trees are equal to the bit; a tuple counts as a list."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        a, b = (tensor.detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in (one, other))
        return torch.equal(a, b)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        entries, others = cast(Mapping[Any, Any], one), cast(Mapping[Any, Any], other)
        return list(entries) == list(others) and all(same_state(entries[key], others[key]) for key in entries)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = cast(Sequence[Any], one), cast(Sequence[Any], other)
        return len(pairs[0]) == len(pairs[1]) and all(map(same_state, *pairs))
    return type(one) is type(other) and repr(one) == repr(other)  # NaN equals itself


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Set the state of a generator.

    Raises:
        ValueError: It is not the state of such a generator. Nothing has changed.
    """
    try:
        generator.set_state(state.cpu())
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"this is not the state of a generator: {error}") from error


def like_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What fits an optimiser: it may lack the state of parameters that have not been stepped yet.

    A step of a copy on gradients of zero shows what the optimiser keeps for each parameter. For one whose copy cannot
    be stepped, only the groups are compared.
    """
    rows: Any = ANYTHING
    with torch.random.fork_rng(devices=[]):
        try:
            stepped = deepcopy(optimizer)
            for parameter in (parameter for group in stepped.param_groups for parameter in group["params"]):
                parameter.grad = torch.zeros_like(parameter)
            stepped.step()
            rows = SomeOf(stepped.state_dict()["state"])
        except Exception:
            rows = ANYTHING
    groups = [
        {name: float(value) if type(value) is int else value for name, value in group.items()}
        for group in optimizer.state_dict()["param_groups"]
    ]
    return {"state": rows, "param_groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimiser, with what it keeps for each parameter in the memory layout of the parameter.

    Files keep the numbers of a tensor and not their layout. Fused optimisers walk through the memory of a parameter and
    of its moments alike, so that moments in another layout than ``channels_last`` would belong to other weights.

    Args:
        optimizer: To restore.
        state: From its ``state_dict``; tensors in it may become the optimiser's own.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _differences(state: Any, like: Any, place: str) -> Iterator[str]:
    """What does not fit, in words, depth first."""
    where = place or "the state"
    if like is ANYTHING:
        return
    if isinstance(like, Exactly):
        if not same_state(state, like.value):
            yield f"{where} is {state!r} in the state, and {like.value!r} here"
    elif isinstance(like, Tensor):
        if not isinstance(state, Tensor) or (state.dtype, state.shape) != (like.dtype, like.shape):
            yield f"{where} is {_words(state)} in the state, and {_words(like)} here"
    elif isinstance(like, AnyLength) and isinstance(like.like, Tensor):
        if not isinstance(state, Tensor) or not state.ndim:
            yield f"{where} is {_words(state)} in the state; it must be a tensor with an axis"
        else:
            yield from _differences(state[:0], like.like[:0], place)
    elif isinstance(like, AnyLength | list | tuple):
        if not isinstance(state, list | tuple):
            yield f"{where} is {_words(state)} in the state; it must be a list"
            return
        given = cast(Sequence[Any], state)
        expected: Sequence[Any] = [like.like[0]] * len(given) if isinstance(like, AnyLength) else like
        if len(given) != len(expected):
            yield f"{where} has {len(given)} entries in the state, and {len(expected)} here"
        for i, pair in enumerate(zip(given, expected, strict=False)):
            yield from _differences(*pair, f"{place}[{i}]")
    elif isinstance(like, Mapping | SomeOf):
        if not isinstance(state, Mapping):
            yield f"{where} is {_words(state)} in the state; it must be a dict"
            return
        entries = cast(Mapping[Any, Any], state)
        known = like.like if isinstance(like, SomeOf) else cast(Mapping[Any, Any], like)
        missing = [] if isinstance(like, SomeOf) else [str(key) for key in known if key not in entries]
        if missing:
            yield f"{where} lacks {', '.join(missing)}"
        if extra := [str(key) for key in entries if key not in known]:
            yield f"{where} has {', '.join(extra)}, which is unknown here"
        for key in entries:
            if key in known:
                yield from _differences(entries[key], known[key], f"{place}/{key}" if place else str(key))
    elif type(state) is not type(like) and not (type(state) is int and type(like) is float):
        yield f"{where} is {_words(state)} in the state, and {_words(like)} here"


def _words(value: object) -> str:
    """A value's type, and the shape of a tensor."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} {value!r}" if isinstance(value, str | int | float) else type(value).__name__
