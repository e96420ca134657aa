"""The rows measured in fresh processes: memory and start-up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from routing_env.agents import make_router
from routing_env.maintenance.speed.measure import Contest, Side, seconds_of
from routing_env.maintenance.speed.workloads import Workload
from routing_env.runs.process import prepare

STATUS = Path("/proc/self/status")
"""File in which Linux reports the memory of a process."""

IMPORT_BAR = 1.5
"""``import routing_env`` over ``import torch``."""
FIRST_STEP_BAR = 1.15
"""The first training step on digits over PyTorch's own first step."""
FIRST_STEP = """
import torch
from routing_env import Decision, make_game
game = make_game()
state = game.reset()
while state is not None:
    state = game.step(Decision(torch.zeros_like(state.task)))
"""
FIRST_PLAIN_STEP = """
import torch
network = torch.nn.Linear(64, 2)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
optimizer.zero_grad()
torch.nn.functional.cross_entropy(network(torch.zeros(8, 64)), torch.zeros(8, dtype=torch.int64)).backward()
optimizer.step()
"""

Subject = Literal["plain", "routed", "wpl"]


def memory(workload: Workload) -> list[Contest]:
    """f) Memory that training takes beyond the imports, over the plain network's, in fresh processes; Linux only."""
    if not STATUS.exists():
        return []
    small = replace(workload, samples=max(2000, 5 * max(workload.counts)))
    title, sides = f"memory of training, batch {workload.batch}", partial(_memory_sides, small)
    return [Contest("f", title, sides, unit="MiB", warm_up=False, rounds=1, weight=8)]


def _memory_sides(workload: Workload) -> list[Side]:
    some = sorted({workload.counts[0], workload.blocks, workload.counts[-1]})
    return [
        Side("plain", process_memory(workload, "plain")),
        *(Side(f"routed, {n} blocks", process_memory(replace(workload, blocks=n), "routed")) for n in some),
        *(Side(f"WPL, {n} tasks", process_memory(replace(workload, tasks=n), "wpl")) for n in some),
    ]


def start_up(workload: Workload) -> list[Contest]:
    """g) Fresh processes: imports, ``routing-env --help``, and the first training step, relative to torch's own."""
    run = partial(process_time, threads=workload.threads)

    def imports() -> list[Side]:
        return [
            Side("import torch", run("-c", "import torch")),
            Side("import routing_env", run("-c", "import routing_env"), IMPORT_BAR),
            Side("from routing_env import make_game", run("-c", "from routing_env import make_game")),
        ]

    def first_steps() -> list[Side]:
        first = Side("routed, on digits", run("-c", FIRST_STEP), FIRST_STEP_BAR)
        return [Side("plain, on noise", run("-c", FIRST_PLAIN_STEP)), first]

    def help_() -> list[Side]:
        return [Side("one second", lambda: 1000.0), Side("routing-env --help", run("-m", "routing_env", "--help"), 1.0)]

    return [
        Contest("g", "fresh process", imports, warm_up=False, weight=4),
        Contest("g", "first training step", first_steps, warm_up=False, weight=8),
        Contest("g", "command line", help_, warm_up=False),
    ]


def process_time(*arguments: str, threads: int) -> Callable[[], float]:
    """Make a measurement of the milliseconds from the start to the end of a Python process."""
    return lambda: 1000 * seconds_of(lambda: _python(arguments, threads))


def process_memory(workload: Workload, subject: Subject) -> Callable[[], float]:
    """Make a measurement of the MiB that training takes in a fresh process beyond what the imports take."""
    code = f"from {__name__} import Workload, report_memory; report_memory({workload!r}, {subject!r})"
    return lambda: float(_python(("-c", code), workload.threads))


def report_memory(workload: Workload, subject: Subject, deals: int = 10) -> None:
    """Train for some deals and print the peak memory minus the memory in use before, in MiB.

    On a CUDA device this is torch's peak allocation there; on the CPU it is the resident memory of the process.

    Args:
        workload: What to train.
        subject: "plain", "routed" along random routes, or "wpl".
        deals: Number of deals to train on.
    """
    prepare(workload.threads)
    torch.optim.SGD([torch.zeros(1)]).zero_grad()  # the first call imports many modules
    before = 0.0 if workload.on_cuda else resident("VmRSS")
    if subject == "wpl":
        game = workload.game()
        make_router("wpl", game.spec).play(game, deals * workload.batch)
    else:
        step = workload.plain_step(workload.data()) if subject == "plain" else workload.routed_step()
        for _ in range(deals):
            step()
    peak = torch.cuda.max_memory_allocated(workload.device) / 2**20 if workload.on_cuda else resident("VmHWM")
    print(peak - before)


def resident(field: str) -> float:
    """Current ("VmRSS") or peak ("VmHWM") resident memory, in MiB.

    ``getrusage`` would not do: a child's peak there starts at its parent's.
    """
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{STATUS} has no {field}; leave out row f")


def _python(arguments: tuple[str, ...], threads: int) -> str:
    """Run a Python process and return its standard output.

    Raises:
        OSError: The process failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"python {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout
