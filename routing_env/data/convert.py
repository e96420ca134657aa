"""Reads arrays of users exactly, or refuses them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Remarks = dict[str, str]
"""Remarks about what is usable but suspicious, by kind: many tasks with the same problem make one remark."""

_ROWS_AT_ONCE = 1024
_EXACT = 2**24
"""float32 holds every whole number up to here."""
_LARGEST = float(np.finfo(np.float32).max) / 2
"""Differences of larger values are beyond float32."""
_MERGED = 1e-3
"""Rounding by more than this share of a feature's range is worth a warning."""
_LEAVE_OUT = "Leave out samples without a target, for instance by from_arrays(inputs=X, tasks={name: (rows, targets)})"
_KINDS = {
    "O": "Python objects, as missing values, mixed types and sparse matrices become; pass an array of numbers, for "
    "instance by .astype(float) or .toarray()",
    "U": "strings; encode them as numbers",
    "S": "bytes; encode them as numbers",
    "c": "complex numbers; pass the real and the imaginary part as two features",
    "M": "dates; pass numbers, such as days since a first one",
    "m": "durations; pass numbers, such as seconds",
    "V": "records; pass one array of numbers",
}


def listed(names: Sequence[str]) -> str:
    """Names for a message: quoted, and at most three of them."""
    shown = [repr(name) for name in names[:3]]
    if len(names) > 3:
        return f"{', '.join(shown)} and {len(names) - 3} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def to_inputs(values: Any, label: str, remarks: Remarks, *, copy: bool = True) -> Tensor:
    """Read inputs.

    Args:
        values: [N, *input shape]; images [N, H, W] get a channel axis.
        label: what the values are, for messages.
        remarks: receives a remark about values that are usable but suspicious.
        copy: False shares the memory of the values.

    Returns:
        uint8 or finite float32 [N, *input shape].

    Raises:
        ValueError: The values are not an array of real, finite numbers with at least one row and one feature, or their
            memory cannot be shared.
    """
    array = _numbers(values, label)
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"{label} have shape {list(array.shape)}; it must be [samples, ...] without a 0"
            + ("; a single feature is [samples, 1]" if array.ndim == 1 else "")
        )
    if array.ndim == 3:
        if array.dtype != np.uint8:
            remarks.setdefault(
                "no channel axis",
                f"{label} have shape {list(array.shape)} and are taken for images [samples, H, W] of one channel; "
                "insert the channel axis to say so, [samples, 1, H, W]",
            )
        array = array[:, None]
    elif array.ndim == 4:
        _, first, second, last = array.shape
        if last < first and (last <= 4 < min(first, second) or first == second):
            remarks.setdefault(
                "channels last",
                f"{label} have shape {list(array.shape)} and are taken for images [samples, C, H, W] of {first} "
                f"channels; if the channels are last, move them: inputs.transpose(0, 3, 1, 2) of NumPy, "
                "inputs.permute(0, 3, 1, 2) of torch",
            )
    if not copy:
        return _shared(array, label, isinstance(values, np.ndarray | Tensor))
    if array.dtype != np.uint8:
        return torch.from_numpy(_to_float32(array, label, remarks))
    return torch.from_numpy(np.array(array, order="C"))


def to_targets(values: Any, label: str, regression: bool | None, remarks: Remarks) -> Tensor:
    """Read targets.

    Args:
        values: [N] classes, or [N] or [N, O] for regression.
        label: what the values are, for messages.
        regression: whether the targets are values to predict; None decides by their type.
        remarks: receives a remark about values that are usable but suspicious.

    Returns:
        int64 [N] or finite float32 [N, O], always a copy.

    Raises:
        ValueError: The values are not an array of real, finite numbers, or are not classes although they must be.
    """
    array = _numbers(values, label)
    if regression or (regression is None and array.dtype.kind == "f"):
        if array.ndim not in (1, 2) or 0 in array.shape[1:]:
            raise ValueError(f"{label} have shape {list(array.shape)}; it must be [samples] or [samples, outputs]")
        if regression is None and array.dtype.kind == "f" and (array == np.floor(array)).all():
            remarks.setdefault(
                "whole numbers",
                f"{label} are whole numbers of a floating-point type and are taken for values to predict; say "
                "regression=True if they are, regression=False if they are classes",
            )
        values = _to_float32(array if array.ndim == 2 else array[:, None], label, remarks, _LEAVE_OUT)
        return torch.from_numpy(values)
    if array.ndim != 1:
        remedy = ""
        if array.ndim == 2:
            remedy = (
                "; flatten them with .ravel()"
                if array.shape[1] == 1
                else "; pass one-hot classes as .argmax(1), and several labels of a sample as one task each"
            )
        raise ValueError(f"{label} have shape {list(array.shape)}; classes must be of shape [samples]{remedy}")
    if array.dtype.kind == "f":
        _refuse_infinite(array[:, None], label, _LEAVE_OUT)
        if (strange := array[array != np.floor(array)]).size:
            raise ValueError(f"{label} hold {strange[0]:g}; classes are whole numbers that count from 0")
        array = array.astype(np.float64)
    if array.size and (array.min() < 0 or array.max() >= 2**31):
        strange = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"{label} hold {int(strange)}; classes count from 0. {_LEAVE_OUT}")
    return torch.from_numpy(array.astype(np.int64))


def to_rows(values: Any, size: int, label: str) -> Tensor:
    """Read row numbers.

    Args:
        values: whole numbers from 0 to ``size`` - 1, each at most once, or a boolean mask [``size``].
        size: number of rows of the inputs.
        label: what the values are, for messages.

    Returns:
        int64 [N].

    Raises:
        ValueError: The values are neither.
    """
    array = _numbers(values, label)
    if array.ndim != 1 or not array.size or array.dtype.kind == "f":
        raise ValueError(
            f"{label} are {array.dtype} of shape {list(array.shape)}; with inputs= they must be whole row numbers "
            "[samples], or a boolean mask over the inputs"
        )
    if array.dtype == np.bool_:
        if len(array) != size or not array.any():
            raise ValueError(
                f"{label} are a mask of {len(array)} values, {array.sum()} of them true; there are {size} inputs"
            )
        return torch.from_numpy(array.nonzero()[0])
    if array.min() < 0 or array.max() >= size:
        strange = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"{label} hold {int(strange)}; the rows of the inputs are 0 to {size - 1}")
    rows, counts = np.unique(array, return_counts=True)
    if len(rows) != len(array):
        raise ValueError(
            f"{label} hold row {int(rows[counts.argmax()])} {counts.max()} times; give each row once. A mask must be "
            "of type bool"
        )
    return torch.from_numpy(array.astype(np.int64))


def _numbers(values: Any, label: str) -> Array:
    """Real numbers in native byte order; may share memory with the values."""
    if isinstance(values, Tensor):
        values = _strided(values, label)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        masked = int(np.ma.getmaskarray(values).sum())
        raise ValueError(f"{label} have {masked} masked values; fill them, or leave their samples out")
    try:
        if not isinstance(values, np.ndarray) and hasattr(values, "to_numpy"):  # pandas: nullable types become plain
            values = values.to_numpy()
        array = np.asarray(values)
    except Exception as error:  # an array-like of another library may raise anything
        raise ValueError(f"{label} cannot be read as an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{label} are not numbers but {_KINDS.get(array.dtype.kind, str(array.dtype))}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(all="ignore"):
            array = array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _strided(tensor: Tensor, label: str) -> Array | Tensor:
    """The values of an ordinary tensor of real numbers."""
    remedies = (
        (tensor.is_nested, "a nested tensor", "samples of one shape"),
        (tensor.layout != torch.strided, f"a tensor of layout {tensor.layout}", ".to_dense()"),
        (tensor.is_quantized, "a quantised tensor", ".dequantize()"),
        (tensor.is_meta, "a tensor without values, on the device 'meta'", "its values"),
        (tensor.is_complex(), "complex numbers", "the real and the imaginary part as two features"),
    )
    for strange, what, remedy in remedies:
        if strange:
            raise ValueError(f"{label} are {what}; pass {remedy}")
    tensor = tensor.detach().cpu().resolve_neg()
    narrow = tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
    return (tensor.to(torch.float32) if narrow else tensor).numpy()


def _shared(array: Array, label: str, given: bool) -> Tensor:
    """The same memory as a tensor, if it can be used as it is."""
    strange = (
        (not given, "in an object that NumPy makes an array of; pass the array"),
        (array.dtype != np.uint8 and array.dtype != np.float32, f"{array.dtype}; pass .astype(np.float32)"),
        (not array.flags.c_contiguous, "not contiguous in memory; pass np.ascontiguousarray of them"),
    )
    for refused, what in strange:
        if refused:
            raise ValueError(f"{label} are {what}, or leave copy=False out: only uint8 and float32 are stored as given")
    _check_range(array, label, "Remove or replace them")
    with warnings.catch_warnings():  # about arrays that are read-only, which suits: inputs are never written to
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _to_float32(
    array: Array, label: str, remarks: Remarks, remedy: str = "Remove or replace them"
) -> npt.NDArray[np.float32]:
    """Convert to a finite float32 copy of the same shape, with a remark if distinct values become equal."""
    if not array.size:
        return array.astype(np.float32)
    _check_range(array, label, remedy)
    with np.errstate(all="ignore"):
        narrow = np.array(array, np.float32, order="C")
    if array.dtype.kind in "iu" and max(int(array.max()), -int(array.min())) > _EXACT:
        first = next(part[beyond][0] for part in _parts(array) if (beyond := (part > _EXACT) | (part < -_EXACT)).any())
        remarks.setdefault(
            "precision",
            f"{label} hold {first}; they are stored as float32, which holds whole numbers exactly only up to {_EXACT}. "
            "Subtract an offset or rescale them, and pass float32 to say that it is meant",
        )
    elif array.dtype == np.float64:
        pairs = zip(_parts(array), _parts(narrow), strict=True)
        rounding = np.max([np.abs(exact - rounded).max(0) for exact, rounded in pairs], axis=0)
        low, high = array.min(0).ravel(), array.max(0).ravel()
        if (merged := (high > low) & (rounding > _MERGED * (high - low))).any():
            feature = int(merged.argmax())
            remarks.setdefault(
                "precision",
                f"{label} lose precision as float32: feature {feature} goes from {low[feature]:g} to "
                f"{high[feature]:g}, rounded by up to {rounding[feature]:.2g}. Subtract an offset or rescale it, and "
                "pass float32 to say that it is meant",
            )
    return narrow


def _check_range(array: Array, label: str, remedy: str) -> None:
    """Refuse what float32 does not hold."""
    _refuse_infinite(array, label, remedy)
    if max(float(array.max()), -float(array.min())) > _LARGEST:
        raise ValueError(f"{label} hold values beyond {_LARGEST:.1e}, too large for float32; rescale them")


def _refuse_infinite(array: Array, label: str, remedy: str) -> None:
    for number, part in enumerate(_parts(array) if array.dtype.kind == "f" else ()):
        if not (finite := np.isfinite(part).all(1)).all():
            row = number * _ROWS_AT_ONCE + int(finite.argmin())
            raise ValueError(f"{label} hold NaN or infinity, first in row {row}. {remedy}")


def _parts(array: Array) -> Iterator[Array]:
    """The rows [N, F], some at a time, so that what is computed of them stays small."""
    for start in range(0, len(array), _ROWS_AT_ONCE):
        part = array[start : start + _ROWS_AT_ONCE]
        yield part.reshape(len(part), -1)
