"""Looking things up by name, with help for those who mistype."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A clause that names the nearest known name, or all of them."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def printable(text: str) -> str:
    """The text, with control characters and whatever else cannot be shown spelt out: an escape character as x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry of that name.

    Raises:
        ValueError: unknown, with the nearest known name.
    """
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; {suggestion(name, known)}")
    return known[name]


def import_object(reference: str) -> Any:
    """What ``package.module:Name`` or ``path/to/file.py:Name`` refers to.

    Raises:
        ValueError: no such file, module or name in it, or a module that does not import.
    """
    module_name, _, attribute = reference.rpartition(":")
    if not module_name or not attribute:
        raise ValueError(f"{reference!r} is not of the form module:Name or file.py:Name")
    try:
        if module_name.endswith(".py"):
            module = _import_file(Path(module_name))
        else:
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"cannot import {module_name!r} of {reference!r}: {error}") from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ValueError(f"{module_name} has no {attribute!r}; {suggestion(attribute, public)}")
    return getattr(module, attribute)


def source_file(reference: str) -> Path | None:
    """The Python file that such a reference names, without running it; None where there is none."""
    module_name = reference.rpartition(":")[0]
    if module_name.endswith(".py"):
        return Path(module_name) if Path(module_name).is_file() else None
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None and spec.has_location else None


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give the path of a Python file before the colon")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
