"""The files of a run, ``runs/<name>/<run id>/``.

- ``config.json``: all settings, seed and versions
- ``metrics.jsonl``: one object per evaluation
- ``checkpoint.safetensors``: game, router and monitor; replaced in one step
- ``figures/``: PNGs
- ``reference/``: the same files of the fixed router
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from routing_env.checkpoint import load_tree, save_tree, write_atomically
from routing_env.game.settings import SettingError
from routing_env.names import suggestion
from routing_env.runs.settings import RunSettings

_VERSIONS = ("routing-env", "torch", "numpy", "gymnasium", "pettingzoo")


class RunDirectory:
    """One run's folder.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoint_path = path / "checkpoint.safetensors"
        self.figures = path / "figures"
        self.reference = path / "reference"

    @classmethod
    def create(cls, base: Path, name: str, settings: RunSettings, *, recorded: bool = False) -> RunDirectory:
        """A new folder ``base/name/<time>-seed<seed>`` with its config.

        Args:
            base: folder of all runs.
            name: of its kind.
            settings: of the run.
            recorded: whether another loop trains it, whose policy is not in its checkpoint.

        Raises:
            OSError: it cannot be written.
        """
        stamp = f"{datetime.now():%Y%m%d-%H%M%S}-seed{settings.game.seed}"
        try:
            (base / name).mkdir(parents=True, exist_ok=True)
            path = _first_free(base / name / stamp)
        except OSError as error:
            raise OSError(f"cannot make a run directory in {base / name}: {error}; choose another --run-dir") from error
        directory = cls(path)
        directory.write_config(settings, recorded=recorded)
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """A folder that exists.

        Raises:
            FileNotFoundError: it is no run.
        """
        directory = cls(path)
        if not path.is_dir():
            near = [str(found.parent) for found in path.parent.glob("*/config.json")] if path.parent.is_dir() else []
            hint = f"; {suggestion(str(path), near)}" if near else ""
            raise FileNotFoundError(f"there is no run directory {path}{hint}")
        if not directory.config_path.is_file():
            raise FileNotFoundError(
                f"{path} is no run directory: it has no config.json; name a folder runs/<name>/<run id>"
            )
        return directory

    @contextmanager
    def held(self, *, wait: bool) -> Generator[None, None, None]:
        """Keep other processes that hold the folder out of it; the lock goes with the process, however that ends.

        Args:
            wait: until the folder is free.

        Raises:
            OSError: it is not free, and nothing is to be waited for.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=-1 if wait else 0):
                yield
        except Timeout as error:
            raise OSError(f"another process is training in {self.path}; wait until it ends, or end it") from error

    def write_config(self, settings: RunSettings, *, recorded: bool = False) -> None:
        """Write settings; who trains the run, and the versions that it began with, are kept as they were."""
        versions = {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}}
        began = self._content() if self.config_path.exists() else {}
        kept = {key: began.get(key, value) for key, value in {"recorded": recorded, "versions": versions}.items()}
        content = {**settings.to_json(), **kept}
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_path, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))

    def read_config(self) -> RunSettings:
        """The settings of the run.

        Raises:
            ValueError: the file is damaged or has settings that this version does not know.
        """
        try:
            content = self._content()
            for name in ("recorded", "versions"):
                content.pop(name, None)
            return RunSettings.from_json(content)
        except (json.JSONDecodeError, UnicodeDecodeError, SettingError, AttributeError) as error:
            raise ValueError(
                f"{self.config_path} is damaged or of another version ({error}); start a new run"
            ) from error

    def refuse_recorded(self) -> None:
        """Raise where there is no policy to go on with.

        Raises:
            ValueError: another loop has trained the run.
        """
        if self._content().get("recorded"):
            raise ValueError(
                f"{self.path} was recorded from a loop that is not routing-env's, and its policy is not in the "
                "checkpoint; routing-env report can read it, that loop alone can evaluate or resume it"
            )

    def read_versions(self) -> dict[str, str]:
        """The versions of Python and of the packages that the run began with."""
        return self._content()["versions"]

    def _content(self) -> dict[str, Any]:
        """Everything in ``config.json``."""
        return json.loads(self.config_path.read_text())

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one evaluation; what has no value (NaN) is written as null."""
        clean = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(clean) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All evaluations; a last line that a crash cut short is left out.

        Raises:
            ValueError: a damaged line before the last.
        """
        try:
            lines = self.metrics_path.read_text().splitlines() if self.metrics_path.exists() else []
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.metrics_path} is damaged: {error}; start a new run") from error
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise ValueError(
                        f"{self.metrics_path} line {number} is damaged: {error}; start a new run"
                    ) from error
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError(f"{self.metrics_path} does not go from epoch to epoch; start a new run")
        return rows

    def keep_metrics(self, epoch: int) -> None:
        """Drop the evaluations after an epoch, which a resumed run will make again."""
        rows = [row for row in self.read_metrics() if row["epoch"] <= epoch]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.metrics_path, lambda path: path.write_text(text))

    def save_checkpoint(self, tree: Mapping[str, Any]) -> None:
        """Replace the checkpoint in one step."""
        save_tree(self.checkpoint_path, dict(tree))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint, or None where the run has not come to one."""
        return load_tree(self.checkpoint_path) if self.checkpoint_path.exists() else None


def _first_free(path: Path) -> Path:
    """Make the folder, or the first of ``path-2``, ``path-3``, ... that does not exist yet."""
    for attempt in itertools.count(1):
        own = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            own.mkdir()
        except FileExistsError:
            continue
        return own
    raise AssertionError("counting never ends")
