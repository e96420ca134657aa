"""A server that has imported the package, and runs each command line in a fork: real processes that start at once."""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import runpy
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]

LIMIT = 300.0
"""Seconds after which a command counts as hanging: a hundred times what one takes on an idle core."""

_IMPORTED = (
    "routing_env.cli",
    *(f"routing_env.benchmark.{name}" for name in ("grid", "local_engine", "report", "tuned")),
    "routing_env.runs.session",
    "torch._dynamo",  # which torch's optimisers import when the first is made
    "PIL.PngImagePlugin",
)
"""What the commands import."""

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
"""Audit events that change the file system, beside opening a file for writing."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of the package, and what is to happen to it.

    Attributes:
        arguments: Of ``routing-env``.
        folder: Where it runs.
        fresh: Start a new interpreter, ``python -m routing_env``, and not a fork of the server.
        signal: Number of the signal to send; none if 0.
        after: Seconds from the start until it is sent.
        to: Who receives it: the process, its whole group (as Ctrl-C in a terminal), or one of its workers.
        change: The process kills itself before it makes this change, counted from 1, to a file in its folder; 0 for
            never.
        file_size: Largest size of a file in bytes, 0 for no limit.
        fatal: The kernel kills the process inside the write that exceeds the size; else the write fails.
        clock: Seconds that the clock of the process is ahead, or behind if negative.
        columns: Width of its terminal, 0 for the usual one.
        errors: File for what it prints on standard error; without one that is part of its output.
    """

    arguments: tuple[str, ...]
    folder: str
    fresh: bool = False
    signal: int = 0
    after: float = 0.0
    to: str = "process"
    change: int = 0
    file_size: int = 0
    fatal: bool = False
    clock: float = 0.0
    columns: int = 0
    errors: str = ""


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        code: Its exit code, or the negative number of the signal that ended it.
        output: What it printed, errors included.
        seconds: That it took.
        hit: Whether the signal was sent while it, or the worker, was there.
        hung: Whether it had to be ended because it took too long.
        group: Number of its group of processes.
    """

    code: int
    output: str
    seconds: float
    hit: bool
    hung: bool
    group: int


class ForkServer:
    """The server, for one command after another, or several at the same time.

    Args:
        limit: Seconds after which a command counts as hanging.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit

    def __enter__(self) -> Self:
        paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which the campaign may have to ignore
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, *commands: Command) -> list[Ending]:
        """Start commands at the same time, and wait until all have ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([asdict(command) for command in commands]) + "\n")
        process.stdin.flush()
        return [Ending(**ending) for ending in json.loads(process.stdout.readline())]


def alive(group: int) -> list[int]:
    """The processes of a group that still run."""
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = place.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state not in "ZX":
            found.append(int(place.parent.name))
    return found


@dataclass
class _Child:
    """A command that runs.

    Attributes:
        deadline: When it counts as hanging.
        due: When its signal is to be sent; None once that has happened.
    """

    command: Command
    process: int
    handle: int
    output: int
    began: float
    deadline: float
    due: float | None
    hit: bool = False
    hung: bool = False
    ended: Ending | None = None
    printed: bytearray = field(default_factory=bytearray)

    def send(self) -> None:
        """Send the signal."""
        self.due = None
        command, receivers = self.command, [self.process]
        if command.to == "group":
            os.killpg(self.process, command.signal)
            self.hit = True
            return
        if command.to == "worker":
            receivers = _workers(self.process)
            if not receivers:  # not yet: look again
                self.due = time.monotonic() + 0.05
                return
            receivers = [random.choice(receivers)]
        os.kill(receivers[0], command.signal)
        self.hit = True

    def reap(self) -> None:
        """Note how it has ended."""
        _, status = os.waitpid(self.process, 0)
        self.read()
        os.close(self.output)
        os.close(self.handle)
        code, text = os.waitstatus_to_exitcode(status), self.printed.decode(errors="replace")
        self.ended = Ending(code, text, time.monotonic() - self.began, self.hit, self.hung, self.process)

    def read(self) -> None:
        """Read what it has printed."""
        while True:
            try:
                part = os.read(self.output, 1 << 16)
            except BlockingIOError:
                return
            if not part:
                return
            self.printed += part


def _serve(limit: float) -> None:
    """Run the commands of each line of standard input; a line of standard output says how they ended."""
    for line in sys.stdin:
        children: list[_Child] = []
        for given in json.loads(line):
            command = Command(**given)
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            began = time.monotonic()
            process = os.fork()
            if not process:
                _become(command, writing)
                return
            os.close(writing)
            handle, due = os.pidfd_open(process), began + command.after if command.signal else None
            children.append(_Child(command, process, handle, reading, began, began + limit, due))
        while running := [child for child in children if child.ended is None]:
            _look_after(running)
        print(json.dumps([asdict(child.ended) for child in children if child.ended]), flush=True)


def _look_after(running: list[_Child]) -> None:
    """Wait until one of them ends, prints, or is to be sent a signal."""
    until = min(moment for child in running for moment in (child.deadline, child.due) if moment is not None)
    waiting = max(0.0, min(until - time.monotonic(), 0.5))
    ended, _, _ = select.select([child.handle for child in running], [], [], waiting)
    for child in running:
        child.read()
        if child.handle in ended:
            child.reap()
            continue
        now = time.monotonic()
        if child.due is not None and child.due <= now:
            child.send()
        if child.deadline <= now:
            child.hung, child.deadline = True, float("inf")
            os.killpg(child.process, signal.SIGKILL)


def _become(command: Command, output: int) -> None:
    """Be the process of a command; returns, or raises what the command has raised."""
    os.setsid()
    os.chdir(command.folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    errors = os.open(command.errors, os.O_WRONLY) if command.errors else output
    if command.columns:
        os.environ["COLUMNS"] = str(command.columns)
    for old, new in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(old, new)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # the server's own may be of another kind, such as a file
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    if command.fresh:
        os.execv(sys.executable, [sys.executable, "-m", "routing_env", *command.arguments])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if command.file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command.file_size, command.file_size))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if command.fatal else signal.SIG_IGN)
    if command.change:
        _die_before(command.change)
    if command.clock:
        _set_clock(command.clock)
    sys.argv = ["routing-env", *command.arguments]
    runpy.run_module("routing_env", run_name="__main__", alter_sys=True)


def _die_before(number: int) -> None:
    """Let this process be killed before it makes a change to a file in its folder."""
    folder, counted = f"{Path.cwd()}{os.sep}", 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal counted
        if event not in _CHANGES and not (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = arguments[0]
        if isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(folder):  # noqa: PTH100
            return
        counted += 1
        if counted == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _set_clock(ahead: float) -> None:
    """Move the clock of this process."""
    from datetime import datetime, timedelta, tzinfo

    import routing_env.runs.directory

    class Moved(datetime):
        """Of another day."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=ahead)

    real = time.time
    setattr(routing_env.runs.directory, "datetime", Moved)  # noqa: B010
    setattr(time, "time", lambda: real() + ahead)  # noqa: B010


def _workers(process: int) -> list[int]:
    """The processes of a pool that a process has started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
    except OSError:  # one has ended meanwhile
        return []


if __name__ == "__main__":
    for _module in _IMPORTED:
        importlib.import_module(_module)
    gc.freeze()
    _serve(float(sys.argv[1]))
