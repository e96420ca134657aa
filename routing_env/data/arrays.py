"""Tasks of one's own, from arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data

Arrays = Mapping[str, tuple[ArrayLike | Tensor, ArrayLike | Tensor]]
"""Task name to inputs [N, *input shape] and targets [N] or [N, O]."""


def from_arrays(
    tasks: Arrays,
    *,
    test: Arrays | float = 0.2,
    classes: Mapping[str, int] | None = None,
    name: str = "own",
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    """Build a data set from NumPy arrays or tensors.

    Whole-number targets [N] make classification; tasks may differ in the number of their classes, which count from 0.
    Floating-point targets [N] or [N, O] make regression, for all tasks alike. Inputs may be uint8, and stay so; any
    other type becomes float32. Tasks that are given the very same array share its inputs, which are stored once, and
    what tests or validates one of these tasks then trains none.

    Args:
        tasks: for each task its training inputs and targets.
        test: the same for the test split; or the share of every array to be cut off for it, drawn with ``seed``.
        classes: the number of classes of each task; by default one more than the largest target.
        name: what the runs are filed under.
        validation: share of the training inputs that validate; 0 trains on everything.
        seed: of the cuts.

    Raises:
        ValueError: arrays that do not fit together, values that are not finite, targets out of range; with the task.
    """
    if not tasks:
        raise ValueError("there are no tasks; give at least one, as {name: (inputs, targets)}")
    store = _Store(list(tasks))
    train = store.add("training", tasks)
    if isinstance(test, Mapping):
        if set(test) != set(tasks):
            raise ValueError(f"test has the tasks {sorted(test)}; it must have those of training, {sorted(tasks)}")
        tests = store.add("test", test)
    else:
        if not 0 < test < 1:
            raise ValueError(f"test is {test}; it must be a share in (0, 1), or arrays like those for training")
        held_out = torch.isin(train.index, store.draw(test, torch.Generator().manual_seed(seed)))
        train, tests = train[~held_out], train[held_out]
    regression = train.target.is_floating_point() or tests.target.is_floating_point()
    counts = None if regression else _class_counts(store.names, (train, tests), classes)
    inputs = store.inputs()
    return make_data(name, inputs, train, tests, store.names, counts, validation=validation, seed=seed)


class _Store:
    """Collects inputs, each array once.

    Args:
        names: of the tasks.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._arrays: dict[int, tuple[int, Tensor]] = {}
        self._rows = 0

    def add(self, which: str, tasks: Arrays) -> Split:
        """The samples of some tasks; ``which`` is for messages."""
        parts: list[Split] = []
        for task, name in enumerate(self.names):
            source, targets = tasks[name]
            label = f"{which} inputs of task {name!r}"
            if id(source) not in self._arrays:
                inputs = _tensor(source, label)
                first = next((stored for _, stored in self._arrays.values()), inputs)
                if inputs.shape[1:] != first.shape[1:] or inputs.dtype != first.dtype:
                    raise ValueError(
                        f"{label} are {inputs.dtype} of shape {list(inputs.shape)}, those of {self.names[0]!r} "
                        f"{first.dtype} of shape {list(first.shape)}; all samples must be of one type and shape"
                    )
                self._arrays[id(source)] = (self._rows, inputs)
                self._rows += len(inputs)
            start, inputs = self._arrays[id(source)]
            target = _targets(targets, f"{which} targets of task {name!r}")
            if len(target) != len(inputs):
                raise ValueError(f"{label} are {len(inputs)} for {len(target)} targets; there must be equally many")
            index = torch.arange(start, start + len(inputs))
            parts.append(Split(index, torch.full_like(index, task), target))
        kinds = {(part.target.dtype, part.target.shape[1:]) for part in parts}
        if len(kinds) > 1:
            described = ", ".join(
                f"{n!r}: {p.target.dtype} {list(p.target.shape)}" for n, p in zip(tasks, parts, strict=True)
            )
            raise ValueError(
                f"{which} targets differ in kind or width ({described}); make all classes or all regression"
            )
        return Split(*(torch.cat([getattr(part, field) for part in parts]) for field in ("index", "task", "target")))

    def draw(self, share: float, generator: torch.Generator) -> Tensor:
        """A share of the rows of every array, at least one row."""
        drawn = [
            start + torch.randperm(len(array), generator=generator)[: max(1, round(share * len(array)))]
            for start, array in self._arrays.values()
        ]
        return torch.cat(drawn)

    def inputs(self) -> Tensor:
        """All inputs."""
        return torch.cat([array for _, array in self._arrays.values()])


def _tensor(values: ArrayLike | Tensor, label: str) -> Tensor:
    """A CPU tensor of at least one row, uint8 or float32 and finite."""
    if not isinstance(values, Tensor):
        try:
            values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{label} are no array of numbers: {error}") from error
    tensor = values.detach().cpu()
    if tensor.dim() < 2 or not tensor.numel():
        raise ValueError(f"{label} have shape {list(tensor.shape)}; it must be [samples, ...], none of them 0")
    if tensor.dtype == torch.uint8:
        return tensor
    tensor = tensor.to(torch.float32)
    if not tensor.isfinite().all():
        row = int((~tensor.flatten(1).isfinite()).any(1).nonzero()[0])
        raise ValueError(f"{label} hold NaN or infinity, first in row {row}; remove or replace such values")
    return tensor


def _targets(values: ArrayLike | Tensor, label: str) -> Tensor:
    """int64 [N] for whole numbers, float32 [N, O] otherwise."""
    try:
        tensor = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label} are no numbers: {error}; number the classes from 0") from error
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.int64)
        if tensor.dim() != 1:
            raise ValueError(f"{label} have shape {list(tensor.shape)}; classes must be of shape [samples]")
        if len(tensor) and tensor.min() < 0:
            raise ValueError(f"{label} hold {int(tensor.min())}; classes count from 0")
        return tensor.to(torch.int64)
    if tensor.dim() == 1:
        tensor = tensor.unsqueeze(1)
    return _tensor(tensor, label)


def _class_counts(names: list[str], splits: tuple[Split, Split], classes: Mapping[str, int] | None) -> list[int]:
    if classes is not None:
        if set(classes) != set(names):
            raise ValueError(f"classes names the tasks {sorted(classes)}; the tasks are {sorted(names)}")
        return [classes[name] for name in names]
    largest = torch.zeros(len(names), dtype=torch.int64)
    for split in splits:
        largest = largest.scatter_reduce(0, split.task, split.target, "amax")
    for name, top in zip(names, largest.tolist(), strict=True):
        if top < 1:
            raise ValueError(f"task {name!r} has a single class; give it another, or say how many with classes=")
    return (largest + 1).tolist()
