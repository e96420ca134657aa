"""The files of a run, ``runs/<name>/<run id>/``.

- ``config.json``: all settings and the seed; a fingerprint of the data; the versions that the run began with; a digest
  of all that
- ``source/``: copies of the Python files that the settings refer to
- ``metrics.jsonl``: one object per evaluation
- ``checkpoint.safetensors``: game, router and monitor; replaced in one step. It alone says how far the run is, and
  holds digests of itself, of the metrics up to there, and of the settings
- ``figures/``: PNGs
- ``references/``: the same files of the routers that the run is compared with, a folder for each
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from routing_env.checkpoint import DamagedError, json_digest, load_tree, read_about, save_tree, write_atomically
from routing_env.data import MultiTaskData
from routing_env.names import file_name, suggestion
from routing_env.runs.records import BESIDE_SETTINGS, MAY_CHANGE, lasting, read_sealed, row_of, sealed, shortened
from routing_env.runs.settings import RunSettings
from routing_env.runs.sources import Places, digest, files_of

_PACKAGES = ("routing-env", "torch", "numpy", "gymnasium", "pettingzoo")
_TELLING = ("routing-env", "torch")
"""Packages whose version may change what a run comes to."""


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
        self.references = path / "references"

    @classmethod
    def create(
        cls,
        base: Path,
        name: str,
        settings: RunSettings,
        data: MultiTaskData | None = None,
        *,
        recorded: bool = False,
    ) -> RunDirectory:
        """Make a new folder ``base/name/<time>-seed<seed>`` with its config.

        Args:
            base: Folder of all runs.
            name: What the runs of this kind are called; characters that file systems mind are replaced.
            settings: Settings of the run.
            data: What the run is trained on.
            recorded: Whether another loop trains it, whose policy is not in its checkpoint.

        Raises:
            OSError: The folder cannot be written.
        """
        kind = base / file_name(name)
        stamp = f"{datetime.now():%Y%m%d-%H%M%S}-seed{settings.game.seed}"
        try:
            kind.mkdir(parents=True, exist_ok=True)
            path = _first_free(kind / stamp)
        except OSError as error:
            raise OSError(f"cannot make a run directory in {kind}: {error}; choose another --run-dir") from error
        directory = cls(path)
        directory.write_config(settings, data, recorded=recorded)
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """A folder that exists.

        Raises:
            FileNotFoundError: the folder is not a run.
        """
        directory = cls(path)
        if not path.is_dir():
            near = [str(found.parent) for found in path.parent.glob("*/config.json")] if path.parent.is_dir() else []
            hint = f"; {suggestion(str(path), near)}" if near else ""
            raise FileNotFoundError(f"there is no run directory {path}{hint}")
        if not directory.config_path.is_file():
            raise FileNotFoundError(
                f"{path} is not a run directory: it has no config.json; name a folder runs/<name>/<run id>"
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

    def write_config(
        self,
        settings: RunSettings,
        data: MultiTaskData | None = None,
        *,
        places: Places | None = None,
        recorded: bool = False,
    ) -> None:
        """Write the settings, and where the folder is new also what the run begins with.

        Args:
            settings: Settings of the run.
            data: What the run is trained on; its fingerprint is kept.
            places: Where the files lie that the settings refer to, if not where they say.
            recorded: Whether another loop trains the run.

        Raises:
            DamagedError: The config or the checkpoint that is there is not as it was written.
            ValueError: The checkpoint that is there was trained with other settings.
        """
        self.refuse_other_settings(settings)
        self.path.mkdir(parents=True, exist_ok=True)
        if self.config_path.exists():
            content = read_sealed(self.config_path)
            began = {key: content[key] for key in BESIDE_SETTINGS}
            for file, place in self.places().items():
                if not place.is_relative_to(self.path):
                    self._keep(file, {file: place})  # again, in case that the copy was damaged
        else:
            fingerprint = {} if data is None else data.fingerprint
            sources = {file: self._keep(file, places or {}) for file in files_of(settings.given())}
            began = {"recorded": recorded, "versions": versions(), "fingerprint": fingerprint, "sources": sources}
        text = json.dumps(sealed({**settings.to_json(), **began}), indent=2) + "\n"
        write_atomically(self.config_path, lambda path: path.write_text(text, encoding="utf-8"))

    def read_config(self) -> RunSettings:
        """The settings of the run.

        Raises:
            DamagedError: The file is not as it was written, or has settings that this version does not know.
        """
        content = read_sealed(self.config_path)
        settings = {name: value for name, value in content.items() if name not in BESIDE_SETTINGS}
        try:
            return RunSettings.from_json(settings)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedError(
                self.config_path, f"is damaged or of another version ({error})", "restore the file, or start a new run"
            ) from error

    def refuse_other_settings(self, settings: RunSettings) -> None:
        """Raise where the checkpoint was trained with settings that a run cannot change on its way.

        Raises:
            DamagedError: The config or the checkpoint is not as it was written.
            ValueError: The settings differ; the message names the first one.
        """
        if self._about() is None:
            return
        began, given = (lasting(one) for one in (read_sealed(self.config_path), sealed(settings.to_json())))
        for name in sorted({*began, *given} - {"digest"}):
            if began.get(name) != given.get(name):
                raise ValueError(
                    f"{self.path} was trained with {name} {shortened(began.get(name))}, and now it is "
                    f"{shortened(given.get(name))}: only {', '.join(MAY_CHANGE)} may differ; start a new run, or "
                    "delete the folder"
                )

    def refuse_recorded(self) -> None:
        """Raise where there is no policy to go on with.

        Raises:
            ValueError: another loop has trained the run.
        """
        if read_sealed(self.config_path).get("recorded"):
            raise ValueError(
                f"{self.path} was recorded from a loop that is not routing-env's, and its policy is not in the "
                "checkpoint; routing-env report can read it, that loop alone can evaluate or resume it"
            )

    def read_versions(self) -> dict[str, str]:
        """The versions of Python and of the packages that the run began with."""
        return read_sealed(self.config_path)["versions"]

    def read_fingerprint(self) -> dict[str, str]:
        """The fingerprint of each split that the run was trained with; empty where it was not told its data."""
        return read_sealed(self.config_path).get("fingerprint", {})

    def refuse_other_data(self, fingerprint: Mapping[str, str]) -> None:
        """Raise where data differ from those of the run.

        Args:
            fingerprint: Of the data at hand, for each split.

        Raises:
            ValueError: A split differs; the message names it.
        """
        began = self.read_fingerprint()
        changed = [
            f"{name} was {mark}, is {fingerprint[name]}" for name, mark in began.items() if fingerprint[name] != mark
        ]
        if changed:
            raise ValueError(
                f"{self.path} was trained on other data ({'; '.join(changed)}): give the folder of the original data "
                "with --data-dir or ROUTING_ENV_DATA, or start a new run"
            )

    def places(self) -> dict[str, Path]:
        """Where the files lie that the settings refer to: where they were, or if they changed since, in this folder.

        Raises:
            ValueError: A file has changed or is gone, and so is its copy.
        """
        found: dict[str, Path] = {}
        for file, source in read_sealed(self.config_path).get("sources", {}).items():
            original, copy = Path(source["path"]), self.path / source["copy"]
            same = [place for place in (original, copy) if place.is_file() and digest(place) == source["sha256"]]
            if not same:
                raise ValueError(
                    f"{file} has changed since the run began, and {copy} is not as it was; start a new run"
                )
            found[file] = same[0]
        return found

    def remarks(self) -> list[str]:
        """What is not as it was when the run began, and may be; a line for each."""
        now, began = versions(), self.read_versions()
        changed = [f"{name} {began[name]} (now {now[name]})" for name in _TELLING if began.get(name) != now[name]]
        lines = [f"this run began with {' and '.join(changed)}; its numbers may change"] if changed else []
        for file, place in self.places().items():
            if place.is_relative_to(self.path):
                lines.append(f"{file} has changed or moved since this run began; its copy {place} is used")
        return lines

    def _keep(self, file: str, places: Places) -> dict[str, str]:
        """Copy a file that the settings refer to; how it is found again."""
        original = Path(places.get(file, file)).resolve()
        mark = digest(original)
        copy = Path("source", mark[:8], file_name(original.stem) + ".py")
        (self.path / copy).parent.mkdir(parents=True, exist_ok=True)
        (self.path / copy).write_bytes(original.read_bytes())
        return {"path": str(original), "copy": copy.as_posix(), "sha256": mark}

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one evaluation; what has no value (NaN) is written as null."""
        clean = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All evaluations, also those after the checkpoint; a last line that a crash cut short is left out.

        Raises:
            DamagedError: A line before the last is cut, a measure has the wrong type or is out of range, or the rows
                are not those that the checkpoint was saved with.
        """
        about = self._about()  # before the metrics, which a run writes first
        lines, rows = self._metric_lines(), list[dict[str, Any]]()
        for number, line in enumerate(lines, 1):
            try:
                rows.append(row_of(line))
            except ValueError as error:
                if number < len(lines) or not isinstance(error, json.JSONDecodeError):
                    raise self._damaged_metrics(f"line {number} is damaged: {error}") from error
        epochs = [row["epoch"] for row in rows]
        if any(after <= before for before, after in pairwise((0, *epochs))):
            raise self._damaged_metrics("does not go from epoch to epoch")
        if about is not None:
            epoch, mark = about
            known = [number for number in epochs if number <= epoch]
            if not known or known[-1] != epoch:
                end = f"ends at epoch {known[-1]}" if known else "has no rows"
                raise self._damaged_metrics(f"{end}, and the checkpoint is of epoch {epoch}")
            if _mark(lines[: len(known)]) != mark:
                raise self._damaged_metrics(f"differs from what it was when epoch {epoch} ended")
        return rows

    def keep_metrics(self, epoch: int) -> None:
        """Drop the evaluations after an epoch, which a resumed run will make again."""
        kept = sum(row["epoch"] <= epoch for row in self.read_metrics()) if epoch else 0
        text = "".join(line + "\n" for line in self._metric_lines()[:kept])
        write_atomically(self.metrics_path, lambda path: path.write_text(text, encoding="utf-8"))

    @property
    def epoch(self) -> int:
        """Passes completed, which the checkpoint decides; 0 where there is none yet.

        Raises:
            DamagedError: The checkpoint is damaged, or belongs to a run with other settings.
        """
        about = self._about()
        return 0 if about is None else about[0]

    def save_checkpoint(self, tree: Mapping[str, Any]) -> None:
        """Replace the checkpoint in one step.

        Args:
            tree: State of the run; ``epoch`` in it is where the run stands, and the metrics go up to there.
        """
        metrics = _mark(self._metric_lines())
        about = {"epoch": str(tree.get("epoch")), "metrics": metrics, "settings": self._mark_of_settings()}
        save_tree(self.checkpoint_path, dict(tree), about)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint, or None where the run has not come to one.

        Raises:
            DamagedError: It, or the config, is not as it was written, or it belongs to a run with other settings.
        """
        if not self.checkpoint_path.exists():
            return None
        self._refuse_other_run(read_about(self.checkpoint_path))
        return load_tree(self.checkpoint_path)

    def _about(self) -> tuple[int, str] | None:
        """The checkpoint's epoch, and the mark of the metrics up to there; None without a checkpoint."""
        if not self.checkpoint_path.exists():
            return None
        about = read_about(self.checkpoint_path)
        self._refuse_other_run(about)
        try:
            return int(about["epoch"]), about["metrics"]
        except (KeyError, ValueError) as error:
            raise DamagedError(
                self.checkpoint_path, "does not say its epoch and metrics", "delete it and resume from the start"
            ) from error

    def _refuse_other_run(self, about: Mapping[str, str]) -> None:
        """Raise where the checkpoint was not saved beside this config."""
        if about.get("settings") != self._mark_of_settings():
            beside = "other settings than those of" if self.config_path.exists() else "settings that are not in"
            raise DamagedError(
                self.checkpoint_path,
                f"is of a run with {beside} {self.config_path}",
                "restore both files as they were, or delete the checkpoint and train the run from the start",
            )

    def _mark_of_settings(self) -> str:
        """Digest of the settings that stay as they are; empty where there is no config."""
        return json_digest(lasting(read_sealed(self.config_path))) if self.config_path.exists() else ""

    def _metric_lines(self) -> list[str]:
        try:
            text = self.metrics_path.read_text(encoding="utf-8") if self.metrics_path.exists() else ""
        except UnicodeDecodeError as error:
            raise self._damaged_metrics(f"is damaged: {error}") from error
        return text.removesuffix("\n").split("\n") if text else []

    def _damaged_metrics(self, what: str) -> DamagedError:
        remedy = f"restore the file, or delete {self.checkpoint_path} and train the run from the start"
        return DamagedError(self.metrics_path, what, remedy)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that matter, as they are now."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _mark(lines: Sequence[str]) -> str:
    """SHA-256 of the lines of a file, in hexadecimal digits."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _first_free(path: Path) -> Path:
    """Make the folder, or the first of ``path-2``, ``path-3``, ... that does not exist yet."""
    for attempt in count(1):
        own = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            own.mkdir()
        except FileExistsError:
            continue
        return own
    raise AssertionError("counting never ends")
