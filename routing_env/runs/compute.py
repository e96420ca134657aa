"""What training costs: the number of trained parameters, and the floating-point operations per training sample."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import nan
from typing import Any, cast

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from routing_env.game.routing_game import RoutingGame
from routing_env.types import Router

COUNTED = 8
"""Deals of each epoch whose operations are counted, at equal distances."""

APART = 50
"""Deals from one that is counted to the next, at least: to count takes as long as to play."""


class ComputeMeter:
    """Counts the floating-point operations of some training deals: forward, backward, and what the router computes.

    Operations are those that ``torch.utils.flop_counter`` has formulas for: matrix products, convolutions, attention. A
    multiplication with an addition counts as two. A counted deal lasts from the end of one deal to the end of the
    next, so that what a router learns from a deal is counted as well. Counting does not change what is computed.

    Args:
        pass_size: Training samples in an epoch.
    """

    def __init__(self, pass_size: int) -> None:
        self._stride = pass_size / COUNTED
        self._counter: _Counter | None = None
        self._stack = ExitStack()
        self._begin()
        self._clear()

    @contextmanager
    def training(self) -> Generator[None]:
        """Surrounds the training of an epoch, or of a part of it."""
        self._begin()
        self._start()
        try:
            yield
        finally:
            rest = self._stop()
            if self._deals == 1:  # what the router learned from the only deal
                self._first = self._first[0] + rest, self._first[1]

    def deal_ended(self, samples: int) -> None:
        """Take note that a training deal of this many samples has just ended."""
        if self._counter is not None:
            counted = self._stop()
            if self._deals:
                self._flops, self._samples = self._flops + counted, self._samples + samples
            else:  # begins with the deal, so that nothing was learned from an earlier one
                self._first = counted, samples
        self._deals += 1
        self._seen += samples
        if self._seen >= self._next:
            self._next = self._seen + max(self._stride, APART * samples)
            self._start()

    def drain(self) -> float:
        """Operations per training sample in the deals counted since the last call; NaN if there are none."""
        flops, samples = (self._flops, self._samples) if self._samples else self._first
        self._clear()
        return flops / samples if samples else nan

    def _begin(self) -> None:
        self._deals: int = 0
        self._seen: int = 0
        self._next: float = 0.0

    def _clear(self) -> None:
        self._flops: int = 0
        self._samples: int = 0
        self._first: tuple[int, int] = (0, 0)

    def _start(self) -> None:
        # the compiler takes as long to import as torch itself
        counter = _CounterBesideCompiler if "torch._dynamo" in sys.modules else _Counter
        self._counter = self._stack.enter_context(counter())

    def _stop(self) -> int:
        self._stack.close()
        counter, self._counter = self._counter, None
        return 0 if counter is None else counter.flops


class _Counter(TorchDispatchMode):
    """Sums up the operations by torch's formulas. ``FlopCounterMode`` itself also hooks into every module."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self._formulas: Mapping[Any, Callable[..., int]] = FlopCounterMode(display=False).flop_registry

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch loads its compiler to keep it away from this class."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = self._formulas.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=output)
        return output


class _CounterBesideCompiler(_Counter):
    """The same where something may be compiled: the compiler, which is loaded then, keeps away from the counting."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs)


def parameters_of(*owners: object) -> int:
    """Number of trained parameters of networks, games and routers; each parameter counts once.

    The parameters of a router are those of its networks. Tables, such as the policies of tabular routers, are not
    counted.
    """
    found = {id(one): one for module in _modules(owners, set()) for one in module.parameters() if one.requires_grad}
    return sum(one.numel() for one in found.values())


def not_finite(*owners: object) -> list[str]:
    """The names of what is broken in the networks of something: parameters with NaN or infinity, buffers with NaN."""
    found: list[str] = []
    for module in _modules(owners, set()):
        found += [name for name, one in module.named_parameters() if not one.isfinite().all()]
        found += [name for name, one in module.named_buffers() if one.isnan().any()]
    return found


def _modules(owner: object, seen: set[int]) -> Iterator[nn.Module]:
    """The networks that something consists of; those of a Stable-Baselines3 model are in its ``policy``."""
    if id(owner) in seen:
        return
    seen.add(id(owner))
    if isinstance(owner, nn.Module):
        yield owner
    elif isinstance(owner, RoutingGame):
        yield owner.network
    elif isinstance(owner, Router):
        yield from _modules(vars(owner), seen)
    elif isinstance(owner, Mapping | list | tuple):
        parts = cast(Any, owner)
        for part in parts.values() if isinstance(owner, Mapping) else parts:
            yield from _modules(part, seen)
    elif isinstance(policy := getattr(owner, "policy", None), nn.Module):
        yield policy
