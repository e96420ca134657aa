"""What counterfactuals cost beside a training step, on the shapes of CIFAR-MTL with noise for pixels.

    python -m routing_env.maintenance.counterfactual_cost

The network is the paper's SimpleConvNet with 20 blocks in each of three layers. In turn, so that a change of the
machine's pace meets all of them alike, one thread takes steps without counterfactuals, with those of every action at
every depth, and with R whole routes that are drawn anew for each deal. The table shows medians of CPU time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import process_time

import torch

from routing_env.game.routing_game import RoutingGame
from routing_env.maintenance.speed.workloads import Workload
from routing_env.types import Decision, State

BATCHES = (32, 64, 256)
ROUTES = (5, 25)


def deal(game: RoutingGame, *, counterfactuals: bool = False, routes: int = 0) -> None:
    """Play one training deal at random."""
    spec = game.spec
    game.counterfactuals = counterfactuals
    state: State | None = game.reset()
    while state is not None:
        state = game.step(Decision(torch.randint(spec.actions, (len(state.task),), device=spec.device)))
    if routes:
        game.counterfactual_outcomes(torch.randint(spec.actions, (routes, spec.depth), device=spec.device))


def medians(batch: int, rounds: int) -> list[float]:
    """Median CPU seconds of a step of each kind.

    Args:
        batch: samples of a deal.
        rounds: steps of each kind; the first two do not count.
    """
    game = replace(Workload(), batch=batch).game()
    kinds: list[Callable[[], None]] = [
        lambda: deal(game),
        lambda: deal(game, counterfactuals=True),
        *(lambda routes=routes: deal(game, routes=routes) for routes in ROUTES),
    ]
    times: list[list[float]] = [[] for _ in kinds]
    for _ in range(rounds):
        for kind, measured in zip(kinds, times, strict=True):
            begin = process_time()
            kind()
            measured.append(process_time() - begin)
    return [median(measured[2:]) for measured in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="steps of each kind (default: %(default)s)")
    rounds: int = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| batch | step | with all actions | " + " | ".join(f"with {routes} routes" for routes in ROUTES) + " |")
    print("|---" * (3 + len(ROUTES)) + "|")
    for batch in BATCHES:
        plain, *others = medians(batch, rounds)
        cells = [f"{1000 * time:.1f} ms (x {time / plain:.2f})" for time in others]
        print(f"| {batch} | {1000 * plain:.1f} ms | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
