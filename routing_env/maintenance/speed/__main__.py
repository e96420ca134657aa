"""``python -m routing_env.maintenance.speed``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from routing_env.maintenance.speed.measure import QUICK, Effort
from routing_env.maintenance.speed.speed_table import (
    distances,
    machine,
    measure_rows,
    outside_reference,
    save_speed,
    speed_table,
)
from routing_env.maintenance.speed.workloads import workload_on


def speed(
    *,
    rows: tuple[Literal["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], ...] = (),
    quick: bool = False,
    threads: int = 1,
    device: str = "cpu",
    run_dir: Path = Path("runs/speed"),
) -> None:
    """Measure how fast routing is relative to the plain network: one table of ratios, see docs/speed.md.

    Args:
        rows: Rows of the table: a training step, b blocks and tasks added, c routers, d environments, e evaluation,
            f memory, g start-up, h epochs, i seeds at once, j captured deals (CUDA); all by default, all but f and g
            with --quick.
        quick: Measure for seconds instead of minutes, with fewer rounds.
        threads: CPU threads.
        device: Device to measure on: cpu, cuda, cuda:1, ...
        run_dir: Folder for the table as CSV and Markdown, and for the figures; files of an earlier run are replaced.
    """
    console = Console()
    workload = workload_on(device, threads, quick=quick)
    chosen = rows or ("abcdehij" if quick else "abcdefghij")
    try:
        results = measure_rows(chosen, workload, QUICK if quick else Effort(), console)
    except KeyboardInterrupt:
        console.print("\ninterrupted; nothing was saved")
        sys.exit(130)
    console.print(speed_table(results))
    if lines := distances(results):
        console.print("\n".join(["", *lines, outside_reference(), ""]), highlight=False, soft_wrap=True)
    console.print(machine(workload), style="dim", highlight=False)
    for path in save_speed(results, workload, run_dir):
        console.print(f"saved  {path}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    try:
        tyro.cli(speed, prog="python -m routing_env.maintenance.speed")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
