"""The campaign: which faults there are, how many of each are injected, and the table of what has come of them."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

from rich import box
from rich.console import Console
from rich.table import Table

from . import damage, disturbances, raylets
from .kills import (
    Bench,
    Outcome,
    at_a_random_moment,
    before_a_change,
    grid_killed,
    inside_a_write,
    stop_halfway,
    training_killed,
)
from .runs import BREACHES, GRIDS, TRAININGS, BreachError, SkippedError, Twin, grid_twin, twin_of
from .server import LIMIT, ForkServer

Fault = Callable[[Bench], Outcome]
"""Injects one fault, or a few in a row."""


@dataclass(frozen=True, kw_only=True)
class CampaignOptions:
    """How many faults, and which."""

    kills: int = 300
    """Processes to kill."""
    corruptions: int = 500
    """Files to damage."""
    others: int = 10
    """How often to inject each other fault: full disks, folders that are moved, and so on."""
    raylets: int = 2
    """Nodes of Ray clusters to kill; needs Ray."""
    seed: int = 0
    """Decides on moments, bytes and everything else that is random; the speed of the machine has a say too."""
    jobs: int = 2
    """Faults at a time."""
    report: Path | None = None
    """Markdown file to write the table to."""
    kinds: tuple[str, ...] = ()
    """Only kinds of faults whose names begin with one of these; by default all."""
    trainings: tuple[str, ...] = tuple(TRAININGS)
    """Which of the trainings meet with faults."""
    repeat: str | None = None
    """Inject this fault alone, as a campaign has named it: KIND:NUMBER."""
    limit: float = LIMIT
    """Seconds after which a command counts as hanging."""
    keep: Path | None = None
    """Empty folder to work in, which stays; by default what broke an invariant stays, in a temporary folder."""


def _kills_of(grid: str, share: float) -> dict[str, tuple[float, Fault]]:
    """Kinds of kills of a command that trains many runs, each with its share of all kills."""
    kinds = {
        "SIGKILL": (1, at_a_random_moment(signal.SIGKILL)),
        "SIGKILL of all its processes": (0.5, at_a_random_moment(signal.SIGKILL, "group")),
        "SIGKILL of a worker": (1, at_a_random_moment(signal.SIGKILL, "worker")),
        "SIGTERM": (0.7, at_a_random_moment(signal.SIGTERM)),
        "SIGINT": (1, at_a_random_moment(signal.SIGINT, "group")),
    }
    return {
        f"{grid}: {kind}": (share * part, partial(grid_killed, grid=grid, hit=hit))
        for kind, (part, hit) in kinds.items()
    }


KILLS: Mapping[str, tuple[float, Fault]] = {
    "train: SIGKILL at a random moment": (3, partial(training_killed, hit=at_a_random_moment(signal.SIGKILL))),
    "train: SIGKILL before it changes a file": (5, partial(training_killed, hit=before_a_change)),
    "train: killed inside a write": (4, partial(training_killed, hit=inside_a_write)),
    "train: SIGTERM": (2, partial(training_killed, hit=at_a_random_moment(signal.SIGTERM))),
    "train: SIGINT": (2, partial(training_killed, hit=at_a_random_moment(signal.SIGINT))),
    "train in a new interpreter: SIGKILL": (
        0.7,
        partial(training_killed, hit=at_a_random_moment(signal.SIGKILL, fresh=True)),
    ),
    "train in a new interpreter: SIGTERM": (
        0.7,
        partial(training_killed, hit=at_a_random_moment(signal.SIGTERM, fresh=True)),
    ),
    "train in a new interpreter: SIGINT": (
        1.4,
        partial(training_killed, hit=at_a_random_moment(signal.SIGINT, "group", fresh=True)),
    ),
    **_kills_of("benchmark", share=1),
    **_kills_of("tune", share=0.5),
}
"""Kinds of kills, each with its share of them."""

CORRUPTIONS: Mapping[str, tuple[float, Fault]] = {
    "any file of a stopped run: a byte flipped, or cut": (2, partial(damage.any_file_damaged, finished=False)),
    "any file of a finished run: a byte flipped, or cut": (1, partial(damage.any_file_damaged, finished=True)),
    "content of a stopped run: values replaced, and more": (2, damage.content_damaged),
}

OTHERS: Mapping[str, tuple[float, Fault]] = {
    "a file that may not grow": (1, disturbances.file_too_large),
    "a full disk": (1, disturbances.disk_full),
    "a read-only disk": (1, disturbances.folder_read_only),
    "two resume one run": (1, disturbances.two_resume_one_run),
    "two trainings begin together": (1, disturbances.two_train),
    "two benchmarks at the same time": (0.5, disturbances.two_benchmarks),
    "the clock is moved": (1, disturbances.clock_moved),
    "the folder of a run is moved": (1, disturbances.folder_moved),
    "the folder of a benchmark is moved": (0.5, disturbances.benchmark_moved),
}

RAYLETS: Mapping[str, tuple[float, Fault]] = {"Ray: SIGKILL of a raylet": (1, raylets.raylets_killed)}


@dataclass
class Row:
    """A kind of fault, and what has come of it.

    Attributes:
        kind: In words.
        fault: That is injected.
        wanted: Number of faults to inject.
        tried: Number of tries begun; each has a number, and may inject several faults or come too late for any.
        injected: Number of faults so far.
        refused: Of them, those that were answered by a clear error.
        broken: Invariants that they broke.
        skipped: Why this kind cannot be injected here; empty if it can.
    """

    kind: str
    fault: Fault
    wanted: int
    tried: int = 0
    injected: int = 0
    refused: int = 0
    broken: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BREACHES, 0))
    skipped: str = ""

    @property
    def survived(self) -> int:
        """Faults after which all is as it is without them."""
        return self.injected - self.refused - sum(self.broken.values())

    def cells(self) -> list[str]:
        """Its row in the table."""
        if self.skipped:
            return [self.kind, f"skipped: {self.skipped}", *[""] * (2 + len(BREACHES))]
        return [self.kind, *map(str, (self.injected, self.survived, self.refused, *self.broken.values()))]


HEADER = ("fault", "injected", "survived", "refused with a clear error", *BREACHES)
"""Of the table in Markdown; the one in a terminal has one column for all that is broken."""


class Campaign:
    """All faults, injected by several workers.

    Args:
        options: How many, and which.
        console: For progress and the table.
    """

    def __init__(self, options: CampaignOptions, console: Console) -> None:
        self._options, self._console = options, console
        self._lock, self._stopped = threading.Lock(), False
        self._began = self._told = time.monotonic()
        every = [
            *_rows(KILLS, options.kills),
            *_rows(CORRUPTIONS, options.corruptions),
            *_rows(OTHERS, options.others * sum(share for share, _ in OTHERS.values())),
            *_rows(RAYLETS, options.raylets),
        ]
        self.rows = [row for row in every if not options.kinds or row.kind.startswith(options.kinds)]
        self.failures: list[str] = []
        """What broke an invariant, with the folder and the line that repeats it."""

    def run(self) -> list[str]:
        """Inject all faults and show the table.

        Returns:
            What broke an invariant, with the folder and the line that repeats it.
        """
        folder = self._options.keep or Path(tempfile.mkdtemp(prefix="faults-"))
        folder.mkdir(parents=True, exist_ok=True)
        tries: Iterator[tuple[Row, int]] = self._tries()
        if self._options.repeat is not None:
            kind, _, number = self._options.repeat.rpartition(":")
            self.rows = [row for row in _rows({**KILLS, **CORRUPTIONS, **OTHERS, **RAYLETS}, 1) if row.kind == kind]
            if not self.rows or not number.isdecimal():
                raise ValueError(f"repeat is {self._options.repeat!r}; it must be KIND:NUMBER, as a campaign names it")
            tries = iter([(self.rows[0], int(number))])
        workers = self._options.jobs
        with ExitStack() as stack:
            servers = [stack.enter_context(ForkServer(self._options.limit)) for _ in range(workers)]
            twins = self._twins(folder, servers[0])
            pool = stack.enter_context(ThreadPoolExecutor(workers))
            working = [pool.submit(self._work, tries, folder, twins, server) for server in servers]
            try:
                for one in working:
                    one.result()
            except KeyboardInterrupt:  # the table shows what has been injected so far
                self._stopped = True
                self._say("interrupted; waiting for the faults in progress")
        self._console.print(self.table())
        if self._options.report is not None:
            self._options.report.write_text(self.markdown(), encoding="utf-8")
        for failure in self.failures:
            self._console.print(failure, markup=False, highlight=False, soft_wrap=True)
        if not self.failures and self._options.keep is None:
            shutil.rmtree(folder)
        return self.failures

    def table(self) -> Table:
        """What has come of the faults."""
        table = Table(HEADER[0], *HEADER[1:3], "refused", "broken", box=box.SIMPLE)
        for row in self.rows:
            broken = ", ".join(f"{count} {breach}" for breach, count in row.broken.items() if count)
            table.add_row(*row.cells()[:4], broken or "-")
        return table

    def markdown(self) -> str:
        """The same as text, with sums."""
        rows = [row.cells() for row in self.rows]
        sums = [sum(int(cells[i]) for cells in rows if cells[i].isdecimal()) for i in range(1, len(HEADER))]
        lines = [HEADER, ["---"] * len(HEADER), *rows, ["all", *map(str, sums)]]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def _twins(self, folder: Path, server: ForkServer) -> dict[str, Twin]:
        """What is never disturbed, and where runs stand that go on after a fault."""
        place, twins = folder / "twins", dict[str, Twin]()
        for name in self._options.trainings:
            twin = twin_of(name, place / name, server)
            twins[name] = replace(twin, half=stop_halfway(name, place / f"{name}-half", server))
        for grid in GRIDS:
            if any(grid in row.kind and row.wanted for row in self.rows):
                twins[grid] = grid_twin(grid, place / grid, server)
        self._say(f"{len(twins)} commands without a fault")
        return twins

    def _tries(self) -> Iterator[tuple[Row, int]]:
        """The next fault to try, as long as there are too few of its kind."""
        for row in self.rows:
            while row.injected < row.wanted and row.tried < 10 + 10 * row.wanted and not row.skipped:
                row.tried += 1
                yield row, row.tried - 1

    def _work(self, tries: Iterator[tuple[Row, int]], folder: Path, twins: Mapping[str, Twin], to: ForkServer) -> None:
        """Inject one fault after the other."""
        while True:
            with self._lock:
                row, number = next(tries, (None, 0))
            if row is None:
                return
            self._inject(row, number, folder, twins, to)

    def _inject(self, row: Row, number: int, folder: Path, twins: Mapping[str, Twin], server: ForkServer) -> None:
        """Inject one fault, and count what has come of it."""
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{row.kind} {number}")
        place = folder / name
        place.mkdir()
        bench = Bench(server, place, twins, Random(f"{self._options.seed} {row.kind} {number}"))
        breach, told, outcome = "", "", Outcome(1)
        try:
            outcome = row.fault(bench)
        except SkippedError as error:
            with self._lock:
                row.skipped = str(error)
            return
        except BreachError as error:
            breach, told = error.breach, str(error)
        except Exception:  # an invariant that the campaign does not know by name
            breach, told = "bits lost", traceback.format_exc()
        with self._lock:
            row.injected += outcome.injected
            row.refused += outcome.refused
            if breach:
                row.broken[breach] += 1
                again = f"python -m tests.faults --seed {self._options.seed} --repeat '{row.kind}:{number}'"
                self.failures.append(f"\n{row.kind}: {told}\nfolder {place}\nagain  {again}")
                self._say(f"broken: {row.kind}:{number}: {told.splitlines()[0]}")
            elif self._options.keep is None:
                shutil.rmtree(place)
            if row.injected >= row.wanted or time.monotonic() - self._told > 10:
                self._say(f"{row.injected:>4} of {row.wanted:<4} {row.kind}")

    def _say(self, line: str) -> None:
        """A line of progress."""
        self._told = time.monotonic()
        done, all_ = sum(row.injected for row in self.rows), sum(row.wanted for row in self.rows)
        line = f"{self._told - self._began:6.0f} s  {done:>4}/{all_:<4}  {line}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rows(kinds: Mapping[str, tuple[float, Fault]], wanted: float) -> list[Row]:
    """Share a number of faults among kinds; each gets one at least if any does."""
    total = sum(share for share, _ in kinds.values())
    return [Row(kind, fault, -int(-wanted * share // total)) for kind, (share, fault) in kinds.items()]
