"""Tasks over shared inputs: the form that every data set takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from routing_env.data.cuts import hold_out, seeded
from routing_env.data.fingerprint import fingerprint
from routing_env.types import Batch

SplitName = Literal["train", "validation", "test"]
TaskArrays = Mapping[str, tuple[ArrayLike | Tensor, ArrayLike | Tensor]]
"""Task name to inputs [N, *input shape] or rows [N], and targets [N] or [N, O]."""


@dataclass(frozen=True)
class Split:
    """Samples as references into the inputs: one input may serve many tasks.

    Attributes:
        index: int64 [N], rows of the inputs.
        task: int64 [N].
        target: int64 [N] class within the task, or float32 [N, O] for regression.
    """

    index: Tensor
    task: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> Split:
        return Split(self.index[rows], self.task[rows], self.target[rows])

    @property
    def label(self) -> Tensor:
        """int64 [N], equal for samples of one task and class; for regression the task."""
        if self.target.is_floating_point() or not len(self):
            return self.task
        return self.task * (1 + self.target.max()) + self.target

    def to(self, device: torch.device | str) -> Split:
        """Copy the split to a device."""
        return Split(self.index.to(device), self.task.to(device), self.target.to(device))


@dataclass(frozen=True)
class MultiTaskData:
    """T tasks over one array of inputs.

    Inputs are stored once (uint8 images stay uint8) and standardised when a batch is gathered: (x - mean) / std with
    the statistics of the training inputs, for each channel of images [C, H, W], for each feature of vectors [F], and
    over all values for samples of any other shape.

    Attributes:
        name: name that runs are filed under.
        inputs: uint8 or float32 [M, *input shape].
        train: samples that train the blocks and the router.
        validation: samples for choosing settings; may be empty.
        test: samples for reports only.
        task_names: names of the T tasks.
        classes: number of classes of each task; None for regression.
        mean: float32 mean of the training inputs, shaped to broadcast over a sample.
        std: float32 standard deviation of the training inputs, shaped like ``mean``; nowhere 0.
        groups: group of each task if the best sharing is known (``planted``), else None.
        programs: for each task the hidden functions that make its labels, in the order in which they apply, if the best
            route is known (``compose``), else None.
        kinds: number of kinds of samples, if the best route of a sample follows from its kind, which the first
            features of its input show as a one-hot (``mixed``); else None.
        usual: values of settings that these data are usually trained with, by the names of the settings; settings that
            are not listed take the paper's values.
    """

    name: str
    inputs: Tensor
    train: Split
    validation: Split
    test: Split
    task_names: tuple[str, ...]
    classes: tuple[int, ...] | None
    mean: Tensor
    std: Tensor
    groups: tuple[int, ...] | None = None
    programs: tuple[tuple[int, ...], ...] | None = None
    kinds: int | None = None
    usual: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def from_arrays(
        tasks: TaskArrays,
        *,
        inputs: ArrayLike | Tensor | None = None,
        test: TaskArrays | float = 0.2,
        classes: Mapping[str, int] | None = None,
        regression: bool | None = None,
        name: str = "own",
        validation: float = 0.1,
        seed: int = 0,
        copy: bool = True,
    ) -> MultiTaskData:
        """Build a data set from NumPy arrays, tensors, or whatever NumPy reads as an array of numbers.

        There are two forms. ``tasks={"a": (inputs, targets), ...}`` gives every task its inputs; tasks that are given
        the very same array object share it. ``inputs=X, tasks={"a": (rows, targets), ...}`` declares shared inputs:
        rows are row numbers of X or a boolean mask over them, so a task may have targets for some inputs only. Shared
        inputs are stored once and cut by row: a row that tests or validates one task trains no other.

        Inputs are [N, F] vectors, [N, C, H, W] images, or of any other shape. [N, H, W] are images of one channel and
        get that axis. uint8 inputs stay uint8; other types become float32. Everything is copied, or with ``copy=False``
        everything but the inputs, so that a large array, or a memory-mapped file, is not held twice.

        Whole-number or boolean targets [N] are classes, which count from 0; tasks may differ in the number of their
        classes. Floating-point targets [N] or [N, O] make regression, for all tasks alike.

        Args:
            tasks: for each task its training samples in one of the two forms.
            inputs: [M, *input shape] for the second form.
            test: test samples in the form of ``tasks``; or the share of every array to be cut off for the test, drawn
                with ``seed``. No class loses its only sample to this cut or to that of the validation split.
            classes: the number of classes of each task; by default one more than its largest target.
            regression: True makes whole-number targets values to predict, False makes floating-point targets classes;
                None decides by the type.
            name: what the runs are filed under; not the name of a built-in data set.
            validation: share of the training inputs that is held out for validation; 0 trains on everything.
            seed: seed of the cuts.
            copy: False shares the memory of the inputs, which must not change from then on. They must be one array,
                uint8 or float32 and contiguous.

        Raises:
            ValueError: Something would be changed, dropped or misread: arrays that do not fit together; values that are
                not finite or not real numbers, masked, or too large for float32; targets that are negative, one-hot,
                or do not start at 0; repeated rows; test rows that train the same task; names that are not strings.
                The message names the task, the value and the remedy.

        Warns:
            UserWarning: The data are usable but suspicious: channels seem to be last; whole numbers or precision do not
                survive float32; targets are whole numbers of a floating-point type; classes have no sample, or none
                that trains; inputs that test or validate also train the same or another task.
        """
        from routing_env.data.arrays import build

        with torch.device("cpu"):
            data, remarks = build(
                tasks,
                inputs=inputs,
                test=test,
                classes=classes,
                regression=regression,
                name=name,
                validation=validation,
                seed=seed,
                copy=copy,
            )
        for remark in remarks:
            warnings.warn(remark, stacklevel=2)
        return data

    @property
    def tasks(self) -> int:
        """Number of tasks, T."""
        return len(self.task_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """Number of outputs, O: the largest number of classes of a task, or the width of the regression targets."""
        return int(self.train.target.shape[1]) if self.classes is None else max(self.classes)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.inputs.device

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """For each split 16 hexadecimal digits that change with any pixel, label, class, task name or order.

        They are the same on every device and in every copy. Two data sets with equal fingerprints train and test alike.
        """
        return {
            name: fingerprint(self.inputs, split.index, split.task, split.target, self.task_names, self.classes)
            for name, split in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }

    def split(self, name: SplitName) -> Split:
        """Look up a split.

        Raises:
            ValueError: The name is unknown, or the split is empty.
        """
        if name not in ("train", "validation", "test"):
            raise ValueError(f"split is {name!r}; it must be 'train', 'validation' or 'test'")
        split: Split = getattr(self, name)
        if not len(split):
            raise ValueError(f"{self.name} has an empty {name} split; load it with validation above 0")
        return split

    def gather(self, split: Split) -> Batch:
        """Gather the samples of a small split as a standardised batch."""
        x = (self.inputs.index_select(0, split.index).to(torch.float32) - self.mean) / self.std
        return Batch(x, split.task, split.target)

    def batches(self, name: SplitName, size: int) -> Iterator[Batch]:
        """Iterate over a split in its stored order, ``size`` samples at a time."""
        split = self.split(name)
        for rows in torch.arange(len(split), device=self.device).split(size):
            yield self.gather(split[rows])

    def to(self, device: torch.device | str) -> MultiTaskData:
        """Copy the data to a device."""
        splits = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        tensors = {name: getattr(self, name).to(device) for name in ("inputs", "mean", "std")}
        return replace(self, **splits, **tensors)


def make_data(
    name: str,
    inputs: Tensor,
    train: Split,
    test: Split,
    task_names: Sequence[str],
    classes: Sequence[int] | None,
    *,
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    """Check a data set, cut the validation split from its training inputs, and measure their mean and deviation.

    Validation is cut by input, not by sample: an input that validates one task trains no other. The cut is drawn with
    ``seed``, but inputs that hold the only training sample of a class stay in training. The test split plays no part
    in the cut.

    Args:
        name: name of the data set.
        inputs: uint8 or float32 [M, *input shape].
        train: samples to be divided into training and validation.
        test: samples for reports only.
        task_names: T names.
        classes: number of classes of each task; None for regression.
        validation: share of the training inputs, in [0, 1); 0 is the paper's protocol, where everything trains.
        seed: seed of the cut.

    Raises:
        ValueError: Values are not finite, targets or tasks are out of range, a task has no samples, or the share or
            the seed is invalid.
    """
    if not isinstance(validation, Real) or not 0 <= validation < 1:
        raise ValueError(f"validation is {validation!r}; it must be a share of the training data in [0, 1)")
    _check(name, inputs, {"training": train, "test": test}, task_names, classes)
    generator = seeded(seed)
    used, row = train.index.unique(return_inverse=True)
    order, number = torch.randperm(len(used), generator=generator, device="cpu"), round(validation * len(used))
    drawn = torch.isin(row, order[:number].to(row.device))
    if (bare := _without_samples(train.task[~drawn], task_names)) is not None:
        raise ValueError(f"validation={validation} leaves task {bare!r} of {name} without training samples; lower it")
    validates = torch.isin(train.index, used[hold_out(order, number, row.cpu(), train.label.cpu())])
    kept, cut = train[~validates], train[validates]
    if validation and (bare := _without_samples(cut.task, task_names)) is not None:
        raise ValueError(
            f"validation={validation} leaves task {bare!r} of {name} without validation samples, as seed {seed} cuts "
            "the inputs of all tasks together; raise it, give the task more samples, or use 0"
        )
    mean, std = channel_statistics(inputs, kept.index.unique())
    return MultiTaskData(
        name, inputs, kept, cut, test, tuple(task_names), None if classes is None else tuple(classes), mean, std
    )


def _without_samples(task: Tensor, names: Sequence[str]) -> str | None:
    """The first task that none of some samples, int64 [N], belongs to; None if each has one."""
    missing = (task.bincount(minlength=len(names)) == 0).nonzero()
    return names[int(missing[0])] if len(missing) else None


_ROWS_AT_ONCE = 1024
"""Rows computed at once: their intermediate results are small beside the inputs."""
_ROUNDING = 1e-6
"""A deviation of at most this share of the mean is rounding error: the values are constant."""


def channel_statistics(inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and the deviation that :class:`MultiTaskData` describes.

    Args:
        inputs: [M, *input shape].
        rows: int64 [N], the rows to average over.

    Returns:
        Two float32 tensors that broadcast over a sample.
    """
    images, vectors = inputs.dim() == 4, inputs.dim() == 2
    count, device = 0, inputs.device
    total = squares = torch.zeros((), dtype=torch.float64, device=device)
    grey = torch.arange(256, dtype=torch.float64, device=device)
    for part in rows.split(_ROWS_AT_ONCE):
        values = inputs[part]
        values = values.transpose(0, 1).flatten(1) if images or vectors else values.reshape(1, -1)
        count += values.shape[1]
        if values.dtype == torch.uint8 and images:  # counting the 256 values is exact and much faster than summing
            often = torch.stack([torch.bincount(channel, minlength=256) for channel in values]).to(torch.float64)
            total, squares = total + often @ grey, squares + often @ grey.square()
        else:
            values = values.to(torch.float64)
            total, squares = total + values.sum(1), squares + values.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std = std.where(std > (_ROUNDING * mean.abs()).clamp_min(torch.finfo(torch.float32).tiny), 1.0)
    shape = (-1, 1, 1) if images else (-1,) if vectors else ()
    return mean.to(torch.float32).reshape(shape), std.to(torch.float32).reshape(shape)


def _check(
    name: str, inputs: Tensor, splits: dict[str, Split], task_names: Sequence[str], classes: Sequence[int] | None
) -> None:
    if inputs.dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"inputs of {name} are {inputs.dtype}; they must be uint8 or float32")
    for number, part in enumerate(inputs.split(_ROWS_AT_ONCE) if inputs.dtype == torch.float32 else ()):
        if not (finite := part.flatten(1).isfinite().all(1)).all():
            row = number * _ROWS_AT_ONCE + int((~finite).nonzero()[0])
            raise ValueError(f"inputs of {name} hold NaN or infinity, first in row {row}. Remove or replace them")
    kinds = {which: (split.target.is_floating_point(), *split.target.shape[1:]) for which, split in splits.items()}
    if len(set(kinds.values())) > 1:
        described = ", ".join(f"{which}: {s.target.dtype} {list(s.target.shape)}" for which, s in splits.items())
        raise ValueError(f"targets of {name} differ in kind or width ({described}); make them alike")
    for which, split in splits.items():
        if not len(split.index) == len(split.task) == len(split.target):
            raise ValueError(
                f"the {which} split of {name} has {len(split.index)} inputs, {len(split.task)} tasks and "
                f"{len(split.target)} targets; each sample needs one of each"
            )
        for what, column, number in (("input", split.index, len(inputs)), ("task", split.task, len(task_names))):
            if (strange := (column < 0) | (column >= number)).any():
                named = int(column[strange][0])
                raise ValueError(
                    f"the {which} split of {name} names {what} {named}; there are {number}, numbered from 0"
                )
        counts = torch.bincount(split.task, minlength=len(task_names))
        if not counts.all():
            raise ValueError(f"task {task_names[int((counts == 0).nonzero()[0])]!r} of {name} has no {which} samples")
        if classes is None:
            if split.target.dim() != 2 or not split.target.isfinite().all():
                raise ValueError(f"{which} targets of {name} must be finite and of shape [samples, outputs]")
        elif (wrong := (split.target < 0) | (split.target >= torch.tensor(classes)[split.task])).any():
            row = int(wrong.nonzero()[0])
            task = int(split.task[row])
            raise ValueError(
                f"{which} sample {row} of {name} has class {int(split.target[row])}; "
                f"task {task} ({task_names[task]}) has classes 0 to {classes[task] - 1}"
            )
