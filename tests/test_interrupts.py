"""Ctrl-C at any moment of a command: exit code 130 and one line, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trained import small_run

from routing_env import interrupts
from routing_env.interrupts import interruptible

TRAIN = ("train", "--data=planted", "--data-options", "samples=60", "--no-reference", "--epochs=100000")
BENCHMARK = ("benchmark", "planted", "--entrants", "wpl", "random", "--seeds=1", "--epochs=100000", "--workers=2")

Moment = Callable[[int, Path], bool]
"""Whether a process has come to a point, by its id and its folder."""


def loaded(library: str) -> Moment:
    """The process has mapped a library: it is being imported, or just has been."""
    return lambda process, _: library in Path(f"/proc/{process}/maps").read_text()


def trains(_: int, folder: Path) -> bool:
    """The first epoch has been measured."""
    return any(folder.rglob("metrics.jsonl"))


def has_workers(process: int, _: Path) -> bool:
    """Processes of a pool have been started, beside the tracker of their resources."""
    return len(workers_of(process)) >= 2


def workers_of(process: int) -> list[int]:
    children = [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return [one for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def workers_import(process: int, _: Path) -> bool:
    """Processes of a pool import torch."""
    return any("libtorch_cpu" in Path(f"/proc/{one}/maps").read_text() for one in workers_of(process))


def interrupted(
    arguments: tuple[str, ...],
    moment: Moment,
    folder: Path,
    *,
    group: bool,
    times: int = 1,
    under: tuple[str, ...] = (),
) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that Ctrl-C hits, as a terminal sends it to a group of processes."""
    with subprocess.Popen(
        [*under, sys.executable, "-m", "routing_env", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which the tests may have to ignore
    ) as process:
        deadline = time.monotonic() + 120
        while not moment(process.pid, folder):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for _ in range(times):
            (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
        try:
            out, errors = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, errors


MOMENTS: dict[str, tuple[tuple[str, ...], Moment, bool]] = {
    "train imports numpy": (TRAIN, loaded("multiarray"), True),
    "train imports torch": (TRAIN, loaded("libtorch_cpu"), False),
    "train trains": (TRAIN, trains, False),
    "benchmark imports torch": (BENCHMARK, loaded("libtorch_cpu"), True),
    "benchmark starts workers": (BENCHMARK, has_workers, True),
    "benchmark's workers import torch": (BENCHMARK, workers_import, True),
    "benchmark's workers import torch, and are spared": (BENCHMARK, workers_import, False),
    "benchmark trains": (BENCHMARK, trains, True),
    "benchmark trains, and its workers are spared": (BENCHMARK, trains, False),
}
"""A command, when Ctrl-C hits it, and whether that hits its whole group. One without workers is its own group."""

linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc for the right moment")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be held back")
def test_ctrl_c_while_the_first_line_of_the_package_is_read_is_one_line() -> None:
    code = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "routing_env.interrupts":
            os.kill(os.getpid(), signal.SIGINT)

sys.argv[0] = "routing-env"
sys.meta_path.insert(0, Interrupting())
import routing_env
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "\ninterrupted\n")


@linux
@pytest.mark.parametrize("name", MOMENTS)
def test_ctrl_c_is_one_line(tmp_path: Path, name: str) -> None:
    arguments, moment, group = MOMENTS[name]
    code, out, errors = interrupted(arguments, moment, tmp_path, group=group)
    assert code == 130, out + errors
    (line,) = [line for line in (out + errors).splitlines() if "interrupted" in line]
    assert errors.strip() in ("", "interrupted")
    if moment is trains:
        assert ("continue with: routing-env train --resume" if "train" in arguments else "same command") in line


@linux
@pytest.mark.parametrize("library", ["multiarray", "libtorch_cpu"])
def test_ctrl_c_in_evaluate_is_one_line(tmp_path: Path, library: str) -> None:
    directory = small_run(tmp_path / "run")
    code, out, errors = interrupted(("evaluate", str(directory.path)), loaded(library), tmp_path, group=True)
    assert (code, out, errors.strip()) == (130, "", "interrupted")


@linux
def test_an_impatient_ctrl_c_is_one_line(tmp_path: Path) -> None:
    code, out, errors = interrupted(TRAIN, trains, tmp_path, group=True, times=3)
    assert code == 130, out + errors
    assert (out + errors).count("interrupted") == 1
    assert "Traceback" not in errors


def test_a_library_is_left_with_pythons_handler() -> None:
    look = "signal.getsignal(signal.SIGINT)"  # ignored in a background job
    code = f"import signal; before = {look}; import routing_env; assert {look} is before"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_handler_from_before_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_IGNORED", False)
    before = signal.getsignal(signal.SIGINT)
    with interruptible("go on"):
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_does_nothing_once_all_is_done() -> None:
    """The interpreter may take a second to end, with Python's own handlers gone."""
    code = (
        "import signal, sys; from routing_env.__main__ import start; sys.argv = ['routing-env', '--version']; start(); "
        "signal.raise_signal(signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_in_the_background_of_a_script_outlives_ctrl_c(tmp_path: Path) -> None:
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    few = (*BENCHMARK[:-2], "--epochs=3", "--workers=2", "--fraction=0.3")
    code, out, errors = interrupted(few, trains, tmp_path, group=True, under=ignoring)
    assert (code, errors) == (0, "")
    assert "interrupted" not in out
    assert len(list(tmp_path.rglob("leaderboard.csv"))) == 1
