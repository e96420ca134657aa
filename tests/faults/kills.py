"""Processes that are killed, again and again, until the command ends by itself."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from .runs import (
    GRIDS,
    RUNS,
    BreachError,
    Standing,
    Twin,
    again,
    codes_after,
    expect,
    first,
    run_in,
    settle,
)
from .server import Command, Ending, ForkServer

KILLS_IN_A_ROW = 5
"""At most, before a command is left to itself."""


@dataclass(frozen=True)
class Bench:
    """What a fault works with.

    Attributes:
        server: That runs the commands.
        folder: An empty folder.
        twins: Undisturbed, of the trainings and the grids by their names.
        random: Decides on everything that the fault leaves open.
    """

    server: ForkServer
    folder: Path
    twins: Mapping[str, Twin]
    random: Random

    def training(self) -> str:
        """One of the trainings."""
        return self.random.choice(sorted(self.twins.keys() - GRIDS.keys()))


@dataclass(frozen=True)
class Outcome:
    """What has come of a fault that broke nothing.

    Attributes:
        injected: Number of faults.
        refused: Of them, those that were answered by a clear error where nothing else is possible.
    """

    injected: int
    refused: int = 0


Hit = Callable[[Command, Twin, Random], Command]
"""Adds to a command what is to happen to it, given how it goes undisturbed."""


def at_a_random_moment(number: signal.Signals, to: str = "process", *, fresh: bool = False) -> Hit:
    """A signal at some time before the command would end.

    Args:
        number: The signal.
        to: Who receives it.
        fresh: Whether the process is to be a new interpreter, which first imports for some seconds.
    """

    def hit(command: Command, twin: Twin, random: Random) -> Command:
        after = random.uniform(0.02, (4.0 if fresh else 0.0) + twin.seconds)
        return replace(command, fresh=fresh, signal=int(number), to=to, after=after)

    return hit


def before_a_change(command: Command, twin: Twin, random: Random) -> Command:
    """SIGKILL before the command changes a file: creates, opens for writing, renames or removes it."""
    return replace(command, change=random.randint(1, 30))


def inside_a_write(command: Command, twin: Twin, random: Random) -> Command:
    """The kernel kills the process when it has written half of something: a file reaches a size."""
    sizes = [path.stat().st_size for path in twin.folder.rglob("*") if path.is_file() and path.stat().st_size > 1]
    return replace(command, file_size=random.randrange(1, random.choice(sizes)), fatal=True)


def training_killed(bench: Bench, hit: Hit) -> Outcome:
    """Kill a training and continue it, several times; then let it end.

    Raises:
        BreachError: It lost something, differs from its twin in the end, or printed a traceback.
    """
    training, kills, groups = bench.training(), 0, list[int]()
    wanted, twin = bench.random.randint(1, KILLS_IN_A_ROW), bench.twins[training]
    while True:
        run, before = run_in(bench.folder), Standing.of(bench.folder)
        command = first(training, bench.folder) if run is None else again(training, run, bench.folder)
        if kills < wanted:
            command = hit(command, twin, bench.random)
        (ending,) = bench.server.run(command)
        groups.append(ending.group)
        Standing.of(bench.folder).refuse_loss(before)
        if ending.code == 0:
            expect(ending, 0)
            break
        expect(ending, *_codes(command))
        kills += 1
    run = run_in(bench.folder)
    assert run is not None
    settle(run, twin, groups)
    return Outcome(kills)


def grid_killed(bench: Bench, grid: str, hit: Hit) -> Outcome:
    """Kill one of the ``GRIDS`` and give the same command again, several times; then let it end.

    Raises:
        BreachError: It lost something, differs from its twin in the end, or printed a traceback.
    """
    kills, groups, twin = 0, list[int](), bench.twins[grid]
    wanted = bench.random.randint(1, KILLS_IN_A_ROW)
    plain = Command(arguments=GRIDS[grid], folder=str(bench.folder))
    while True:
        before = Standing.of(bench.folder)
        command = hit(plain, twin, bench.random) if kills < wanted else plain
        (ending,) = bench.server.run(command)
        groups.append(ending.group)
        Standing.of(bench.folder).refuse_loss(before)
        if ending.code == 0:
            expect(ending, 0)
            break
        expect(ending, *_codes(command))
        kills += 1
    settle(bench.folder / RUNS, twin, groups)
    return Outcome(kills)


def _codes(command: Command) -> tuple[int, ...]:
    """The exit codes of a command that has met with its fault; 0 where it had ended before."""
    if command.signal:
        return codes_after(command)
    if command.change:
        return (-signal.SIGKILL,)
    if command.fatal:
        return (-signal.SIGXFSZ,)
    return (0,)


def stop_halfway(training: str, folder: Path, server: ForkServer) -> Path:
    """Begin a training in a folder, and kill it somewhere between its first and its last checkpoint.

    Returns:
        The folder of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for change in range(12, 60, 3):
        run = run_in(folder)
        command = first(training, folder) if run is None else again(training, run, folder)
        (ending,) = server.run(replace(command, change=change))
        expect(ending, -signal.SIGKILL)
        run = run_in(folder)
        if run is not None and Standing.of(run).rows.get(Path()):
            return run
    raise BreachError("exit codes", f"{training} was never killed between two checkpoints")


def halfway(bench: Bench, training: str) -> Path:
    """A run that was killed on the way, in the folder of a fault."""
    half = bench.twins[training].half
    if half is None:
        return stop_halfway(training, bench.folder, bench.server)
    run = bench.folder / RUNS / half.parent.name / half.name
    shutil.copytree(half, run)
    return run


def ended(bench: Bench, training: str, run: Path, groups: list[int] | None = None) -> Ending:
    """Continue a run to its end, which must be that of its twin; nothing that it has behind it may be lost."""
    before = Standing.of(run)
    (ending,) = bench.server.run(again(training, run, bench.folder))
    expect(ending, 0)
    Standing.of(run).refuse_loss(before)
    settle(run, bench.twins[training], [*(groups or ()), ending.group])
    return ending
