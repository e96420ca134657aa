"""A finished run, loaded for Python."""

from __future__ import annotations

from pathlib import Path

from routing_env.runs.directory import RunDirectory
from routing_env.runs.run import Run
from routing_env.runs.settings import resumed
from routing_env.runs.zoo import run_folder


def load_run(path: Path | str, *, device: str | None = None, data_dir: str | None = None, trust: bool = False) -> Run:
    """The run in a folder, as its checkpoint has it.

    ``run.game`` is its game and ``run.router`` its router, ``run.metrics`` what it has measured, and
    ``run.evaluate("test")`` routes a split. Nothing in the folder changes.

    Args:
        path: A run directory, runs/<name>/<run id>, or an entry of the zoo, such as zoo:wpl-digits.
        device: Device; defaults to the training device.
        data_dir: Folder that holds the data set's files; defaults to that of the training.
        trust: Execute Python from outside this package that the run's settings name.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        ValueError: There is no such entry of the zoo, a file is damaged, the data have changed, or the run would
            execute code from outside this package without ``trust``.
    """
    directory = RunDirectory.open(run_folder(path))
    elsewhere = {name: value for name, value in (("device", device), ("data_dir", data_dir)) if value is not None}
    settings = resumed(elsewhere, directory.read_config())
    directory.refuse_recorded()
    run = Run.stored(directory, settings, trust=trust)
    run.restore(directory)
    run.metrics = directory.read_metrics()
    return run
