"""Makes a data set of arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from operator import index as whole_number
from typing import Any

import torch
from torch import Tensor

from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.convert import Remarks, listed, to_inputs, to_rows, to_targets
from routing_env.data.cuts import hold_out, seeded
from routing_env.data.overlap import describe_overlap, number_by_content, refuse_training_rows


def build(
    tasks: Any,
    *,
    inputs: Any,
    test: Any,
    classes: Any,
    regression: Any,
    name: Any,
    validation: Any,
    seed: Any,
    copy: bool,
) -> tuple[MultiTaskData, list[str]]:
    """Do the work of :meth:`~routing_env.data.base.MultiTaskData.from_arrays`, which documents the arguments.

    Returns:
        The data, and remarks about arrays that are usable but suspicious.
    """
    names = _task_names(tasks)
    _check_options(name, classes, regression)
    generator = seeded(seed)
    if regression is None and classes is not None:
        regression = False
    remarks: Remarks = {}
    store = _Store(names, regression, inputs, remarks, copy)
    train = store.add("training", tasks)
    tests = None
    if isinstance(test, Mapping):
        if set(test) != set(names):
            raise ValueError(f"test has the tasks {list(test)}; it must have those of training, {names}")
        tests = store.add("test", test)
    given = [train] if tests is None else [train, tests]
    counts = None
    if not any(split.target.is_floating_point() for split in given):
        counts = _class_counts(names, given, classes, remarks)
    if tests is None:
        train, tests = store.cut(train, test, generator)
    data = make_data(name, store.inputs(), train, tests, names, counts, validation=validation, seed=seed)
    content = number_by_content(data.inputs)
    if isinstance(test, Mapping):
        refuse_training_rows(names, content, tests, train)
    overlap = describe_overlap(names, content, (data.train, data.validation, data.test), len(given) == 2)
    return data, [*remarks.values(), *overlap]


@dataclass(frozen=True)
class _Stored:
    """An array of inputs.

    Attributes:
        source: the object that was given; it is kept, so that no other object can have its id.
        start: row of its first input among all inputs.
        inputs: what is stored.
    """

    source: Any
    start: int
    inputs: Tensor


class _Store:
    """Collects inputs and samples; every array is stored once.

    Args:
        names: names of the tasks.
        regression: whether targets are values to predict; None decides by their type.
        shared: inputs that all tasks refer to by row; None if every task brings inputs.
        remarks: receives a remark about arrays that are usable but suspicious.
        copy: whether inputs are copied.
    """

    def __init__(self, names: list[str], regression: bool | None, shared: Any, remarks: Remarks, copy: bool) -> None:
        self._names = names
        self._regression = regression
        self._shared = shared is not None
        self._remarks = remarks
        self._copy = copy
        self._stored: list[_Stored] = []
        self._by_id: dict[int, _Stored] = {}
        if self._shared:
            self._store(shared, "inputs")

    def add(self, which: str, tasks: Mapping[str, Any]) -> Split:
        """Read the samples of a split; ``which`` names it in messages.

        A mapping may compute its values on demand, so each is read once, and completely, before the next.
        """
        parts: list[Split] = []
        for task, name in enumerate(self._names):
            pair = tasks[name]
            if not isinstance(pair, tuple | list) or len(pair) != 2:  # type: ignore[arg-type]
                form = "(rows, targets)" if self._shared else "(inputs, targets)"
                raise ValueError(f"{which} of task {name!r} is {_kind(pair)}; it must be a tuple {form}")
            if self._shared:
                index = to_rows(pair[0], len(self._stored[0].inputs), f"{which} rows of task {name!r}")
            else:
                index = self._rows(pair[0], f"{which} inputs of task {name!r}", may_change=type(tasks) is not dict)
            target = to_targets(pair[1], f"{which} targets of task {name!r}", self._regression, self._remarks)
            if len(target) != len(index):
                raise ValueError(
                    f"task {name!r} has {len(index)} {which} inputs but {len(target)} targets; each input needs one "
                    "target"
                )
            parts.append(Split(index, torch.full_like(index, task), target))
        kinds = {(part.target.dtype, part.target.shape[1:]) for part in parts}
        if len(kinds) > 1:
            described = ", ".join(
                f"{name!r}: {part.target.dtype} {list(part.target.shape)}"
                for name, part in zip(self._names, parts, strict=True)
            )
            raise ValueError(
                f"{which} targets differ in kind or width ({described}); make all classes, or all "
                "regression of one width"
            )
        if kinds.pop()[0].is_floating_point:
            self._regression = True  # of a test split that follows, whatever the type of its targets
        return Split(*(torch.cat([getattr(part, field) for part in parts]) for field in ("index", "task", "target")))

    def cut(self, train: Split, share: Any, generator: torch.Generator) -> tuple[Split, Split]:
        """Cut off a share of the rows of every array for the test, at least one row, but no last row of a class.

        Raises:
            ValueError: The share is out of range, or leaves a task without test samples.
        """
        if not isinstance(share, Real) or not 0 < float(share) < 1:
            raise ValueError(f"test is {share!r}; it must be a share in (0, 1), or samples in the form of tasks")
        held_out: list[Tensor] = []
        for stored in self._stored:
            samples = train[(train.index >= stored.start) & (train.index < stored.start + len(stored.inputs))]
            rows, row = samples.index.unique(return_inverse=True)
            order = torch.randperm(len(rows), generator=generator)
            held_out.append(rows[hold_out(order, max(1, round(float(share) * len(rows))), row, samples.label)])
        tests = torch.isin(train.index, torch.cat(held_out))
        for task, name in enumerate(self._names):
            if not (tests & (train.task == task)).any():
                raise ValueError(
                    f"test={share} leaves task {name!r} without test samples, as each of its classes needs a sample to "
                    "train; give it more samples, raise the share, or pass a test split"
                )
        return train[~tests], train[tests]

    def inputs(self) -> Tensor:
        """All inputs."""
        return (
            torch.cat([stored.inputs for stored in self._stored]) if len(self._stored) > 1 else self._stored[0].inputs
        )

    def _rows(self, source: Any, label: str, *, may_change: bool) -> Tensor:
        if may_change and not self._copy:
            raise ValueError(
                f"{label} come from a mapping that may compute them anew, and copy is False; pass a dict, or leave "
                "copy=False out"
            )
        stored = self._by_id.get(id(source))
        if stored is None or (may_change and not torch.equal(to_inputs(source, label, {}), stored.inputs)):
            stored = self._store(source, label)
        return torch.arange(stored.start, stored.start + len(stored.inputs))

    def _store(self, source: Any, label: str) -> _Stored:
        if self._stored and not self._copy:
            raise ValueError(
                f"{label} are another array than those of {self._names[0]!r}, and copy is False; give all inputs as "
                "one array, from_arrays(inputs=X, tasks={name: (rows, targets)}), or leave copy=False out"
            )
        inputs = to_inputs(source, label, self._remarks, copy=self._copy)
        first = self._stored[0].inputs if self._stored else inputs
        if inputs.shape[1:] != first.shape[1:] or inputs.dtype != first.dtype:
            raise ValueError(
                f"{label} are {inputs.dtype} of shape {list(inputs.shape)}, those of {self._names[0]!r} "
                f"{first.dtype} of shape {list(first.shape)}; all samples must be of one type and shape"
            )
        stored = _Stored(source, sum(len(stored.inputs) for stored in self._stored), inputs)
        self._stored.append(stored)
        self._by_id[id(source)] = stored
        return stored


def _kind(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, tuple | list | Mapping) else ""
    return f"a {type(value).__name__}{size}"


def _task_names(tasks: Any) -> list[str]:
    if not isinstance(tasks, Mapping):
        raise ValueError(f"tasks is {_kind(tasks)}; it must be a mapping {{name: (inputs, targets)}}")
    if not tasks:
        raise ValueError("there are no tasks; give at least one, as {name: (inputs, targets)}")
    for name in tasks:
        _check_name("a task's name", name)
    names = list(tasks)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"task {twice[0]!r} occurs twice; give each task a different name")
    return names


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what} is {name!r}; it must be a string that is not empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is {name!r}, which no file can hold: {error.reason}") from error


def _check_options(name: Any, classes: Any, regression: Any) -> None:
    from routing_env.data import DATASETS

    _check_name("name", name)
    if name in DATASETS:
        raise ValueError(f"name is {name!r}, which is a data set of this package; give yours another name")
    if regression not in (None, True, False):
        raise ValueError(f"regression is {regression!r}; it must be True, False, or None to decide by the targets")
    if regression and classes is not None:
        raise ValueError("classes is given with regression=True; leave one of them out")


def _class_counts(names: list[str], splits: list[Split], classes: Any, remarks: Remarks) -> list[int]:
    """Count the classes of each task, over the given splits: all samples, or those that train and those that test."""
    task, target = (torch.cat([getattr(split, field) for split in splits]) for field in ("task", "target"))
    for number, name in enumerate(names):
        trained, tested = (split.target[split.task == number].unique() for split in (splits[0], splits[-1]))
        if (untrained := tested[~torch.isin(tested, trained)]).numel():
            remarks.setdefault(
                "untrained", f"class {int(untrained[0])} of task {name!r} has test samples but no training sample"
            )
    if classes is not None:
        counts = _given_counts(names, classes)
        for number, name in enumerate(names):
            if counts[number] == 1 and not target[task == number].any():
                raise ValueError(f"task {name!r} has a single class; give it another")
        return counts
    counts: list[int] = []
    gaps: list[str] = []
    for number, name in enumerate(names):
        targets = target[task == number]
        occurring = targets.unique().tolist()
        lowest, count = occurring[0], occurring[-1] + 1
        if count == 1:
            raise ValueError(f"task {name!r} has a single class; give it another, or say how many with classes=")
        if lowest:
            raise ValueError(
                f"targets of task {name!r} go from {lowest} to {count - 1}; classes count from 0: subtract {lowest}, "
                f"or say classes={{{name!r}: {count}}} if there are lower classes"
            )
        if count > len(targets):
            raise ValueError(
                f"targets of task {name!r} go up to {count - 1}, with {len(targets)} samples; number the classes from "
                f"0, pass regression=True for values to predict, or say classes={{{name!r}: {count}}}"
            )
        if len(occurring) < count:
            gaps.append(name)
        counts.append(count)
    if gaps:
        remarks["gaps"] = (
            f"some classes of {listed(gaps)} below the largest have no sample; number them without gaps, or say how "
            "many there are with classes="
        )
    return counts


def _given_counts(names: list[str], classes: Any) -> list[int]:
    if not isinstance(classes, Mapping):
        raise ValueError(f"classes is {classes!r}; it must be a mapping {{task name: number of classes}}")
    if set(classes) != set(names):
        raise ValueError(f"classes names the tasks {list(classes)}; the tasks are {names}")
    for name, count in classes.items():
        try:
            if isinstance(count, bool) or whole_number(count) < 1:
                raise TypeError
        except TypeError as error:
            raise ValueError(f"classes of task {name!r} is {count!r}; it must be a whole number from 1") from error
    return [whole_number(classes[name]) for name in names]
