"""The rows that are measured in fresh processes: memory and start-up."""

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
from routing_env.maintenance.speed.measure import Comparison, Side, seconds_of
from routing_env.maintenance.speed.worlds import World
from routing_env.runs.process import prepare

STATUS = Path("/proc/self/status")
"""Where Linux tells a process what memory it has."""

IMPORT_BAR = 1.5
"""``import routing_env`` over ``import torch``."""
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

Network = Literal["plain", "routed", "wpl"]


def memory(world: World) -> list[Comparison]:
    """f) Memory that training takes beyond the imports, over the plain network's, in fresh processes. Needs Linux."""
    if not STATUS.exists():
        return []
    small = replace(world, samples=max(2000, 5 * max(world.counts)))
    title, sides = f"memory of training, batch {world.batch}", partial(_memory_sides, small)
    return [Comparison("f", title, sides, unit="MiB", warm_up=False, rounds=1, weight=8)]


def _memory_sides(world: World) -> list[Side]:
    some = sorted({world.counts[0], world.blocks, world.counts[-1]})
    return [
        Side("plain", process_memory(world, "plain")),
        *(Side(f"routed, {n} blocks", process_memory(replace(world, blocks=n), "routed")) for n in some),
        *(Side(f"WPL, {n} tasks", process_memory(replace(world, tasks=n), "wpl")) for n in some),
    ]


def start_up(world: World) -> list[Comparison]:
    """g) Fresh processes: imports, the help, and the first training step: on digits, and of torch's own."""
    run = partial(process_time, threads=world.threads)

    def imports() -> list[Side]:
        return [
            Side("import torch", run("-c", "import torch")),
            Side("import routing_env", run("-c", "import routing_env"), IMPORT_BAR),
            Side("from routing_env import make_game", run("-c", "from routing_env import make_game")),
        ]

    def first_steps() -> list[Side]:
        return [Side("plain, on noise", run("-c", FIRST_PLAIN_STEP)), Side("routed, on digits", run("-c", FIRST_STEP))]

    def help_() -> list[Side]:
        return [Side("one second", lambda: 1000.0), Side("routing-env --help", run("-m", "routing_env", "--help"), 1.0)]

    return [
        Comparison("g", "fresh process", imports, warm_up=False, weight=4),
        Comparison("g", "first training step", first_steps, warm_up=False, weight=8),
        Comparison("g", "command line", help_, warm_up=False),
    ]


def process_time(*arguments: str, threads: int) -> Callable[[], float]:
    """Measures the milliseconds from start to end of a Python process."""
    return lambda: 1000 * seconds_of(lambda: _python(arguments, threads))


def process_memory(world: World, network: Network) -> Callable[[], float]:
    """Measures the MiB that a world's training takes in a fresh process beyond what the imports take."""
    code = f"from {__name__} import World, report_memory; report_memory({world!r}, {network!r})"
    return lambda: float(_python(("-c", code), world.threads))


def report_memory(world: World, network: Network, deals: int = 10) -> None:
    """Build a world, train for some deals, and print the peak of the memory minus what there was before, in MiB.

    On a CUDA device it is torch's peak there; on the CPU the process's resident memory.

    Args:
        world: to be trained.
        network: "plain", "routed" along random routes, or "wpl".
        deals: to train on.
    """
    prepare(world.threads)
    torch.optim.SGD([torch.zeros(1)]).zero_grad()  # whose first call imports a lot
    before = 0.0 if world.on_cuda else _resident("VmRSS")
    if network == "wpl":
        game = world.game()
        make_router("wpl", game.spec).play(game, deals * world.batch)
    else:
        step = world.plain_step(world.data()) if network == "plain" else world.routed_step()
        for _ in range(deals):
            step()
    peak = torch.cuda.max_memory_allocated(world.device) / 2**20 if world.on_cuda else _resident("VmHWM")
    print(peak - before)


def _resident(field: str) -> float:
    """The resident memory now ("VmRSS") or at its peak ("VmHWM"), in MiB.

    Not ``getrusage``: there a child's peak begins with its parent's.
    """
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{STATUS} has no {field}; leave row f out")


def _python(arguments: tuple[str, ...], threads: int) -> str:
    """The output of a Python process.

    Raises:
        OSError: it failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"python {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout
