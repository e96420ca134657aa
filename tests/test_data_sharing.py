"""Inputs that several tasks share: declared or not, and how they are cut."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from handed_in import RNG, ROWS, X, Y, expected, quietly, samples, silently, splits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from routing_env import MultiTaskData
from routing_env.data.overlap import number_by_content, number_by_hash


class Computed(Mapping[str, Any]):
    """Computes what it holds when asked."""

    def __init__(self, names: str, value: Callable[[int], Any]) -> None:
        self.names, self.value = names, value

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> Any:
        return self.value(self.names.index(name))


@pytest.mark.parametrize("reused", [False, True])
def test_tasks_that_are_computed_on_demand_keep_their_own_inputs(reused: bool) -> None:
    buffer = np.empty((50, 4), np.float32)

    def computed(task: int) -> tuple[Any, Any]:
        inputs = buffer if reused else np.empty((50, 4), np.float32)
        inputs[:] = np.arange(200).reshape(50, 4) + 1000 * task
        return inputs, (np.arange(50) + task) % 3

    made = silently(Computed("abcd", computed), test=Computed("abcd", lambda task: (X[:, :4] + task, Y)))
    assert len(made.inputs) == 4 * (50 + 60)
    for task in range(4):
        inputs, targets = computed(task)
        assert samples(made, task) == sorted(expected(inputs, targets) + expected(X[:, :4] + task, Y))


def test_a_mapping_that_hands_out_one_array_shares_it() -> None:
    shared = silently(Computed("ab", lambda task: (X, (Y + task) % 3)))
    assert shared.fingerprint == silently({"a": (X, Y), "b": (X, (Y + 1) % 3)}).fingerprint
    with pytest.raises(ValueError, match="task 'a' occurs twice"):
        MultiTaskData.from_arrays(Computed("aba", lambda task: (X, Y)))


@given(data=st.data(), seed=st.integers(0, 5), mask=st.booleans())
def test_rows_of_shared_inputs_are_cut_together(data: Any, seed: int, mask: bool) -> None:
    has = {name: data.draw(arrays.arrays(bool, 60, elements=st.booleans())) for name in "abc"}
    for chosen in has.values():
        chosen[:20] = True
    tasks = {
        name: (chosen if mask else RNG.permutation(chosen.nonzero()[0]), Y[chosen]) for name, chosen in has.items()
    }
    if not mask:
        tasks = {name: (rows, Y[rows]) for name, (rows, _) in tasks.items()}
    made = silently(inputs=X, tasks=tasks, seed=seed, test=0.3, validation=0.2)
    assert torch.equal(made.inputs, torch.from_numpy(X))
    used = [set(split.index.tolist()) for split in splits(made)]
    assert sum(map(len, used)) == len(set.union(*used))
    for task, chosen in enumerate(has.values()):
        assert samples(made, task) == expected(X[chosen], Y[chosen])


def test_rows_of_all_tasks_equal_one_array_for_all_tasks() -> None:
    one = silently({"a": (X, Y), "b": (X, Y % 2)}, seed=3)
    other = silently(inputs=X, tasks={"a": (ROWS, Y), "b": (ROWS > -1, Y % 2)}, seed=3)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("rows", "targets", "message"),
    [
        ((Y > 0).astype(int), Y, "hold row 1 40 times; give each row once. A mask must be of type bool"),
        (Y > 0, Y, "40 training inputs but 60 targets"),
        (ROWS[:50] > 3, Y[:46], "a mask of 50 values, 46 of them true; there are 60 inputs"),
        (ROWS < 0, [], "a mask of 60 values, 0 of them true"),
        (ROWS - 1, Y, "hold -1; the rows of the inputs are 0 to 59"),
        (ROWS + 1, Y, "hold 60; the rows"),
        (ROWS.astype(float), Y, "must be whole row numbers"),
        (X, Y, "must be whole row numbers"),
        ([], [], "must be whole row numbers"),
        (slice(None), Y, "Python objects"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(rows: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"task 'a'.* {message}"):
        MultiTaskData.from_arrays(inputs=X, tasks={"a": (rows, targets)})


def test_a_test_split_of_rows_that_train_the_same_task_is_refused() -> None:
    with pytest.raises(ValueError, match="60 of the 60 test rows of task 'a' are rows that train it"):
        MultiTaskData.from_arrays({"a": (X, Y)}, test={"a": (X, Y)})
    with pytest.raises(ValueError, match="60 of the 60 test rows of task 'b' are rows that train it"):
        quietly({"a": (X, Y), "b": (X + 1, Y)}, test={"a": (X + 2, Y), "b": (X + 1, Y)})
    with pytest.raises(ValueError, match="5 of the 20 test rows of task 'a' are rows that train it"):
        MultiTaskData.from_arrays(inputs=X, tasks={"a": (ROWS[:45], Y[:45])}, test={"a": (ROWS[40:], Y[40:])})
    made = silently(inputs=X, tasks={"a": (ROWS[:40], Y[:40])}, test={"a": (ROWS[40:], Y[40:])})
    assert sorted(made.test.index.tolist()) == list(range(40, 60))


@given(
    targets=st.lists(arrays.arrays(np.int64, st.just(25), elements=st.integers(0, 5)), min_size=1, max_size=3),
    shared=st.booleans(),
    seed=st.integers(0, 3),
    share=st.sampled_from([0.1, 0.3, 0.6]),
)
def test_no_cut_takes_the_last_training_sample_of_a_class(
    targets: list[Any], shared: bool, seed: int, share: float
) -> None:
    inputs = np.arange(50.0).reshape(25, 2)
    classes = {f"task {i}": 6 for i in range(len(targets))}
    tasks = {f"task {i}": (inputs if shared else inputs + 100 * i, target) for i, target in enumerate(targets)}
    try:
        made = quietly(tasks, seed=seed, test=share, validation=share, classes=classes)
    except ValueError as error:
        assert "without" in str(error)  # refused by name: a task without test or validation samples  # noqa: PT017
        return
    for task, target in enumerate(targets):
        assert set(made.train.target[made.train.task == task].tolist()) == set(target.tolist())


@given(rows=arrays.arrays(np.uint8, (12, 5), elements=st.integers(0, 1)), kinds=st.integers(1, 4), bits=st.booleans())
def test_equal_rows_have_equal_numbers_whatever_their_hash(rows: Any, kinds: int, bits: bool) -> None:
    inputs = torch.from_numpy(rows)
    poor = inputs.to(torch.int64).sum(1) % kinds
    inputs = torch.where(inputs == 0, 0.0, -0.0) if bits else inputs  # stored bits count, not values
    alike = (rows[:, None] == rows).all(-1)
    for number in (number_by_content(inputs), number_by_hash(torch.from_numpy(rows), poor)):
        assert np.array_equal(number[:, None] == number, alike)


def test_inputs_that_are_not_copied_are_those_given(tmp_path: Any) -> None:
    file = np.memmap(tmp_path / "inputs", np.float32, "w+", shape=X.shape)
    file[:] = X
    tasks = {"a": (np.arange(60), Y), "b": (np.arange(30), Y[:30])}
    copied = silently(tasks, inputs=X)
    for mine in (X, np.memmap(tmp_path / "inputs", np.float32, "r", shape=X.shape), torch.from_numpy(X)):
        shared = silently(tasks, inputs=mine, copy=False)
        start = mine.data_ptr() if isinstance(mine, torch.Tensor) else mine.ctypes.data
        assert shared.inputs.data_ptr() == start
        assert shared.fingerprint == copied.fingerprint
        for split, other in zip(splits(shared), splits(copied), strict=True):
            assert torch.equal(split.index, other.index)
    assert silently({"a": (X, Y), "b": (X, (Y + 1) % 3)}, copy=False).inputs.data_ptr() == X.ctypes.data


@pytest.mark.parametrize(
    ("tasks", "arguments", "words"),
    [
        ({"a": (X.astype(np.float64), Y)}, {}, "are float64; pass .astype"),
        ({"a": (X[::-1], Y)}, {}, "are not contiguous in memory; pass np.ascontiguousarray"),
        ({"a": (X.tolist(), Y)}, {}, "are in an object that NumPy makes an array of; pass the array"),
        ({"a": (np.full_like(X, np.nan), Y)}, {}, "hold NaN or infinity, first in row 0"),
        ({"a": (X, Y), "b": (X.copy(), Y)}, {}, "inputs of task 'b' are another array than those of 'a'"),
        (Computed("ab", lambda task: (X, Y)), {}, "come from a mapping that may compute them anew"),
        ({"a": (np.arange(60), Y)}, {"inputs": X[:, ::2]}, "inputs are not contiguous"),
    ],
)
def test_inputs_that_cannot_be_shared_are_refused(tasks: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultiTaskData.from_arrays(tasks, copy=False, **arguments)
