"""Looking things up by name, with help for misspelt names, and reading the options of what was found."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from operator import index
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, TypeVar, cast

T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the closest match, or lists all known names if none is close."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def printable(text: str) -> str:
    """The text, with control characters and whatever else cannot be shown spelt out: an escape character as x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_LONGEST_FILE_NAME = 50
"""In bytes. File systems take 255, but people read these names, and others append to them."""


def file_name(text: str) -> str:
    """A name for a file or folder made from any text: one path component, with what file systems mind replaced by "-".

    A name that is too long is cut and ends with a digest of the whole.
    """
    name = re.sub(r"[^\w.]+", "-", text).strip("-.") or "unnamed"
    if len(name.encode()) <= _LONGEST_FILE_NAME:
        return name
    cut = name.encode()[:_LONGEST_FILE_NAME].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def by_number(name: str) -> tuple[tuple[bool, int, str], ...]:
    """A key that sorts names by the numbers in them, so that run-10 comes after run-9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry with that name.

    Raises:
        ValueError: Unknown name; the message suggests the closest match.
    """
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; {suggestion(name, known)}")
    return known[name]


def find(kind: str, given: object, known: Mapping[str, object]) -> Any:
    """The object that is meant by a name, by a reference, or by the object itself.

    Args:
        kind: What is looked for, as error messages call it.
        given: A key of ``known``, a reference ``module:Name`` or ``file.py:Name``, or the object itself.
        known: Objects, or references to them, by name.

    Raises:
        ValueError: Unknown name, or a reference that leads nowhere.
    """
    if isinstance(given, str) and ":" not in given:
        given = look_up(kind, given, known)
    return import_object(given) if isinstance(given, str) else given


def find_class(kind: str, given: str | type[T], known: Mapping[str, object], base: type[T]) -> type[T]:
    """As :func:`find`, for a concrete subclass of ``base``.

    Raises:
        ValueError: Unknown name, a reference that leads nowhere, or something that is not such a class.
    """
    found = find(kind, given, known)
    if not inspect.isclass(found) or not issubclass(found, base):
        raise ValueError(f"{given!r} is not a {kind}: it must subclass {base.__module__}.{base.__qualname__}")
    missing: list[str] = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        is_or_are = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{given!r} is not a {kind}: {', '.join(f'`{name}`' for name in missing)} {is_or_are} missing")
    return found


def check_options(
    owner: str,
    factory: Callable[..., Any],
    options: Iterable[str],
    besides: Container[str] = (),
    also: Iterable[str] = (),
) -> None:
    """Refuse options that a callable does not take.

    Args:
        owner: Whose options they are, as the error message calls it.
        factory: The class or function.
        options: The names of the options given.
        besides: Parameters of the factory that are not options.
        also: Options that the factory does not take itself, for the suggestion.

    Raises:
        ValueError: Unknown option; the message suggests the closest match.
    """
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.name not in besides]
    for option in options:
        if option not in known:
            hint = suggestion(option, [*known, *also]) if known or also else "it has no options"
            raise ValueError(f"{owner} has no option {option!r}; {hint}")


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Options from ``name=value``; values are read as JSON where they are JSON, otherwise as text.

    Raises:
        ValueError: A pair without a name or an equals sign.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"option {pair!r} is not of the form name=value")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def check_call(owner: str, factory: Callable[..., Any], form: str, /, *arguments: object, **named: object) -> None:
    """Refuse a callable that cannot be called with some arguments.

    Args:
        owner: What is built, as the error message calls it.
        factory: The class or function.
        form: How it is called, in writing.
        arguments: Positional arguments.
        named: Keyword arguments.

    Raises:
        ValueError: It lacks a parameter, or demands another.
    """
    try:
        inspect.signature(factory).bind(*arguments, **named)
    except TypeError as error:
        raise ValueError(f"{owner} is built as {form}, which its constructor does not allow: {error}") from error


def require(name: str, value: object, holds: bool, must: str) -> None:
    """Refuse the value of an option or setting.

    Args:
        name: Of the option.
        value: As it was given.
        holds: Whether the value is acceptable.
        must: What it must be, to complete the sentence "it must be".

    Raises:
        ValueError: The value is not acceptable.
    """
    if not holds:
        raise ValueError(f"{name} is {value!r}; it must be {must}")


Range = Literal[
    "at least 0",
    "at least 1",
    "above 0",
    "in [0, 1]",
    "in (0, 1]",
    "in [0, 1)",
    "at least 1 and at most 1,024",
    "at least 1 and at most 10,000",
    "at least 1 and at most 1,000,000",
    "at least 1 and at most 1,000,000,000",
    "an integer from 0 to 2**63 - 1",
]
"""Where the value of an option must lie, as error messages say it."""

_IN_RANGE: dict[Range, Callable[[float], bool]] = {
    "at least 0": lambda x: x >= 0,
    "at least 1": lambda x: x >= 1,
    "above 0": lambda x: x > 0,
    "in [0, 1]": lambda x: 0 <= x <= 1,
    "in (0, 1]": lambda x: 0 < x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
    "at least 1 and at most 1,024": lambda x: 1 <= x <= 1024,
    "at least 1 and at most 10,000": lambda x: 1 <= x <= 10_000,
    "at least 1 and at most 1,000,000": lambda x: 1 <= x <= 1_000_000,
    "at least 1 and at most 1,000,000,000": lambda x: 1 <= x <= 1_000_000_000,
    "an integer from 0 to 2**63 - 1": lambda x: 0 <= x < 2**63,
}


def is_number(value: object, within: Range | None = None) -> bool:
    """Whether something is a real number, and in a range if one is given; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return within is None or bool(_IN_RANGE[within](cast(float, value)))


def counted(number: int, noun: str) -> str:
    """A number of things in words, such as "1 epoch" and "1,000 epochs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_integer(value: object) -> int | None:
    """The value as a Python integer; None if it is not an integer.

    NumPy's and torch's integers and their arrays without axes are integers too; a bool is not an integer, and an array
    with axes is not either, even if it holds a single number.
    """
    if type(value) is int:  # the usual case
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):  # NumPy's integers, as action spaces sample them
        return int(value)
    if getattr(value, "ndim", 0) or str(getattr(value, "dtype", "")) == "torch.bool":
        return None
    try:
        return index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def field_docs(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass that its constructor takes, inherited fields included.

    A subclass that redeclares a field, say for another default, inherits its docstring. Fields without a docstring,
    and classes whose source is not available, are left out.

    Returns:
        The docstrings by field, in the order of the fields.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if "__dataclass_fields__" not in vars(base):
            continue
        try:
            (tree,) = ast.parse(dedent(inspect.getsource(base))).body
        except OSError:
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, below in pairwise(tree.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
                case _:
                    pass
    return {field.name: found[field.name] for field in fields(cls) if field.init and field.name in found}


def option_docs(found: Callable[..., Any]) -> dict[str, str]:
    """What each option of a class or function means.

    It is what the docstrings below a class's fields say, and the section ``Args`` of the docstring.
    """
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", inspect.getdoc(found) or "", re.MULTILINE)
    entries = re.findall(r"^(\w+):((?:.|\n(?![^\s]))*)", dedent(section[1]) if section else "", re.MULTILINE)
    below = field_docs(found) if isinstance(found, type) and "__dataclass_fields__" in dir(found) else {}
    return {name: " ".join(text.split()) for name, text in entries} | below


def reference(thing: object) -> str:
    """``module:name`` of a function or class; of any other object that of its class. A string is its own.

    A :class:`functools.partial` has its arguments behind the name of its function; nobody can import that.
    """
    if isinstance(thing, str):
        return thing
    if isinstance(thing, partial):
        options = [*map(repr, thing.args), *(f"{name}={value!r}" for name, value in thing.keywords.items())]
        return f"{reference(thing.func)}({', '.join(options)})"
    named: Any = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def lazy_attributes(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose names are imported when they are first used.

    Args:
        package: its name.
        homes: for each name the module that has it, relative to the package.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted([*homes, *vars(sys.modules[package])])

    return get, names


def import_object(reference: str) -> Any:
    """The object that ``package.module:Name`` or ``path/to/file.py:Name`` refers to.

    Raises:
        ValueError: There is no such file, module or name, or the module cannot be imported.
    """
    module_name, _, attribute = reference.rpartition(":")
    if not module_name or not attribute:
        raise ValueError(f"{reference!r} is not of the form module:Name or file.py:Name")
    if any(sign in reference.partition(":")[2] for sign in "<("):  # as reference() names them
        raise ValueError(
            f"{reference!r} is a lambda, a partial or a function inside another, which nobody can import again; define "
            "a function or class at the top of its module"
        )
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
    """The Python file that such a reference names, found without running it; None if there is none."""
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
