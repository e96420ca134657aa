"""The text files of a run as they are read: ``config.json``, which tells if it was changed, and rows of metrics.

A damaged file, or one that somebody has edited, is refused by name; nothing in it reaches anybody unchecked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, cast

from routing_env.checkpoint import DamagedError, json_digest

BESIDE_SETTINGS = ("recorded", "versions", "fingerprint", "sources")
"""What else is in ``config.json``; it is written when the run begins and stays as it is."""

MAY_CHANGE = ("epochs", "device", "data_dir")
"""Settings with which a run may go on that differ from those that it began with."""

DIGEST = "digest"
"""Name of the digest in ``config.json``, over everything else in it."""

_AGAIN = "restore the file, or start a new run"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``config.json`` with the digest that belongs to it."""
    others = json.loads(json.dumps({name: value for name, value in content.items() if name != DIGEST}))
    return {**others, DIGEST: json_digest(others)}


def read_sealed(path: Path) -> dict[str, Any]:
    """The content of a ``config.json`` without its digest.

    Raises:
        DamagedError: The file is not JSON, has been changed since it was written, or lacks something.
        FileNotFoundError: There is none.
    """
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(path, f"is damaged: {error}", _AGAIN) from error
    if not isinstance(content, dict):
        raise DamagedError(path, f"is damaged: {shortened(content)} is not a JSON object", _AGAIN)
    found = cast(dict[str, Any], content)
    mark = found.pop(DIGEST, None)
    if mark is None:
        raise DamagedError(path, f"is damaged or of another version: it has no {DIGEST!r}", _AGAIN)
    if json_digest(found) != mark:
        raise DamagedError(
            path,
            "is not as it was written: its content does not match its digest",
            f"a run keeps its settings; {_AGAIN} with the settings that you want",
        )
    for name in BESIDE_SETTINGS:
        if name not in found or not _FITS[name](found[name]):
            wrong = f"{name} is {shortened(found[name])}" if name in found else f"{name} is missing"
            raise DamagedError(path, f"is damaged or of another version: {wrong}", _AGAIN)
    return found


def lasting(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the content of a ``config.json`` that stay as they are for as long as the run lives."""
    others = (*BESIDE_SETTINGS, *MAY_CHANGE, "game")
    game: dict[str, Any] = content.get("game", {})
    own = {name: value for name, value in content.items() if name not in others}
    return own | {name: value for name, value in game.items() if name not in MAY_CHANGE}


def row_of(line: str) -> dict[str, Any]:
    """A row of metrics from its line.

    Raises:
        JSONDecodeError: The line is not JSON, as one that a crash has cut.
        ValueError: It is not an object of measures, or a measure has the wrong type or is out of range; the message
            names it and its value.
    """
    row = _parsed(line)
    if not isinstance(row, dict):
        raise ValueError(f"{shortened(row)} is not a JSON object")
    measures = cast(dict[str, Any], row)
    if "epoch" not in measures:
        raise ValueError("epoch is missing")
    for name, value in measures.items():
        fits, wanted = next((fits, wanted) for pattern, fits, wanted in _MEASURES if re.fullmatch(pattern, name))
        if not fits(value):
            raise ValueError(f"{name} is {shortened(value)}; it must be {wanted}")
    return measures


def shortened(value: object) -> str:
    """A value in writing, cut where it is long or deep."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def _parsed(text: str) -> Any:
    """JSON in the strict sense, and no deeper than Python can read.

    Raises:
        ValueError: It is not.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def _is_texts(value: object, names: tuple[str, ...] = ()) -> bool:
    """Whether something is an object of strings, with these names at least."""
    if not isinstance(value, dict):
        return False
    entries = cast(dict[str, Any], value)
    return all(isinstance(entry, str) for entry in entries.values()) and set(names) <= entries.keys()


def _is_sources(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_texts(source, ("path", "copy", "sha256")) for source in cast(dict[str, Any], value).values()
    )


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "recorded": lambda value: isinstance(value, bool),
    "versions": _is_texts,
    "fingerprint": _is_texts,
    "sources": _is_sources,
}


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _is_finite(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(cast(float, value))
    except OverflowError:  # an integer beyond the floating-point numbers
        return False


def _is_share(value: object) -> bool:
    return _is_finite(value) and -1e-9 <= cast(float, value) <= 1 + 1e-9  # rounding


def _all(fits: Callable[[Any], bool], depth: int = 1) -> Callable[[Any], bool]:
    """For lists of lists, to some depth, whether all that is in them fits."""
    inner = fits if depth == 1 else _all(fits, depth - 1)
    return lambda value: isinstance(value, list) and all(map(inner, cast(list[Any], value)))


_MEASURES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("router_.*", lambda value: value is None or _is_finite(value), "a finite number or null"),  # whatever it says
    ("epoch|stage", lambda value: _is_count(value, 1), "an integer of at least 1"),
    ("samples|parameters", _is_count, "an integer of at least 0"),
    ("seconds", lambda value: _is_finite(value) and value >= 0, "a finite number of at least 0"),
    (".*_routes", _all(_is_count, depth=3), "a list for each task, depth and action of integers of at least 0"),
    (".*_task(_balanced)?_accuracy", lambda value: value != [] and _all(_is_share)(value), "numbers in [0, 1]"),
    (".*_accuracy", lambda value: value is None or _is_share(value), "a number in [0, 1] or null"),
    ("route_overlap|collapse_.*", lambda value: value is None or _is_share(value), "a number in [0, 1] or null"),
    (".*", lambda value: value is None or _is_finite(value), "a finite number or null"),
)
"""What measures of a row must be, by patterns of their names, of which the first one counts."""
