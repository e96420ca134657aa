"""Settings as options of the command line: what is not typed is not given."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, TypedDict, Union, get_args, get_origin

import tyro

from routing_env.data import DATASETS
from routing_env.game.settings import Settings, types_of
from routing_env.names import field_docs


def options_of(*owners: type, data: str) -> Any:
    """A ``TypedDict`` with an option for each field of some settings; options that are not typed are not in it.

    Args:
        owners: the dataclasses of the settings.
        data: the data set whose usual values the help shows.
    """
    usual = DATASETS[data].usual if data in DATASETS else {}
    options: dict[str, Any] = {}
    for owner in owners:
        kinds, docs = types_of(owner), field_docs(owner)
        for field in fields(owner):
            if field.name in kinds:
                value = usual.get(field.name, field.default)
                help_ = " ".join(docs[field.name].split())
                options[field.name] = Annotated[
                    _typed(kinds[field.name]), tyro.conf.arg(help=help_, help_behavior_hint=_hint(field.name, value))
                ]
    return TypedDict("Given", options, total=False)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]


def data_on_command_line() -> str:
    """The data set that the command line names, before it is parsed; else the default one."""
    for word, following in pairwise([*sys.argv[1:], ""]):
        option, equals, value = word.partition("=")
        if option == "--data":
            return value if equals else following
    return Settings.data


def _typed(kind: Any) -> Any:
    """The type as somebody types it: a function by its name or reference, None by leaving the option out."""
    if get_origin(kind) is not type(int | str):
        return kind
    kept = [one for one in get_args(kind) if one is not NoneType and get_origin(one) is not Callable]
    return Union[tuple(kept)]  # noqa: UP007  # of a variable number of types


def _hint(name: str, value: Any) -> str:
    """The default, where the text of the option does not say it."""
    if value is MISSING or value is None or name in Settings.DERIVED or (name == "threads" and not value):
        return ""
    return f"(default: {value})"
