"""What one process bears: long training, many environments, many agents and blocks, large data.

    python -m routing_env.maintenance.scale            # about ten minutes on two cores; Linux only
    python -m routing_env.maintenance.scale --quick    # a twentieth of the episodes, environments and samples

Every measurement runs in its own process. Memory is resident memory; a peak counts from the moment before the thing
measured begins. Handles are the open files, sockets and pipes of the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console

from routing_env.agents import make_router
from routing_env.data import MultiTaskData
from routing_env.data.planted import plant
from routing_env.game.build import make_game
from routing_env.maintenance.speed.processes import resident
from routing_env.routing_v0 import parallel_env
from routing_env.runs.process import prepare

Findings = list[tuple[str, str]]
"""What was measured, and the result."""


def handles() -> int:
    """Open handles of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def play(env: Any, rng: np.random.Generator) -> None:
    """Play an episode at random."""
    observations, _ = env.reset()
    while env.agents:
        masks = {agent: observation["action_mask"] for agent, observation in observations.items()}
        observations, *_ = env.step({agent: int(rng.choice(np.flatnonzero(mask))) for agent, mask in masks.items()})


def episodes(number: int) -> Findings:
    """One environment over many episodes."""
    env, rng, rows = parallel_env(data="planted"), np.random.default_rng(0), []
    marks = [number // 50, number // 5, number]
    for episode in range(1, number + 1):
        play(env, rng)
        if episode in marks:
            rows.append((f"after {episode:,} episodes", f"{resident('VmRSS'):.0f} MiB, {handles()} handles"))
    return rows


def environments(number: int) -> Findings:
    """Many environments: one after the other, then all at once."""
    rng, rows = np.random.default_rng(0), []
    for count in range(1, number + 1):
        env = parallel_env(data="planted", seed=count)
        play(env, rng)
        env.close()
        del env
        if count in (number // 10, number):
            rows.append((f"{count} environments in turn", f"{resident('VmRSS'):.0f} MiB, {handles()} handles"))
    data, before = plant(), resident("VmRSS")
    alive = [parallel_env(data=data, seed=seed) for seed in range(number)]
    for env in alive:
        play(env, rng)
    grown = (resident("VmRSS") - before) / number
    return [*rows, (f"{number} environments of one data set at once", f"{grown:.2f} MiB each, {handles()} handles")]


def sizes(tasks: int, blocks: int, layers: int) -> Findings:
    """A game of many tasks, blocks and layers, and WPL, which plays it."""
    data = plant(groups=tasks // 2, tasks_per_group=2, samples=40)
    before, begin = resident("VmRSS"), perf_counter()
    deals, batch = 5, 64
    game = make_game(data=data, blocks=blocks, layers=layers, hidden=64, batch_size=batch)
    router = make_router("wpl", game.spec)
    made, begin = perf_counter() - begin, perf_counter()
    router.play(game, deals * batch)
    per_deal = (perf_counter() - begin) / deals
    title = f"{tasks:,} tasks, {layers} layers of {blocks:,} blocks"
    result = f"made in {made:.1f} s, {1000 * per_deal:.0f} ms a deal of {batch} samples"
    return [(title, f"{result}, {resident('VmHWM') - before:.0f} MiB")]


def own_data(samples: int, copy: bool) -> Findings:
    """Own data of many samples with 64 features for two tasks."""
    rng = np.random.default_rng(0)
    inputs = np.empty((samples, 64), np.float32)
    for start in range(0, samples, 10_000):
        inputs[start : start + 10_000] = rng.standard_normal(inputs[start : start + 10_000].shape)
    rows, targets = np.arange(samples), rng.integers(0, 4, samples)
    before, begin = resident("VmRSS"), perf_counter()
    MultiTaskData.from_arrays({"a": (rows, targets), "b": (rows, targets % 2)}, inputs=inputs, copy=copy)
    grown, size = resident("VmHWM") - before, inputs.nbytes / 2**20
    title = f"own data, {samples:,} samples of {size:.0f} MiB for two tasks, copy={copy}"
    return [(title, f"{grown:.0f} MiB at the peak, {perf_counter() - begin:.1f} s")]


def states(agents: int) -> Findings:
    """The state of many agents, whole and compact."""
    data, rows = plant(groups=agents // 2, tasks_per_group=2, samples=40), []
    for parts in (None, ("v", "depth"), ("v",)):
        env = parallel_env(data=data, state_parts=parts)
        env.reset(seed=0)
        rows.append((f"state of {agents} agents, state_parts={parts}", f"{env.state().size:,} numbers"))
    return rows


def measurements(share: float) -> Iterator[tuple[Callable[..., Findings], tuple[Any, ...]]]:
    """What is measured, with its arguments.

    Args:
        share: of the full numbers of episodes, environments and samples.
    """
    yield episodes, (round(50_000 * share),)
    yield environments, (round(500 * share),)
    for tasks, blocks, layers in ((20, 20, 3), (1000, 20, 3), (20, 2000, 3), (20, 20, 100), (1000, 20, 100)):
        yield sizes, (tasks, blocks, layers)
    for copy in (True, False):
        yield own_data, (round(1_000_000 * share), copy)
    yield states, (500,)


def in_a_new_process(measure: Callable[..., Findings], arguments: tuple[Any, ...]) -> Findings:
    """Call a function in a fresh process with one thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=prepare, initargs=(1,)) as pool:
        return pool.submit(measure, *arguments).result()


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the episodes, environments and samples")
    share = 0.05 if parser.parse_args().quick else 1.0
    if not Path("/proc/self/fd").exists():
        parser.error("memory and handles are read from /proc, which only Linux has")
    waiting = Console(stderr=True)
    print("| what | result |\n|---|---|", flush=True)
    for measure, arguments in measurements(share):
        with waiting.status(f"{measure.__name__}{arguments}"):
            rows = in_a_new_process(measure, arguments)
        for what, result in rows:
            print(f"| {what} | {result} |", flush=True)


if __name__ == "__main__":
    main()
