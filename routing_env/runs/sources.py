"""The Python files that a run's settings refer to as ``file.py:Name``: which they are, and where they lie now.

A run keeps a copy of each in its folder, so that it can be evaluated and resumed from anywhere. To evaluate a run that
somebody else has trained is to execute the code in its folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from routing_env.game.settings import Given, Settings
from routing_env.names import parse_options
from routing_env.runs.settings import RunSettings

Places = Mapping[str, Path]
"""Where the files are, by their paths as the settings give them."""


def files_of(given: Given) -> list[str]:
    """The paths of all files that some settings refer to, options of the router included, each once."""
    found: dict[str, None] = {}

    def note(file: str) -> str:
        found[file] = None
        return file

    _change_files(given, note)
    return list(found)


def relocated(settings: RunSettings, places: Places) -> RunSettings:
    """The settings with references to the same files at other places."""
    given = _change_files(settings.given(), lambda file: str(places.get(file, file)))
    own = {field.name: given[field.name] for field in fields(RunSettings) if field.name != "game"}
    return RunSettings(game=Settings(**{field.name: given[field.name] for field in fields(Settings)}), **own)


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _change_files(given: Given, change: Callable[[str], str]) -> dict[str, Any]:
    return {
        name: tuple(_change_option(pair, change) for pair in value)
        if name == "router_options"
        else _change(value, change)
        for name, value in given.items()
    }


def _change_option(pair: str, change: Callable[[str], str]) -> str:
    """One ``name=value``; the value may be JSON with references in it."""
    ((name, value),) = parse_options([pair]).items()
    changed = _change(value, change)
    return pair if changed == value else f"{name}={changed if isinstance(changed, str) else json.dumps(changed)}"


def _change(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        file, _, name = value.rpartition(":")
        return f"{change(file)}:{name}" if file.endswith(".py") and name.isidentifier() else value
    if isinstance(value, list | tuple):
        several = [_change(entry, change) for entry in cast(list[Any], value)]
        return tuple(several) if isinstance(value, tuple) else several
    if isinstance(value, dict):
        return {key: _change(entry, change) for key, entry in cast(dict[str, Any], value).items()}
    return value
