"""Engines: the options that choose one, and which tasks are worth another attempt."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest

from routing_env.benchmark.engines import ATTEMPTS, Attempts, EngineOptions, make_engine
from routing_env.benchmark.local_engine import LocalEngine
from routing_env.runs.directory import RunDirectory


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"engine": "ray", "cpus_per_run": 0}, "cpus_per_run is 0"),
        ({"engine": "ray", "gpus_per_run": -1}, "gpus_per_run is -1"),
        ({"engine": "ray", "gpus_per_run": float("nan")}, "gpus_per_run is nan"),
        ({"engine": "slurm", "minutes": 0}, "minutes is 0"),
        ({"address": "10.0.0.1:6379"}, "choose --engine ray$"),
        ({"engine": "ray", "partition": "gpu"}, "choose --engine slurm$"),
        ({"cpus_per_run": 2}, "cpus_per_run is 2 beside the engine local.*--engine ray or slurm"),
    ],
)
def test_options_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_engine(EngineOptions(**given))


def test_processes_of_this_machine_are_the_default() -> None:
    engine = make_engine(EngineOptions(workers=3))
    assert isinstance(engine, LocalEngine)
    assert (engine.free, engine.busy) == (3, False)


@pytest.mark.parametrize("crashes", [False, True])
def test_an_engine_leaves_neither_processes_nor_threads(tmp_path: Path, crashes: bool) -> None:
    """A thread of a pool that meets the end of the interpreter prints a traceback."""
    before = set(threading.enumerate())
    with LocalEngine(2) as engine:
        engine.start([(name, [({}, tmp_path / name)]) for name in ("first", "second")])
        assert len(multiprocessing.active_children()) == 2
        if crashes:
            for worker in multiprocessing.active_children():
                worker.kill()
            while engine.busy:
                engine.ended()
    assert set(threading.enumerate()) <= before
    assert multiprocessing.active_children() == []


def test_what_makes_progress_is_tried_again_and_what_makes_none_fails(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    attempts, trainings = Attempts[str](), [({}, tmp_path)]
    assert [attempts.again("task", trainings) for _ in range(ATTEMPTS)] == [*[True] * (ATTEMPTS - 1), False]
    for epoch in range(1, 3 * ATTEMPTS):
        directory.append_metrics({"epoch": epoch})
        assert attempts.again("task", trainings)
    assert attempts.again("another", trainings)
