"""Which samples are dealt when, what a data set is checked for, and the digits themselves."""

from __future__ import annotations

import hashlib
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from worlds import little_data

from routing_env.data import MultiTaskData, OnePerTask, ShuffledPass, Split, load, make_data
from routing_env.data.digits import FILE
from routing_env.types import Batch


def dealt(data: MultiTaskData, batch: Batch) -> list[int]:
    """Which training samples these are; inputs of the little data sets are all different."""
    x = data.gather(data.train).x
    return [int((x == sample).all(1).nonzero()) for sample in batch.x]


@given(batch_size=st.integers(1, 40), per_task=st.integers(2, 8), seed=st.integers(0, 9))
def test_a_pass_deals_every_sample_once_in_even_deals(batch_size: int, per_task: int, seed: int) -> None:
    data = little_data(per_task=per_task, validation=0)
    dealer = ShuffledPass(data, batch_size, seed)
    assert dealer.pass_size == len(data.train) == 3 * per_task
    passes: list[list[int]] = []
    for _ in range(2):
        deals = [dealer.next_batch() for _ in range(-(-dealer.pass_size // batch_size))]
        sizes = {len(batch) for batch in deals}
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        passes.append([sample for batch in deals for sample in dealt(data, batch)])
        assert sorted(passes[-1]) == list(range(dealer.pass_size))
        for batch in deals:
            assert torch.equal(batch.target, data.train.target[dealt(data, batch)])
            assert torch.equal(batch.task, data.train.task[dealt(data, batch)])
    assert passes[0] != passes[1], "every pass has its own order"


def test_one_per_task_deals_lane_t_to_task_t_and_wastes_no_sample() -> None:
    full = little_data(per_task=6, validation=0)
    data = replace(full, train=full.train[torch.tensor([0, 1, 2, 3, 6, 7, 12, 13, 14])])  # 4, 2 and 3 samples
    dealer = OnePerTask(data, data.tasks, 0)
    deals = [dealt(data, batch) for batch in (dealer.next_batch() for _ in range(12))]
    for task, size in enumerate((4, 2, 3)):
        lane = [deal[task] for deal in deals]
        assert {int(data.train.task[sample]) for sample in lane} == {task}
        for start in range(0, 12, size):
            assert len(set(lane[start : start + size])) == size, "a task goes through all its samples before any again"
    assert dealer.pass_size == 9


@pytest.mark.parametrize("kind", ["pass", "per task"])
@given(seed=st.integers(0, 9), before=st.integers(0, 12))
def test_a_dealer_continues_from_its_state_and_equals_its_like(kind: str, seed: int, before: int) -> None:
    data = little_data(per_task=5, validation=0)

    def make(seed: int) -> Any:
        return ShuffledPass(data, 4, seed) if kind == "pass" else OnePerTask(data, data.tasks, seed)

    dealer, like, other = make(seed), make(seed), make(seed + 1)
    for _ in range(before):
        assert torch.equal(dealer.next_batch().x, like.next_batch().x)
    state = dealer.state_dict()
    kept = deepcopy(state)
    following = [dealer.next_batch().x for _ in range(9)]
    assert repr(state) == repr(kept), "a state does not move on with its dealer"
    other.load_state_dict(state)
    assert all(torch.equal(x, other.next_batch().x) for x in following)


def test_a_batch_size_below_one() -> None:
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        ShuffledPass(little_data(), 0, 0)


@pytest.fixture(scope="module")
def digits() -> MultiTaskData:
    return load("digits", seed=3)


def test_digits_are_scikit_learns_and_every_image_serves_every_task(digits: MultiTaskData) -> None:
    pixels, labels = load_digits(return_X_y=True)
    _, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels, random_state=2018)
    assert digits.test.index[: len(test)].tolist() == test
    assert torch.equal(digits.inputs.view(-1, 64), torch.from_numpy(pixels).to(torch.uint8))
    for split in (digits.train, digits.validation, digits.test):
        assert torch.equal(split.target, (torch.from_numpy(labels)[split.index] == split.task).long())
        images = Counter(split.index.tolist())
        assert set(images.values()) == {10}
        assert torch.bincount(split.task).tolist() == [len(images)] * 10


def test_the_file_of_digits_has_the_checksum_that_the_docs_state() -> None:
    page = Path(__file__).parents[1] / "docs" / "data.md"
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in page.read_text(encoding="utf-8")


def test_splits_of_digits_share_no_image_and_only_validation_follows_the_seed(digits: MultiTaskData) -> None:
    parts = [set(split.index.tolist()) for split in (digits.train, digits.validation, digits.test)]
    assert sum(map(len, parts)) == len(parts[0] | parts[1] | parts[2]) == 1797
    assert [len(part) for part in parts] == [1293, 144, 360]
    other = load("digits", seed=4)
    assert torch.equal(other.test.index, digits.test.index)
    assert set(other.validation.index.tolist()) != parts[1]
    everything = load("digits", validation=0)
    assert set(everything.train.index.tolist()) == parts[0] | parts[1]
    assert len(everything.validation) == 0


def test_batches_are_standardised_by_the_training_images_alone(digits: MultiTaskData) -> None:
    images = digits.inputs[digits.train.index.unique()].double()
    mean, std = images.mean(), images.std(correction=0)
    batch = digits.gather(digits.test[torch.arange(7)])
    expected = (digits.inputs[digits.test.index[:7]].double() - mean) / std
    torch.testing.assert_close(batch.x.double(), expected, rtol=1e-5, atol=1e-5)


def test_batches_of_a_split_come_in_its_order(digits: MultiTaskData) -> None:
    batches = list(digits.batches("test", 1000))
    assert [len(batch) for batch in batches] == [1000, 1000, 1000, 600]
    assert torch.equal(torch.cat([batch.task for batch in batches]), digits.test.task)


INPUTS = torch.arange(12.0).view(6, 2)


def made(inputs: Tensor = INPUTS, *, validation: float = 0.0, classes: list[int] | None = None, **change: Any) -> Any:
    """Two tasks of two classes; four samples train, two test."""
    columns = {"index": torch.arange(4), "task": torch.tensor([0, 1, 0, 1]), "target": torch.tensor([0, 0, 1, 1])}
    train = Split(**{**columns, **change})
    test = Split(torch.tensor([4, 5]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    return make_data("own", inputs, train, test, ["a", "b"], classes or [2, 2], validation=validation)


def poisoned(value: float) -> Tensor:
    inputs = INPUTS.clone()
    inputs[3, 1] = value
    return inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": poisoned(torch.nan)}, "inputs of own hold NaN or infinity, first in row 3"),
        ({"inputs": poisoned(torch.inf)}, "inputs of own hold NaN or infinity, first in row 3"),
        ({"inputs": INPUTS.double()}, "inputs of own are torch.float64; they must be uint8 or float32"),
        (
            {"target": torch.tensor([0, 0, 1, 2])},
            r"training sample 3 of own has class 2; task 1 \(b\) has classes 0 to 1",
        ),
        ({"target": torch.tensor([0, 0, -1, 1])}, "training sample 2 of own has class -1"),
        ({"target": torch.tensor([0, 0, 1])}, "4 inputs, 4 tasks and 3 targets"),
        ({"task": torch.tensor([0, 1, 0, 2])}, "names task 2; there are 2"),
        ({"task": torch.tensor([0, 1, 0, -1])}, "names task -1"),
        ({"task": torch.tensor([0, 0, 0, 0])}, "task 'b' of own has no training samples"),
        ({"index": torch.tensor([0, 1, 2, 6])}, "names input 6; there are 6"),
        ({"index": torch.tensor([0, 1, 2, -1])}, "names input -1"),
        ({"validation": 1.0}, r"validation is 1.0; it must be a share .* in \[0, 1\)"),
        ({"validation": float("nan")}, "validation is nan"),
        ({"validation": 0.25}, "validation=0.25 leaves task '[ab]' of own without validation samples"),
        ({"validation": 0.75}, "validation=0.75 leaves task '[ab]' of own without training samples"),
    ],
)
def test_data_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**change)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    data = made(torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0], [9.0, 5.0], [9.0, 9.0]]))
    assert data.gather(data.train).x.isfinite().all()
