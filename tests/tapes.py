"""Graphs for the CPU, which show what a CUDA graph would do with a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors  # pyright: ignore[reportPrivateUsage]
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Tape:
    """Writes down the operations of a step with their arguments, and runs just these again.

    As in a CUDA graph, tensors keep their places, Python values their values, and an operation that tells Python about
    a tensor's numbers, makes a tensor whose shape depends on them, or copies numbers from Python, is an error. So is a
    new tensor of which the device is not given.

    Args:
        generators: Those that the step draws from; on the CPU they need no preparation.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators
        self._operations: list[tuple[Any, Any, Any, list[Any]]] = []

    def capture(self, step: Callable[[], Any]) -> Any:
        """Write a step down, and undo what it has done."""
        generators = [torch.default_generator, *self._generators]
        drawn = [generator.get_state() for generator in generators]
        with _Blindfold(), _Writer(self._operations) as writer:
            results = step()
        with torch.no_grad():
            for tensor, before in reversed(writer.changed):
                tensor.copy_(before)
        for generator, state in zip(generators, drawn, strict=True):
            generator.set_state(state)
        return results

    def replay(self) -> None:
        """Run the operations again."""
        with torch.no_grad():
            for function, args, kwargs, results in self._operations:
                for old, new in zip(results, tree_flatten(function(*args, **kwargs))[0], strict=True):
                    if isinstance(new, Tensor) and new.data_ptr() != old.data_ptr():
                        old.copy_(new)


class _Blindfold(TorchFunctionMode):
    """Refuses what reads a tensor's memory without an operation, and new tensors that nobody puts on a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READING:
            raise RuntimeError(f"{func} waits for the device")
        if func in _device_constructors() and "device" not in kwargs and args != (0,):
            raise RuntimeError(f"{func} makes a tensor on the CPU; give its device")
        return func(*args, **kwargs)


class _Writer(TorchDispatchMode):
    def __init__(self, operations: list[tuple[Any, Any, Any, list[Any]]]) -> None:
        super().__init__()
        self._operations = operations
        self.changed: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in WAITING or any(
            index is not None and index.dtype == torch.bool
            for index in (args[1] if func.overloadpacket in INDEXING else ())
        ):
            raise RuntimeError(f"{func} waits for the device")
        for number, argument in enumerate(func._schema.arguments):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes or (func.overloadpacket, argument.name) in CHANGED:
                given = args[number] if number < len(args) else kwargs.get(argument.name)
                self.changed += [(one, one.detach().clone()) for one in tree_flatten(given)[0]]
        result = func(*args, **kwargs)
        self._operations.append((func, args, kwargs, tree_flatten(result)[0]))
        return result


_ATEN = torch.ops.aten
WAITING = frozenset(
    {
        _ATEN._local_scalar_dense,
        _ATEN.item,
        _ATEN.equal,
        _ATEN.is_nonzero,
        _ATEN.nonzero,
        _ATEN.masked_select,
        _ATEN.unique_dim,
        _ATEN._unique2,
        _ATEN.bincount,
        _ATEN.multinomial,
        _ATEN.repeat_interleave,
        _ATEN.allclose,
        _ATEN.lift_fresh,
    }
)
"""Operations that wait for a CUDA device; ``lift_fresh`` is what ``torch.tensor`` does with numbers of Python."""
READING = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.cpu})
CHANGED = frozenset((_ATEN.native_batch_norm, name) for name in ("running_mean", "running_var"))
"""Arguments that an operation changes without saying so."""
INDEXING = frozenset({_ATEN.index, _ATEN.index_put, _ATEN.index_put_})
"""Operations that wait where an index is a mask."""
