"""Experiment trackers that receive a run's metrics beside its own files: TensorBoard, Weights & Biases, MLflow.

A tracker that fails is dropped with a warning; it never stops a run. The libraries are extras of this package.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from routing_env.names import look_up, printable

if TYPE_CHECKING:
    from routing_env.runs.run import Run

TrackerName = Literal["tensorboard", "wandb", "mlflow"]

PROJECT = "routing-env"
"""Project of Weights & Biases and experiment of MLflow; WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME overrules it."""


class Tracker(Protocol):
    """Where metrics go."""

    def log(self, metrics: Mapping[str, float], samples: int) -> None:
        """Take the metrics that were measured after a number of samples."""
        ...

    def close(self) -> None:
        """Write what is still open."""
        ...


class TensorBoard:
    """Event files in the folder ``tensorboard`` of the run: ``tensorboard --logdir runs`` finds them.

    What a process that was killed has written beyond the run's checkpoint is hidden, since it is measured again.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def log(self, metrics: Mapping[str, float], samples: int) -> None:
        """Write the metrics as scalars."""
        if self._writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=samples)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, samples)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A run of Weights & Biases, which a resumed run continues. WANDB_MODE=offline needs no account."""

    def __init__(self, run: Run, folder: Path) -> None:
        import os

        import wandb

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=folder.parent.name,
            name=folder.name,
            id=f"{folder.parent.name}-{folder.name}",
            resume="allow",
            dir=folder,
            config=_parameters(run),
            settings=wandb.Settings(silent=True),
        )

    def log(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log the metrics with the samples as their step."""
        self._run.log(dict(metrics), step=samples)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI says; a resumed run continues the one with the same folder."""

    def __init__(self, run: Run, folder: Path) -> None:
        import os

        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._client, self._metric = MlflowClient(), Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        where = str(folder.resolve())
        earlier = [one for one in self._client.search_runs([experiment]) if one.data.tags.get("folder") == where]
        if earlier:
            self._id: str = earlier[0].info.run_id
        else:
            tags = {"folder": where, "mlflow.runName": f"{folder.parent.name}/{folder.name}"}
            self._id = self._client.create_run(experiment, tags=tags).info.run_id
            self._client.log_batch(self._id, params=[Param(*pair) for pair in _parameters(run).items()])

    def log(self, metrics: Mapping[str, float], samples: int) -> None:
        """Log the metrics with the samples as their step."""
        import time

        now = round(1000 * time.time())
        named = [self._metric(name, value, now, samples) for name, value in metrics.items()]
        self._client.log_batch(self._id, metrics=named)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


TRACKERS: dict[str, Callable[[Run, Path], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
"""Trackers by name, which are the names of their libraries and of the extras as well."""


def require_trackers(names: Sequence[str]) -> None:
    """Check that the trackers exist and that their libraries are installed.

    Raises:
        ValueError: An unknown name; the message suggests the closest match.
        ModuleNotFoundError: A library is missing; the message says how to install it.
    """
    for name in names:
        look_up("tracker", name, TRACKERS)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"--log {name} needs a library: pip install 'routing-env[{name}]'") from error


@contextmanager
def tracked(run: Run, folder: Path, names: Sequence[str]) -> Generator[None, None, None]:
    """Let trackers receive what a run measures within the block.

    Args:
        run: The run; what it measured before the block is not sent.
        folder: Its directory.
        names: Of the trackers.
    """
    open_: dict[str, Tracker] = {}

    def attempt(name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            open_.pop(name, None)
            warnings.warn(
                f"{name} has failed and receives no more of {folder}: {printable(f'{type(error).__name__}: {error}')}",
                RuntimeWarning,
                stacklevel=3,
            )

    def observe(row: Mapping[str, Any]) -> None:
        metrics = scalars(row)
        for name, tracker in list(open_.items()):
            attempt(name, lambda tracker=tracker: tracker.log(metrics, row["samples"]))

    for name in names:
        attempt(name, lambda name=name: open_.__setitem__(name, TRACKERS[name](run, folder)))
    run.observers.append(observe)
    try:
        yield
    finally:
        run.observers.remove(observe)
        for name, tracker in list(open_.items()):
            attempt(name, tracker.close)


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a row of metrics; those of tasks as ``name/task``. Routes and missing values are left out."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, int | float):
            found[name] = float(value)
        elif isinstance(value, list) and all(isinstance(one, int | float) for one in value):
            found.update({f"{name}/{task}": float(one) for task, one in enumerate(value)})
    return found


def _parameters(run: Run) -> dict[str, str]:
    """The settings of a run, as texts."""
    given = run.settings.given()
    return {name: str(value) for name, value in given.items() if name != "data_dir"}
