"""``compose``: synthetic tasks that are programs over a few hidden functions, so that the best route is known.

A hidden function is what one block of a fully connected network computes: a linear map followed by ReLU. A program
applies some of the functions one after the other, and a linear read-out that all tasks share turns the result into a
label. A recursive network with PASS represents every program exactly: one block per function, one decision per step,
PASS after the end of a short program, and the read-out as a block of the last layer. The router ``oracle`` plays these
routes. A task alone has too few samples to learn its program; all tasks together have enough to learn the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import pi

import torch
from torch import Tensor

from routing_env.data import DATASETS
from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.cuts import seeded

SHORTEST = 2
"""Length of the shortest program."""
TEST_PER_CLASS = 25
"""Test samples of each task and class."""

_MARGIN = 1e-3
_POOLS = 200
"""Times that a task draws inputs before a class counts as missing."""


@dataclass(frozen=True)
class HiddenFunctions:
    """The functions that programs consist of, and the read-out that follows them.

    Attributes:
        weight: float64 [K, F, F]; function k maps v to ReLU(``weight[k]`` v).
        readout: float64 [C, F]; the scores of the classes are ``readout`` v, and the label is the class of the largest.
    """

    weight: Tensor
    readout: Tensor

    def apply(self, program: Sequence[int], x: Tensor) -> Tensor:
        """Apply the functions of a program to x [B, F] in their order.

        Returns:
            float64 [B, F].
        """
        return reduce(lambda v, k: (v @ self.weight[k].T).relu(), program, x.to(torch.float64))

    def scores(self, program: Sequence[int], x: Tensor) -> Tensor:
        """Compute the scores float64 [B, C] that a program gives to x [B, F]."""
        return self.apply(program, x) @ self.readout.T


def hidden_functions(functions: int, features: int, classes: int, generator: torch.Generator) -> HiddenFunctions:
    """Draw hidden functions and a read-out.

    Every matrix is a random orthogonal one after the subtraction of the mean over the features. A weight is scaled in
    addition. So, whatever the program, vectors keep their magnitude, and no class is much more frequent than another.

    Args:
        functions: K.
        features: F.
        classes: C, less than F.
        generator: source of the randomness; ``compose(data_seed=s)`` begins with a generator of seed s.
    """
    centre = torch.eye(features, dtype=torch.float64) - 1 / features
    gain = (1 / 2 - 1 / (2 * pi)) ** -0.5  # 1 / the standard deviation of ReLU(z) for standard normal z

    def matrix() -> Tensor:
        q, r = torch.linalg.qr(torch.randn(features, features, generator=generator, dtype=torch.float64))
        return q * r.diagonal().sign() @ centre  # with these signs the decomposition is unique

    return HiddenFunctions(torch.stack([gain * matrix() for _ in range(functions)]), matrix()[:classes])


def load(*, validation: float = 0.1, seed: int = 0) -> MultiTaskData:
    """Draw the default tasks of :func:`compose`.

    Args:
        validation: share of the training inputs that is held out for validation.
        seed: seed of the validation cut.
    """
    return compose(validation=validation, seed=seed)


def compose(
    *,
    functions: int = 3,
    longest: int = 3,
    tasks: int = 24,
    samples: int = 400,
    features: int = 12,
    classes: int = 8,
    data_seed: int = 2018,
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    """Draw tasks that are different programs over the same hidden functions.

    Inputs are normally distributed and different for each task, with equally many inputs of each class. An input whose
    two best scores are nearly equal is replaced, so that float32 gives the same label as float64. The inputs have mean
    0 and deviation 1 by construction and are used as they are, so that the functions apply to exactly these numbers;
    ``first_tasks`` and ``training_share`` standardise what they keep, as for all data.

    Args:
        functions: number of hidden functions, K.
        longest: length of the longest programs; the shortest have 2 functions.
        tasks: number of tasks, each with a different program.
        samples: training and validation samples of each task, a multiple of ``classes``; 25 more of each class are its
            test split.
        features: features of an input and of every vector after it, more than ``classes``.
        classes: classes of each task.
        data_seed: seed of the functions, programs and inputs, independent of the seed of the run.
        validation: share of the training inputs that is held out for validation.
        seed: seed of the validation cut.

    Raises:
        ValueError: An argument is out of range, there are fewer programs than tasks, or a class hardly ever occurs.
    """
    for name, value, least in (
        ("functions", functions, 1),
        ("longest", longest, SHORTEST),
        ("tasks", tasks, 1),
        ("classes", classes, 2),
        ("samples", samples, classes),
        ("features", features, classes + 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if samples % classes:
        raise ValueError(f"samples is {samples}; it must be a multiple of the {classes} classes")
    possible = sum(functions**length for length in range(SHORTEST, longest + 1))
    if tasks > possible:
        raise ValueError(f"tasks is {tasks}, but there are only {possible} programs; raise functions or longest")
    generator = seeded(data_seed)
    hidden = hidden_functions(functions, features, classes, generator)
    programs = _draw_programs(functions, longest, tasks, generator)
    per_class = samples // classes + TEST_PER_CLASS
    inputs = torch.stack([_draw_inputs(hidden, program, per_class, generator) for program in programs])
    row = torch.arange(tasks * per_class * classes).view(tasks, per_class, classes)

    def split(rows: Tensor) -> Split:
        index = rows.flatten()
        return Split(index, index // (per_class * classes), index % classes)

    return replace(
        make_data(
            "compose",
            inputs.view(-1, features),
            split(row[:, :-TEST_PER_CLASS]),
            split(row[:, -TEST_PER_CLASS:]),
            [" ".join(f"f{k}" for k in program) for program in programs],
            [classes] * tasks,
            validation=validation,
            seed=seed,
        ),
        mean=torch.zeros(features, dtype=torch.float32),
        std=torch.ones(features, dtype=torch.float32),
        programs=tuple(programs),
        usual={**DATASETS["compose"].usual, "hidden": features, "blocks": functions, "depth": longest + 1},
    )


def program_score(routes: Tensor, programs: Sequence[Sequence[int]], *, pass_action: int | None = None) -> float:
    """Measure how much of the programs a router has found: the share of steps at which route and program agree.

    A task's route consists of the action that it took most often at each depth but the last, without PASS. Which block
    stands for which function is up to the router: steps are compared under the one-to-one assignment of blocks to
    functions that makes most of them agree.

    Args:
        routes: int64 [T, D, A], how often each task took each action, as in an ``Evaluation``.
        programs: the program of each task, ``MultiTaskData.programs``.
        pass_action: the PASS action, ``GameSpec.pass_action``.

    Returns:
        1 if every route is the program of its task; a step that only one of the two has counts as a disagreement.
    """
    from scipy.optimize import linear_sum_assignment

    together = torch.zeros(routes.shape[2], 1 + max(k for program in programs for k in program), dtype=torch.int64)
    steps = 0
    for actions, program in zip(routes[:, :-1].argmax(2).tolist(), programs, strict=True):
        route = [action for action in actions if action != pass_action]
        steps += max(len(route), len(program))
        for action, k in zip(route, program, strict=False):
            together[action, k] += 1
    action, function = linear_sum_assignment(together.numpy(), maximize=True)
    return float(together[action, function].sum()) / steps


def _draw_programs(functions: int, longest: int, count: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """Different programs, of lengths that are equally probable while there are enough programs of each."""
    programs: dict[tuple[int, ...], None] = {}
    while len(programs) < count:
        length = int(torch.randint(SHORTEST, longest + 1, (), generator=generator))
        programs[tuple(torch.randint(functions, (length,), generator=generator).tolist())] = None
    return list(programs)


def _draw_inputs(hidden: HiddenFunctions, program: Sequence[int], per_class: int, generator: torch.Generator) -> Tensor:
    """Inputs float32 [per_class, C, F] such that the program labels ``inputs[:, c]`` as c."""
    classes, features = hidden.readout.shape
    found: list[Tensor] = [torch.empty(0, features, dtype=torch.float32)] * classes
    for _ in range(_POOLS):
        x = torch.randn(2 * per_class * classes, features, generator=generator, dtype=torch.float32)
        best, label = hidden.scores(program, x).topk(2)
        clear = best[:, 0] - best[:, 1] > _MARGIN
        found = [torch.cat([have, x[clear & (label[:, 0] == c)]]) for c, have in enumerate(found)]
        if min(map(len, found)) >= per_class:
            return torch.stack([have[:per_class] for have in found], dim=1)
    rare = min(range(classes), key=lambda c: len(found[c]))
    raise ValueError(
        f"the program {' '.join(f'f{k}' for k in program)} hardly ever gives class {rare}; "
        "raise features, lower classes or longest, or change data_seed"
    )
