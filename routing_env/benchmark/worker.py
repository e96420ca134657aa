"""What a worker of a grid does, whichever engine has started it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from routing_env.benchmark.damage import remedied
from routing_env.benchmark.engines import Training
from routing_env.checkpoint import DamagedError
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display

STOP = "stop"
"""Name of a file that stops the run in whose folder it lies."""

STOPPED, DIVERGED = "stopped", "diverged"
"""What a task says, or begins with, that was stopped, or whose loss became infinite."""


def train_in_worker(runs: Sequence[Training], saved: Callable[[Path], None] = lambda _: None) -> str:
    """Train runs to their ends, one after another. Where another process is training one, let that one finish it.

    A file named ``STOP`` in the folder of a run stops it, and those that follow, after the epoch that it is in.

    Args:
        runs: The settings and the folder of each.
        saved: Called with the folder of a run whenever it has measured and saved a checkpoint.

    Returns:
        Why they did not finish; empty where they did.
    """
    from routing_env.runs.process import explained, prepare
    from routing_env.runs.run import Run

    try:
        for given, path in runs:
            directory = RunDirectory(path)
            with directory.held(wait=True):
                (path / STOP).unlink(missing_ok=True)
                run = Run.of(given)
                if directory.config_path.is_file():
                    directory.refuse_other_data(run.data.fingerprint)
                prepare(run.settings.threads)
                run.train(directory, _Stoppable(path, saved))
    except _StoppedError:
        return STOPPED
    except FloatingPointError as error:
        return f"{DIVERGED}: {error}"
    except DamagedError as error:
        return remedied(error, error.path.parent)
    except Exception as error:
        return explained(error)  # here, since a traceback does not travel between processes
    return ""


class _StoppedError(Exception):
    """A run was asked to stop."""


class _Stoppable(Display):
    """Shows nothing, and stops a run that has not finished when there is a file."""

    def __init__(self, path: Path, saved: Callable[[Path], None]) -> None:
        super().__init__(Console(quiet=True))
        self._path = path
        self._saved = saved

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Tell that there is a new checkpoint, and look for the file."""
        super().epoch(row)
        self._saved(self._path)
        if (self._path / STOP).exists() and row["epoch"] < self._run.epochs:
            raise _StoppedError
