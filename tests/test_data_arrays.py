"""Whatever enters through ``from_arrays`` is read exactly, refused by name, or warned about."""

import re
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from handed_in import RNG, ROWS, X, Y, expected, quietly, samples, silently
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from routing_env import MultiTaskData

# What is usable comes out as it went in

EXACT = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float16, np.float32, ">u2", ">i4", ">f4", ">f8", np.int64]


@given(
    data=st.data(),
    kind=st.sampled_from(EXACT),
    shape=st.sampled_from([(3,), (2, 4), (1, 5, 6), (2, 1, 2, 2)]),
    tensor=st.booleans(),
)
def test_every_type_of_number_is_stored_exactly(data: Any, kind: Any, shape: tuple[int, ...], tensor: bool) -> None:
    elements = arrays.from_dtype(np.dtype(kind))
    if np.dtype(kind).kind == "f":
        elements = st.floats(width=16, allow_nan=False, allow_infinity=False)
    elif np.dtype(kind).itemsize > 2:
        elements = st.integers(-(2**24), 2**24)
    values = data.draw(arrays.arrays(np.dtype(kind), (12, *shape), elements=elements))
    handed = torch.from_numpy(values) if tensor and values.dtype.isnative else values
    made = quietly({"a": (handed, np.arange(12) % 2), "b": (handed, np.arange(12) % 3)}, test=0.3, validation=0.2)
    assert made.inputs.dtype == (torch.uint8 if values.dtype == np.uint8 else torch.float32)
    assert len(made.inputs) == 12
    assert samples(made, 0) == expected(values, np.arange(12) % 2)
    assert samples(made, 1) == expected(values, np.arange(12) % 3)


@pytest.mark.parametrize(
    "form",
    [
        X.tolist(),
        np.asfortranarray(X),
        X[::-1][::-1],
        np.lib.stride_tricks.as_strided(X, writeable=False),
        np.ma.array(X),
        X.astype(np.longdouble),
        torch.from_numpy(X).requires_grad_(),
        torch.complex(torch.zeros(60, 5), -torch.from_numpy(X)).conj().imag,  # a negated view
        list(torch.from_numpy(X)),
    ],
)
def test_forms_of_one_array_make_the_same_data(form: Any) -> None:
    assert silently({"a": (form, Y)}).fingerprint == silently({"a": (X, Y)}).fingerprint


@pytest.mark.parametrize(
    "form", [Y.tolist(), torch.from_numpy(Y), Y.astype(">i8"), Y.astype(np.uint64), list(torch.from_numpy(Y)), tuple(Y)]
)
def test_forms_of_one_list_of_labels_make_the_same_data(form: Any) -> None:
    assert silently({"a": (X, form)}).fingerprint == silently({"a": (X, Y)}).fingerprint


def test_later_changes_of_the_arrays_change_nothing() -> None:
    for inputs, targets in ((X.copy(), Y.copy()), (X.astype(np.uint8), Y.copy())):
        for handed, labels in ((inputs, targets), (torch.from_numpy(inputs), torch.from_numpy(targets))):
            made = quietly({"a": (handed, labels)})
            before = made.inputs.clone(), made.train.target.clone()
            inputs += 1
            targets[:] = 0
            assert torch.equal(made.inputs, before[0])
            assert torch.equal(made.train.target, before[1])
            targets[:] = Y


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_without_a_channel_axis_are_images_of_one_channel(kind: Any) -> None:
    images = RNG.integers(0, 256, (40, 9, 8)).astype(kind)
    one, other = (quietly({"a": (form, ROWS[:40] % 2)}) for form in (images, images[:, None]))
    assert one.input_shape == other.input_shape == (1, 9, 8)
    assert one.fingerprint == other.fingerprint
    assert torch.equal(one.mean, other.mean)


def test_whole_floating_point_targets_can_be_said_to_be_classes() -> None:
    plain = silently({"a": (X, Y)})
    for kind in (np.float16, np.float32, np.float64):
        assert silently({"a": (X, Y.astype(kind))}, regression=False).fingerprint == plain.fingerprint
        assert silently({"a": (X, Y.astype(kind))}, classes={"a": 3}).fingerprint == plain.fingerprint
    assert silently({"a": (X, Y)}, regression=True).classes is None
    values = np.linspace(0, 1, 60)
    assert silently({"a": (X[:40], values[:40])}, test={"a": (X[40:], Y[40:])}).classes is None


# What is not usable is refused, with the task and the remedy


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X + 1j, "complex numbers; pass the real and the imaginary part"),
        (torch.from_numpy(X + 1j).conj(), "complex numbers; pass the real and the imaginary part"),
        (X.astype(object), r"Python objects.*\.astype\(float\)"),
        ([[Decimal(1), None]] * 60, "Python objects"),
        (X.astype(str), "strings; encode them"),
        (np.arange(60).astype("M8[D]")[:, None], "dates; pass numbers"),
        (np.arange(60).astype("m8[s]")[:, None], "durations; pass numbers"),
        (np.zeros(60, [("x", "f4")]), "records; pass one array"),
        (np.ma.masked_greater(X, 2), "6 masked values; fill them"),
        (torch.from_numpy(X).to_sparse(), r"sparse_coo; pass \.to_dense\(\)"),
        (torch.from_numpy(X).to_sparse_csc(), r"sparse_csc; pass \.to_dense\(\)"),
        (torch.zeros(60, 5, device="meta"), "without values"),
        ([[1, 2], [3]] * 30, "cannot be read as an array of numbers"),
        (list(torch.from_numpy(X).requires_grad_()), r"cannot be read as an array of numbers.*detach"),
        ({1.0, 2.0}, "not numbers but Python objects"),
        (None, "not numbers but Python objects"),
        (3.0, r"shape \[\]"),
        (X[:, 0], r"shape \[60\].*a single feature is \[samples, 1\]"),
        (X[:, :0], r"shape \[60, 0\]"),
        (X.astype(np.float64) * 1e40, "too large for float32; rescale"),
        (np.sign(X) * np.float32(3e38), "too large for float32; rescale"),
        (np.full((60, 2), -np.inf, np.float16), "NaN or infinity, first in row 0"),
    ],
)
def test_inputs_that_cannot_be_stored_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"inputs of task 'second' .*{message}"):
        MultiTaskData.from_arrays({"first": (X, Y), "second": (inputs, Y)})
    if inputs is not None:
        with pytest.raises(ValueError, match=f"inputs .*{message}"):
            MultiTaskData.from_arrays(inputs=inputs, tasks={"a": (ROWS, Y)})


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.eye(3, dtype=int)[Y], r"one-hot classes as \.argmax\(1\)"),
        (Y[:, None], r"flatten them with \.ravel\(\)"),
        (Y.astype(object), "Python objects"),
        (np.array(["no", "yes"])[Y % 2], "strings"),
        (Y + 0j, "complex numbers"),
        (np.ma.masked_equal(Y, 1), "20 masked values"),
        (np.where(Y == 2, -100, Y), r"hold -100.*Leave out samples without a target.*inputs=X"),
        (np.where(Y == 2, np.nan, Y), r"hold NaN.*Leave out samples without a target.*inputs=X"),
        (np.full(60, 2**64 - 1, np.uint64), "hold 18446744073709551615; classes count from 0"),
        (Y + 1, r"go from 1 to 3; classes count from 0: subtract 1, or say classes=\{'second': 4\}"),
        (Y * 10**9, "go up to 2000000000|hold 2000000000"),
        ((Y > 1) * 255, r"go up to 255, with 60 samples.*regression=True.*classes=\{'second': 256\}"),
        (Y * 0 + 4, "go from 4 to 4"),
        (Y * 0, "has a single class"),
        (1, r"shape \[\]"),
        (np.zeros((60, 2, 2)), r"shape \[60, 2, 2\]"),
        (np.zeros((60, 0)), r"shape \[60, 0\]"),
        (np.zeros(0), "60 training inputs but 0 targets"),
        (X[:, 0].astype(np.float64) * 1e39, "too large for float32"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"task 'second'.*{message}"):
        MultiTaskData.from_arrays({"first": (X, Y), "second": (X, targets)})


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([("a", X, Y)], "tasks is a list of 1; it must be a mapping"),
        ((X, Y), "tasks is a tuple of 2; it must be a mapping"),
        (None, "tasks is a NoneType; it must be a mapping"),
        ({"a": {"x": X, "y": Y}}, r"training of task 'a' is a dict of 2; it must be a tuple \(inputs, targets\)"),
        ({"a": (X, Y, Y)}, "training of task 'a' is a tuple of 3"),
        ({"a": None}, "training of task 'a' is a NoneType"),
        ({"a": torch.tensor(3)}, "training of task 'a' is a Tensor"),
        ({"a": np.zeros((2, 60))}, "training of task 'a' is a ndarray; it must be a tuple"),
        ({3: (X, Y)}, "a task's name is 3; it must be a string"),
        ({"1": (X, Y), 1: (X, Y)}, "a task's name is 1; it must be a string"),
        ({" ": (X, Y)}, "a task's name is ' '; it must be a string that is not empty"),
        ({"\ud800": (X, Y)}, r"a task's name is '\\ud800', which no file can hold"),
    ],
)
def test_wrong_containers_and_names_are_refused(tasks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiTaskData.from_arrays(tasks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 3}, "classes is 3; it must be a mapping"),
        ({"classes": {"a": 3.0}}, r"classes of task 'a' is 3\.0; it must be a whole number"),
        ({"classes": {"a": True}}, "classes of task 'a' is True"),
        ({"classes": {"a": 0}}, "classes of task 'a' is 0"),
        ({"classes": {"a": 3}, "regression": True}, "classes is given with regression=True"),
        ({"regression": "no"}, "regression is 'no'"),
        ({"validation": "0.1"}, "validation is '0.1'"),
        ({"validation": None}, "validation is None"),
        ({"test": None}, "test is None; it must be a share"),
        ({"test": "0.2"}, "test is '0.2'"),
        ({"test": np.nan}, "test is nan"),
        ({"test": True}, "test is True"),
        ({"test": {}}, r"test has the tasks \[\]"),
        ({"seed": 1.5}, r"seed is 1\.5; it must be a whole number of at least 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": None}, "seed is None"),
        ({"name": ""}, "name is ''"),
        ({"name": "mnist"}, "name is 'mnist', which is a data set of this package; give yours another name"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiTaskData.from_arrays({"a": (X, Y)}, **options)


# What is suspicious is said once, where it was called


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ({"a": (np.zeros((60, 16, 12, 1), np.uint8) + Y[:, None, None, None], Y)}, {}, "of 16 channels; .*transpose"),
        ({"a": (RNG.random((60, 64, 48, 4)), Y)}, {}, "of 64 channels; .*permute"),
        ({"a": (RNG.random((60, 9, 9, 7)), Y)}, {}, "of 9 channels"),
        ({"a": (RNG.random((60, 12, 5)), Y)}, {}, "taken for images .* of one channel"),
        ({"a": (np.where(X > 1, 2**24 + 1, 0).astype(np.int64), Y)}, {}, "hold 16777217.*float32"),
        ({"a": (1.7e9 + np.arange(300.0).reshape(60, 5), Y)}, {}, "feature 0 goes from .*float32"),
        ({"a": (X.astype(np.float64) * 1e-50, Y)}, {}, "lose precision as float32"),
        ({"a": (X, 1e9 + ROWS / 2)}, {}, "targets of task 'a' lose precision"),
        ({"a": (X, Y.astype(float))}, {}, "regression=True if they are, regression=False if they are classes"),
        ({"a": (X, np.eye(3)[Y])}, {}, "regression=True if they are, regression=False if they are classes"),
        ({"a": (X, Y * 2)}, {}, "some classes of 'a' below the largest have no sample"),
        ({"a": (X[:40], Y[:40] % 2)}, {"test": {"a": (X[40:], Y[40:])}}, "class 2 of task 'a' has test samples but"),
        ({"a": (X, Y)}, {"test": {"a": (X[7:8].copy(), Y[7:8])}}, "1 of the 1 test samples of task 'a' have inputs"),
        ({"a": (X, Y)}, {"test": {"a": (X[::-1], Y[::-1])}}, "60 of the 60 test samples of task 'a' have inputs"),
        ({"a": (np.tile(X[:20], (3, 1)), Y)}, {}, "of the 12 test samples of task 'a' have inputs"),
        ({"a": (X, Y), "b": (X.copy(), Y)}, {}, "of the 24 test samples have inputs that train another task"),
        (
            {"a": (X[:30], Y[:30]), "b": (X[30:], Y[30:])},
            {"test": {"a": (X[30:], Y[30:]), "b": (X[:30], Y[:30])}},
            r"60 of the 60 test samples .* \(30 of task 'a', 30 of task 'b'\)",
        ),
        (
            {"a": (X, Y), "b": (X.copy(), Y)},
            {"test": {"a": (X + 9, Y), "b": (X + 8, Y)}},
            "of the 12 validation samples have inputs that train another task",
        ),
    ],
)
def test_suspicious_arrays_are_warned_about_where_they_were_given(tasks: Any, options: Any, message: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        MultiTaskData.from_arrays(tasks, **options)
    assert len([warning for warning in said if re.search(message, str(warning.message))]) == 1
    assert {warning.filename for warning in said} == {__file__}


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 28, 28), (4, 84, 84), (16, 8, 8), (8, 8, 8), (64, 1, 1), (3, 64, 48), (2, 3, 4, 4)]
)
def test_images_with_the_channels_first_raise_no_warning(shape: tuple[int, ...]) -> None:
    assert silently({"a": (RNG.random((60, *shape)), Y)}).input_shape == shape


# Whatever is set for the whole process


def test_settings_of_the_process_change_nothing() -> None:
    plain = silently({"a": (X, Y), "b": (X, Y % 2)}).fingerprint
    before = np.seterr(all="raise")
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        assert silently({"a": (X, Y), "b": (X, Y % 2)}).fingerprint == plain
        with pytest.raises(ValueError, match="too large for float32"):
            MultiTaskData.from_arrays({"a": (X.astype(np.float64) * 1e40, Y)})
    finally:
        np.seterr(**before)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    with torch.inference_mode():
        assert silently({"a": (X, Y), "b": (X, Y % 2)}).fingerprint == plain
