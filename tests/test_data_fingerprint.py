"""The fingerprint of the data: any change shows, and nothing else does."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from routing_env import MultiTaskData
from routing_env.data import Split, first_tasks, load, make_data

PARTS = ("train", "validation", "test")


def built(inputs: torch.Tensor, names: tuple[str, ...] = ("a", "b"), classes: int = 3) -> MultiTaskData:
    """Two tasks on twelve inputs; eight train and validate, four test."""
    index, task = torch.arange(12).repeat(2), torch.arange(2).repeat_interleave(12)
    everything = Split(index, task, (index + task) % 3)
    tests = index >= 8
    return make_data(
        "built", inputs, everything[~tests], everything[tests], names, [classes] * 2, validation=0.25, seed=1
    )


INPUTS = torch.arange(12 * 2 * 3, dtype=torch.float32).view(12, 2, 3)
DATA = built(INPUTS)


def changed(data: MultiTaskData) -> set[str]:
    """The splits whose fingerprints differ from those of ``DATA``."""
    return {part for part in PARTS if data.fingerprint[part] != DATA.fingerprint[part]}


def test_the_fingerprint_names_each_split() -> None:
    assert set(DATA.fingerprint) == set(PARTS)
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in DATA.fingerprint.values())
    assert len(set(DATA.fingerprint.values())) == 3
    assert set(load("digits", validation=0).fingerprint) == set(PARTS)


@given(row=st.integers(0, 11), place=st.integers(0, 5))
def test_a_changed_pixel_shows_in_the_split_that_uses_it(row: int, place: int) -> None:
    inputs = INPUTS.clone()
    inputs.view(12, -1)[row, place] += 1
    used = {part for part in PARTS if (getattr(DATA, part).index == row).any()}
    assert changed(replace(DATA, inputs=inputs)) == used
    assert len(used) == 1


@given(part=st.sampled_from(PARTS), at=st.integers(0, 3), field=st.sampled_from(["index", "task", "target"]))
def test_a_changed_reference_task_or_target_shows(part: str, at: int, field: str) -> None:
    split: Split = getattr(DATA, part)
    column = getattr(split, field).clone()
    column[at] = (column[at] + 1) % 2
    other = replace(DATA, **{part: replace(split, **{field: column})})
    assert changed(other) == ({part} if not torch.equal(column, getattr(split, field)) else set())


@pytest.mark.parametrize("part", PARTS)
def test_another_order_of_the_samples_shows(part: str) -> None:
    split: Split = getattr(DATA, part)
    assert changed(replace(DATA, **{part: split[torch.arange(len(split)).flip(0)]})) == {part}


def test_names_classes_and_types_show() -> None:
    assert changed(built(INPUTS, names=("a", "c"))) == set(PARTS)
    assert changed(built(INPUTS, classes=4)) == set(PARTS)
    assert changed(built(INPUTS.to(torch.uint8))) == set(PARTS)
    assert changed(built(INPUTS.view(12, 3, 2))) == set(PARTS)
    assert changed(first_tasks(DATA, 1)) == set(PARTS)
    digits = load("digits"), load("digits", seed=1)
    assert digits[0].fingerprint["test"] == digits[1].fingerprint["test"]
    assert digits[0].fingerprint["train"] != digits[1].fingerprint["train"]


def test_copies_and_the_place_of_the_rows_do_not_show() -> None:
    for same in (copy.deepcopy(DATA), copy.copy(DATA), DATA.to("cpu"), built(INPUTS.clone())):
        assert not changed(same)
    assert not changed(replace(DATA, name="other", groups=(0, 1)))
    shuffled = torch.tensor([5, 0, 11, 3, 8, 1, 9, 2, 10, 4, 7, 6])
    place = shuffled.argsort()
    moved = {part: replace(split, index=place[split.index] + 3) for part in PARTS for split in [getattr(DATA, part)]}
    more = torch.cat([torch.full((3, 2, 3), 7.0), INPUTS[shuffled]])
    assert not changed(replace(DATA, inputs=more, **moved))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_does_not_show() -> None:
    assert not changed(DATA.to("cuda"))


def test_it_is_computed_once() -> None:
    data = built(INPUTS.clone())
    before = data.fingerprint
    data.inputs.zero_()
    assert data.fingerprint is before
    assert changed(replace(data)) == set(PARTS)
