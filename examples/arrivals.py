"""Nine digits first, the tenth later with few training samples: routers that grow, beside two plain networks.

One plain network adds a head to a frozen trunk that the first tasks have trained; the other is trained anew on the few
samples of the new task alone. docs/arrivals.md shows the results.

    python examples/arrivals.py --shots 5 20 100 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from routing_env.data import MultiTaskData, Split
from routing_env.data.arrivals import arriving, parse_stages
from routing_env.runs.learners import BaselineLearner, Learner, make_learner
from routing_env.runs.run import resolve_run

WPL: dict[str, Any] = {"router": "wpl", "router_options": ["rule=full-vector"]}
TRUNK: dict[str, Any] = {"router": "shared_trunk", "arrival_block_rate": 0.0}
ENTRANTS: dict[str, dict[str, Any]] = {
    "wpl, blocks at a rate of 0.1": WPL,
    "wpl, blocks at a rate of 0.01": {**WPL, "arrival_block_rate": 0.01},
    "wpl, frozen blocks": {**WPL, "arrival_block_rate": 0.0},
    "wpl, 0.1, replay 0.5": {**WPL, "replay": 0.5},
    "reinforce, blocks at a rate of 0.1": {"router": "reinforce"},
    "reinforce, 0.1, replay 0.5": {"router": "reinforce", "replay": 0.5},
    "new head on a frozen trunk": TRUNK,
    "new head on a frozen trunk, 0.01": {**TRUNK, "decay_factor": 0.01},  # decays where the first stage ends
}
ANEW = "trained anew"


@dataclass(frozen=True)
class Result:
    """Balanced test accuracies in %: means over the tasks of each kind.

    Attributes:
        old_before: of the tasks of the first stage, before others arrive.
        old_after: of the same tasks at the end.
        new: of the tasks that have arrived.
    """

    old_before: float
    old_after: float
    new: float


def accuracies(learner: Learner) -> np.ndarray:
    """Balanced test accuracy of every task, in %."""
    return 100 * learner.evaluate("test").balanced_accuracy.numpy()


def begin(given: dict[str, Any], shots: int) -> Learner:
    """A learner that stands before the first deal."""
    settings, data = resolve_run({**given, "shots": shots, "threads": 1})
    torch.manual_seed(settings.game.seed)
    return make_learner(settings, data)


def measure(given: dict[str, Any], shots: Sequence[int]) -> dict[int, Result]:
    """Train an entrant at several numbers of shots; the first stage, which has none, is trained once."""
    epochs = resolve_run(given)[0].epochs
    given = {**given, "decay_every": epochs} if "decay_factor" in given else given
    first = begin(given, shots[0])
    old = int(parse_stages(given["arrivals"])[0])
    first.play(first.goal(epochs), lambda: None)
    before, state = accuracies(first)[:old].mean(), deepcopy(first.state_dict())
    found: dict[int, Result] = {}
    for number in shots:
        learner = begin(given, number)
        place = learner.state_dict()
        holder, known = (place, state) if isinstance(learner, BaselineLearner) else (place["game"], state["game"])
        dealer = {**holder["dealer"], "dealt": known["dealer"]["dealt"]}  # the few samples are dealt in their own order
        again = {**state, "dealer": dealer} if holder is place else {**state, "game": {**known, "dealer": dealer}}
        learner.load_state_dict(again)
        learner.play(learner.goal(epochs + learner.later_epochs) - learner.samples, lambda: None)
        after = accuracies(learner)
        found[number] = Result(before, after[:old].mean(), after[old:].mean())
    return found


def later_tasks(data: MultiTaskData, first: int) -> MultiTaskData:
    """The tasks from a number on by themselves."""

    def cut(split: Split) -> Split:
        kept = split[split.task >= first]
        return Split(kept.index, kept.task - first, kept.target)

    return replace(
        data,
        **{name: cut(getattr(data, name)) for name in ("train", "validation", "test")},
        task_names=data.task_names[first:],
        classes=None if data.classes is None else data.classes[first:],
        groups=None if data.groups is None else data.groups[first:],
    )


def measure_anew(given: dict[str, Any], shots: Sequence[int]) -> dict[int, Result]:
    """Train a plain network on the few samples of the new tasks alone, for as long as the others get."""
    found: dict[int, Result] = {}
    stages = parse_stages(given["arrivals"])
    for number in shots:
        settings, data = resolve_run({**given, "router": "shared_trunk", "shots": number, "threads": 1})
        data = arriving(data, stages, shots=number, seed=settings.game.seed)
        learner = make_learner(replace(settings, arrivals=""), later_tasks(data, stages[0]))
        learner.play(settings.arrival_samples, lambda: None)
        found[number] = Result(float("nan"), float("nan"), accuracies(learner).mean())
    return found


def run(given: dict[str, Any], shots: Sequence[int]) -> dict[str, dict[int, Result]]:
    """All entrants at all numbers of shots, for one seed."""
    found = {name: measure({**given, **own}, shots) for name, own in ENTRANTS.items()}
    return found | {ANEW: measure_anew(given, shots)}


def table(seeds: Sequence[dict[str, dict[int, Result]]], shots: Sequence[int]) -> Table:
    """Means and standard deviations over seeds."""
    shown = Table("entrant", "shots", "old tasks before", "old tasks after", "new tasks")
    for name in seeds[0]:
        for number in shots:
            results = [found[name][number] for found in seeds]
            columns = [[getattr(result, field) for result in results] for field in ("old_before", "old_after", "new")]
            cells = [f"{np.mean(column):.1f} ± {np.std(column):.1f}" for column in columns]
            shown.add_row(name, str(number), *("" if cell.startswith("nan") else cell for cell in cells))
    return shown


def main(given: dict[str, Any], shots: Sequence[int], seeds: Sequence[int]) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    found = [run({**given, "seed": seed}, shots) for seed in seeds]
    Console().print(table(found, shots))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--arrivals", default="9+1", help="number of tasks of each of two stages (%(default)s)")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 20, 100], help="samples per class (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--passes", type=int, help="over the samples of the first stage; by default the usual ones")
    asked = parser.parse_args()
    options = {"data": asked.data, "data_dir": asked.data_dir, "arrivals": asked.arrivals, "epochs": asked.passes}
    main({name: value for name, value in options.items() if value is not None}, asked.shots, asked.seeds)
