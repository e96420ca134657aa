"""The Python files that a run's settings refer to as ``file.py:Name``: which they are, and where they lie now.

A run keeps a copy of each in its folder, so that it can be evaluated and resumed from anywhere. To evaluate a run that
somebody else has trained is to execute the code in its folder, which therefore needs consent.
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
from routing_env.runs.settings import SB3_PREFIX, RunSettings

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


def refuse_foreign_code(settings: RunSettings, places: Places, named: Given) -> None:
    """Raise where a stored run would execute Python that is neither this package's nor named by the caller.

    Args:
        settings: The settings of the run.
        places: Where the files lie that they refer to.
        named: Settings that the caller has given; the code that they name may run, from where they name it.

    Raises:
        ValueError: There is such code; the message lists all of it.
    """
    known = set(_foreign_references(named))
    refused: list[str] = []
    for reference in _foreign_references(settings.given()):
        file = reference.rpartition(":")[0]
        place = places.get(file, Path(file))
        moved = file.endswith(".py") and place.resolve() != Path(file).resolve()
        if moved or reference not in known:
            refused.append(f"{reference} (the file {place})" if file.endswith(".py") else reference)
    if refused:
        raise ValueError(
            f"this run would execute Python from outside routing-env: {', '.join(refused)}; read it, and if you trust "
            "whoever made the run, repeat the command with --trust"
        )


def consent(settings: RunSettings) -> str:
    """What a command needs besides, to evaluate or resume a run with these settings: `` --trust``, or nothing."""
    return " --trust" if _foreign_references(settings.given()) else ""


def _foreign_references(given: Given) -> list[str]:
    """The references among some settings, options included, that lead out of this package, each once."""
    found: dict[str, None] = {}

    def note(value: Any) -> None:
        if isinstance(value, str):
            module, _, name = value.rpartition(":")
            ours = module == "routing_env" or (module.startswith("routing_env.") and not module.endswith(".py"))
            if module and name.isidentifier() and not ours and not value.startswith(SB3_PREFIX):
                found[value] = None
        elif isinstance(value, list | tuple):
            for entry in cast(list[Any], value):
                note(entry)
        elif isinstance(value, dict):
            note([*cast(dict[str, Any], value), *cast(dict[str, Any], value).values()])

    for name, value in given.items():
        if name in ("router_options", "data_options"):
            note(parse_options(value))
        elif name not in ("device", "data_dir"):
            note(value)
    return list(found)


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
