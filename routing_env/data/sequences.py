"""``sequences``: tasks that compose the same operations on a state along sequences of digits, for recurrent networks.

A state begins at 0, and each digit d of a sequence changes it by one of three operations: ``add`` gives s + d modulo
3, ``max`` the larger of s and d, ``take`` gives d. A task alternates two operations: the first at odd steps, the second
at even ones; there are nine tasks. The class of a sequence is the state at its end. A network in which each operation
has a cell, and each task chooses the cell of its operation at every step, represents all tasks with three cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from routing_env.data import DATASETS
from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.cuts import seeded

DIGITS = 3
TEST_SAMPLES = 150

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda state, digit: (state + digit) % DIGITS,
    "max": torch.maximum,
    "take": lambda state, digit: digit,
}
"""From the states and digits of sequences, int64 [N] each, to the next states."""

PROGRAMS = tuple(product(OPERATIONS, repeat=2))
"""For each task its operations at odd and at even steps."""


def load(*, validation: float = 0.1, seed: int = 0) -> MultiTaskData:
    """Draw the default tasks of :func:`compose_sequences`.

    Args:
        validation: Share of the training inputs that is held out for validation.
        seed: Seed of the validation cut.
    """
    return compose_sequences(validation=validation, seed=seed)


def compose_sequences(
    *,
    steps: int = 6,
    samples: int = 450,
    data_seed: int = 2018,
    validation: float = 0.1,
    seed: int = 0,
) -> MultiTaskData:
    """Draw sequences of digits for the nine tasks.

    Lengths are drawn evenly from 2 to ``steps``, and digits evenly. Sequences are then chosen such that every class of
    a task is equally frequent. Digits are one-hot, and the steps behind the end of a sequence are zeros, which is how
    :mod:`routing_env.game.recurrent` recognises padding.

    Args:
        steps: The most digits of a sequence, at least 2.
        samples: Training and validation samples of each task, a multiple of 3; 150 more are its test split.
        data_seed: Seed of the tasks themselves, independent of the seed of the run.
        validation: Share of the training inputs that is held out for validation.
        seed: Seed of the validation cut.

    Raises:
        ValueError: An argument is out of range.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}; it must be at least 2")
    if samples < DIGITS or samples % DIGITS:
        raise ValueError(f"samples is {samples}; it must be a multiple of {DIGITS}, one share for each class")
    generator = seeded(data_seed)
    per_class = (samples + TEST_SAMPLES) // DIGITS
    inputs: list[Tensor] = []
    for program in PROGRAMS:
        chosen: list[Tensor] = [torch.empty(0, steps, DIGITS, dtype=torch.float32)] * DIGITS
        while min(map(len, chosen)) < per_class:
            length = torch.randint(2, steps + 1, (4 * per_class,), generator=generator)
            digit = torch.randint(DIGITS, (4 * per_class, steps), generator=generator)
            x, label = one_hot(digit, length), run_program(program, digit, length)
            chosen = [torch.cat([found, x[label == c]])[:per_class] for c, found in enumerate(chosen)]
        inputs.append(torch.stack(chosen, dim=1).flatten(0, 1))  # classes in turn
    task = torch.arange(len(PROGRAMS))

    def split(first: int, count: int) -> Split:
        index = task[:, None] * DIGITS * per_class + torch.arange(first, first + count)
        return Split(index.flatten(), task.repeat_interleave(count), (index % DIGITS).flatten())

    data = make_data(
        "sequences",
        torch.cat(inputs),
        split(0, samples),
        split(samples, TEST_SAMPLES),
        ["/".join(program) for program in PROGRAMS],
        [DIGITS] * len(PROGRAMS),
        validation=validation,
        seed=seed,
    )
    return replace(data, usual=DATASETS["sequences"].usual)


def run_program(program: tuple[str, ...], digit: Tensor, length: Tensor) -> Tensor:
    """The states at the end of sequences.

    Args:
        program: Names of the operations that take turns.
        digit: int64 [N, steps].
        length: int64 [N].

    Returns:
        int64 [N].
    """
    state = torch.zeros_like(length)
    for step in range(digit.shape[1]):
        after = OPERATIONS[program[step % len(program)]](state, digit[:, step])
        state = after.where(step < length, state)
    return state


def one_hot(digit: Tensor, length: Tensor) -> Tensor:
    """Digits int64 [N, steps] as float32 [N, steps, 3], zero behind the end of each sequence."""
    there = torch.arange(digit.shape[1]) < length[:, None]
    return F.one_hot(digit, DIGITS).to(torch.float32) * there[:, :, None]
