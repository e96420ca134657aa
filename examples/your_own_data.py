"""Your own tasks, from arrays: first with different numbers of classes, then regression.

The arrays come with scikit-learn: ``pip install scikit-learn && python examples/your_own_data.py``
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from sklearn.datasets import load_diabetes, load_wine

from routing_env import MultiTaskData, make_game
from routing_env.agents import make_router
from routing_env.data.summary import print_summary
from routing_env.evaluations import Evaluation

Arrays = Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.generic]]]


def wines() -> Arrays:
    """Two questions about the same 178 wines: which of three growers, and whether the alcohol is high."""
    measurements, grower = load_wine(return_X_y=True)
    alcohol, others = measurements[:, 0], np.ascontiguousarray(measurements[:, 1:])
    # Both tasks are given the same array, so it is stored once, and no wine trains one task and tests the other.
    return {"which grower": (others, grower), "high alcohol": (others, (alcohol > 13).astype(np.int64))}


def diabetes() -> Arrays:
    """Two regressions over the same 442 patients; targets of about unit size suit the usual learning rate."""
    patients, progression = (np.asarray(array, np.float64) for array in load_diabetes(return_X_y=True))
    rest, glucose = np.ascontiguousarray(patients[:, :-1]), patients[:, -1]
    return {
        "progression": (rest, (progression - progression.mean()) / progression.std()),
        "blood sugar": (rest, (glucose - glucose.mean()) / glucose.std()),
    }


def train(data: MultiTaskData, epochs: int) -> Evaluation:
    """Let WPL route the tasks through two blocks per layer, and evaluate on the test split."""
    game = make_game(data=data, blocks=2, layers=2, learning_rate=0.05, batch_size=16)
    router = make_router("wpl", game.spec)
    router.play(game, samples=epochs * len(data.train))
    return game.evaluate(router, "test")


def main(epochs: int = 30) -> None:
    """Train on both data sets and print the results."""
    torch.set_num_threads(1)  # batches this small gain nothing from more threads
    console = Console()
    data = MultiTaskData.from_arrays(wines(), name="wines", validation=0)
    print_summary(data, console)
    result = train(data, epochs)
    for task, name in enumerate(data.task_names):
        accuracy, majority = result.accuracy[task], result.majority[task]
        console.print(f"{name}: {accuracy:.0%} right; always predicting the majority class would be {majority:.0%}")

    data = MultiTaskData.from_arrays(diabetes(), name="diabetes", validation=0)
    print_summary(data, console)
    result = train(data, epochs)
    for task, name in enumerate(data.task_names):
        console.print(f"{name}: mean squared error {result.loss[task]:.2f}; always naming the mean would be about 1")


if __name__ == "__main__":
    main()
