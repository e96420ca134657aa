"""The form of the data: standardisation, the validation cut, your own tasks, summaries."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from worlds import layered

from routing_env import parallel_env
from routing_env.data import EndlessPass, MultiTaskData, OnePerTask, ShuffledPass, Split, load, make_data
from routing_env.data.summary import print_summary, save_contact_sheet
from routing_env.game.build import make_game
from routing_env.types import Decision, State

RNG = np.random.default_rng(0)


def first_legal(state: State) -> torch.Tensor:
    return state.legal.to(torch.int64).argmax(1)


def one_task(inputs: torch.Tensor, validation: float = 0.0) -> MultiTaskData:
    """The last four inputs test, the others train."""
    rows = torch.arange(len(inputs))
    split = Split(rows, torch.zeros_like(rows), rows % 2)
    return make_data("one", inputs, split[rows[:-4]], split[rows[-4:]], ["only"], [2], validation=validation)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 5, 4), (0, 2, 3)), ((1, 6, 6), (0, 2, 3)), ((7,), 0), ((5, 4), None), ((2, 2, 2, 2), None)]
)
def test_standardisation_is_by_channel_or_feature_of_the_training_inputs(
    dtype: Any, shape: tuple[int, ...], axes: Any
) -> None:
    inputs = RNG.integers(0, 256, (2500, *shape)).astype(dtype)
    inputs[-4:] = 255
    data = one_task(torch.from_numpy(inputs))
    train = inputs[:-4].astype(np.float64)
    expected = (train - train.mean(axes, keepdims=True)) / train.std(axes, keepdims=True)
    batch = data.gather(data.train)
    assert batch.x.dtype == torch.float32
    np.testing.assert_allclose(batch.x.numpy(), expected, atol=1e-5)


def test_a_constant_channel_stays_finite() -> None:
    inputs = torch.ones(20, 3)
    inputs[:, 1] = torch.arange(20)
    assert one_task(inputs).gather(one_task(inputs).test).x.isfinite().all()


def test_a_constant_feature_keeps_its_scale_whatever_its_value() -> None:
    inputs = torch.randn(300, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 500)
    inputs[:, 1:] = 100 * torch.randn(1, 499, generator=torch.Generator().manual_seed(1))
    assert (one_task(inputs).std[1:] == 1).all()


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.5])
def test_validation_is_a_share_of_the_training_inputs_and_shares_none(validation: float) -> None:
    data, other, again = (load("digits", validation=validation, seed=seed) for seed in (0, 1, 0))
    train, validates, test = (set(split.index.tolist()) for split in (data.train, data.validation, data.test))
    assert not train & validates
    assert not (train | validates) & test
    assert len(validates) == round(validation * 1437)
    assert train | validates | test == set(range(1797))
    assert torch.equal(data.validation.index, again.validation.index)
    assert torch.equal(data.test.index, other.test.index)
    assert not validation or set(other.validation.index.tolist()) != validates


def test_a_cut_that_leaves_a_task_without_samples_is_refused() -> None:
    arrays = {"a": (RNG.normal(size=(50, 2)), np.arange(50) % 2), "b": (RNG.normal(size=(6, 2)), np.arange(6) % 2)}
    with pytest.raises(ValueError, match=r"validation=0\.02 leaves task 'a' of own without validation samples"):
        MultiTaskData.from_arrays(arrays, validation=0.02)
    with pytest.raises(ValueError, match="must be a share"):
        MultiTaskData.from_arrays(arrays, validation=1.0)


# Your own tasks


def test_arrays_become_tasks_with_class_counts_of_their_own() -> None:
    small, large = RNG.normal(size=(40, 3)), torch.from_numpy(RNG.normal(size=(60, 3)))
    arrays = {"small": (small, np.arange(40, dtype=np.int16) % 2), "large": (large, torch.arange(60) % 5)}
    data = MultiTaskData.from_arrays(arrays, test=0.25, validation=0.1, name="mine")
    assert (data.name, data.task_names, data.classes, data.outputs) == ("mine", ("small", "large"), (2, 5), 5)
    assert torch.bincount(data.test.task).tolist() == [10, 15]
    splits = data.train, data.validation, data.test
    index, task, target = (torch.cat([getattr(s, field) for s in splits]) for field in ("index", "task", "target"))
    assert len(index.unique()) == 100
    for name, (inputs, targets) in arrays.items():
        mine = (task == data.task_names.index(name)).nonzero().squeeze(1)
        found = {
            (*data.inputs[i].tolist(), c) for i, c in zip(index[mine].tolist(), target[mine].tolist(), strict=True)
        }
        rows = np.asarray(inputs, np.float32).tolist()
        assert found == {(*row, int(c)) for row, c in zip(rows, targets, strict=True)}

    game = make_game(seed=0, data=data)
    game.reset()
    evaluation = game.evaluate(first_legal, "test")
    assert evaluation.samples.tolist() == [10, 15]
    layered(game.network).bank(2).blocks[0].get_parameter("bias").data.copy_(torch.tensor([0.0, 0.0, 9.0, 9.0, 9.0]))
    batch = data.gather(data.test)
    state: State | None = game.reset(batch, train=False)
    while state is not None:
        state = game.step(Decision(first_legal(state)))
    prediction = game.trace.outcome.prediction
    assert prediction[batch.task == 0].max() <= 1  # the small task has no class 2
    assert prediction[batch.task == 1].min() >= 2


def test_tasks_that_share_an_array_share_its_inputs_and_its_cuts() -> None:
    images = RNG.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8)
    arrays = {"odd": (images, np.arange(50) % 2), "third": (images, np.arange(50) % 3)}
    data = MultiTaskData.from_arrays(arrays)
    assert data.inputs.shape == (50, 1, 8, 8)
    assert data.inputs.dtype == torch.uint8
    used = [set(split.index.tolist()) for split in (data.train, data.validation, data.test)]
    assert sum(map(len, used)) == len(set.union(*used)) == 50
    assert all(
        len(split) == 2 * len(rows) for split, rows in zip((data.train, data.validation, data.test), used, strict=True)
    )


def test_regression_is_rewarded_with_the_negative_loss() -> None:
    inputs = RNG.normal(size=(60, 4)).astype(np.float32)
    arrays = {"sum": (inputs, inputs.sum(1)), "first": (inputs, inputs[:, 0])}
    tests = {name: (x[:12].copy(), y[:12]) for name, (x, y) in arrays.items()}
    data = MultiTaskData.from_arrays(arrays, test=tests, validation=0)
    assert (data.classes, data.outputs, len(data.test), len(data.train)) == (None, 1, 24, 120)
    game = make_game(data=data)
    state: State | None = game.reset()
    while state is not None:
        state = game.step(Decision(first_legal(state)))
    outcome = game.trace.outcome
    expected = -(outcome.output - outcome.target).square().mean(1)
    assert torch.allclose(game.trace.final_reward, expected)
    assert game.evaluate(first_legal, "test").overall_loss > 0


X, Y = RNG.normal(size=(20, 3)), np.arange(20) % 2


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ({}, {}, "there are no tasks"),
        ({"a": (X, Y), "b": (X.copy(), Y[:-1])}, {}, "task 'b' has 20 training inputs but 19 targets"),
        ({"a": (X, Y), "b": (np.where(X > 2, np.nan, X) * np.inf, Y)}, {}, "inputs of task 'b' hold NaN or infinity"),
        ({"a": (X, np.full(20, np.nan))}, {}, "targets of task 'a' hold NaN or infinity"),
        ({"a": (X, Y), "b": (X[:, :2], Y)}, {}, r"inputs of task 'b' are .* \[20, 2\], those of 'a' .* \[20, 3\]"),
        ({"a": (X, Y), "b": (X.copy(), Y - 1)}, {}, "targets of task 'b' hold -1; classes count from 0"),
        ({"a": (X, Y)}, {"classes": {"a": 1}}, r"has class 1; task 0 \(a\) has classes 0 to 0"),
        ({"a": (X, Y)}, {"classes": {"b": 2}}, r"classes names the tasks \['b'\]"),
        ({"a": (X, Y), "b": (X, Y * 0.5)}, {}, "make all classes, or all regression of one width"),
        ({"a": (X, Y * 0)}, {}, "task 'a' has a single class"),
        ({"a": (X, Y[:, None])}, {}, r"classes must be of shape \[samples\]"),
        ({"a": (X[:, 0], Y)}, {}, r"inputs of task 'a' have shape \[20\]"),
        ({"a": (X[:0], Y[:0])}, {}, r"inputs of task 'a' have shape \[0, 3\]"),
        ({"a": (np.array([["x"]] * 20), Y)}, {}, "inputs of task 'a' are not numbers but strings"),
        ({"a": (X, np.array(["no", "yes"])[Y])}, {}, "targets of task 'a' are not numbers"),
        ({"a": (X, X[:, :2])}, {"test": {"a": (X, X[:, :1])}}, "targets of own differ in kind or width"),
        ({"a": (X, Y)}, {"test": {"a": (X, Y * 0.5)}}, "targets of own differ in kind or width"),
        ({"a": (X, Y)}, {"test": 0}, "test is 0; it must be a share"),
        ({"a": (X, Y)}, {"test": {"b": (X, Y)}}, r"test has the tasks \['b'\]"),
        ({"a": (X, Y)}, {"test": {"a": (X[:, :2], Y)}}, r"test inputs of task 'a' are .*\[20, 2\]"),
    ],
)
def test_arrays_that_make_no_sense_are_refused_by_name(tasks: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiTaskData.from_arrays(tasks, **options)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, bool])
def test_classes_may_be_of_any_whole_type(kind: Any) -> None:
    data = MultiTaskData.from_arrays({"a": (X, Y.astype(kind))})
    assert data.train.target.dtype == torch.int64
    assert data.classes == (2,)


def test_settings_that_data_of_ones_own_would_ignore_are_refused() -> None:
    data = MultiTaskData.from_arrays({"a": (X, Y), "b": (X, 1 - Y)})
    with pytest.raises(ValueError, match=r"tasks is 1 beside data of your own.*first_tasks"):
        make_game(tasks=1, data=data)
    with pytest.raises(TypeError, match="first_tasks and training_share"):
        parallel_env(data=data, tasks=1)
    with pytest.raises(TypeError, match="first_tasks and training_share"):
        parallel_env(data=data, fraction=0.5)


def test_regression_cannot_be_right() -> None:
    data = MultiTaskData.from_arrays({"a": (X, X[:, :1])})
    with pytest.raises(ValueError, match="final_reward is 'correct'"):
        make_game(final_reward="correct", data=data)


def test_one_task_is_a_game_too() -> None:
    env = parallel_env(data="digits", tasks=1, blocks=2)
    for _ in range(3):
        env.reset()
        while env.agents:
            env.step({"task_0": 0})
    assert env.game.samples == 3


# Summaries


def test_settings_of_the_process_change_no_built_in_data() -> None:
    names = ("digits", "planted")
    plain = [load(name).fingerprint for name in names]
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        assert [load(name).fingerprint for name in names] == plain
        data = load("planted")
        for dealer in (ShuffledPass(data, 24, 0), EndlessPass(data, 24, 0), OnePerTask(data, 24, 0)):
            x = dealer.next_batch().x
            assert (x.dtype, x.device.type) == (torch.float32, "cpu")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_the_summary_counts_samples_and_classes() -> None:
    data = load("digits", validation=0)
    out = io.StringIO()
    print_summary(data, Console(file=out, width=120))
    lines = [line.split() for line in out.getvalue().splitlines()]
    row = next(line for line in lines if line[1:4] == ["3", "or", "not"])
    yes = int((data.train.target[data.train.task == 3] == 1).sum())
    assert [word for word in row if word != "│"] == [
        "3",
        "or",
        "not",
        "1,437",
        "0",
        "360",
        "2",
        str(1437 - yes),
        str(yes),
    ]
    assert "14,370" in out.getvalue()


def test_the_summary_of_a_regression_shows_mean_and_deviation() -> None:
    data = MultiTaskData.from_arrays({"a": (X, np.repeat([1.0, 3.0], 10))}, test=0.5, validation=0, seed=1)
    target = data.train.target
    out = io.StringIO()
    print_summary(data, Console(file=out, width=120))
    assert f"{target.mean():.3g} ± {target.std(correction=0):.3g}" in out.getvalue()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("width [mm]", "width [mm]"),
        ("a [/b]", "a [/b]"),
        ("[red]stop[/red]", "[red]stop[/red]"),
        (":warning: [link=x]", ":warning: [link=x]"),
        ("\\[bold]", "\\[bold]"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("größe 尺寸", "größe 尺寸"),
    ],
)
@pytest.mark.parametrize("colour", [False, True])
def test_names_are_shown_as_they_are(name: str, shown: str, colour: bool, tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    data = MultiTaskData.from_arrays({name: (images, Y), "other": (images, 1 - Y)}, name=name)
    out = io.StringIO()
    print_summary(data, Console(file=out, width=160, force_terminal=colour))
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert f"{shown}: 2 tasks" in text
    row = next(line for line in text.splitlines() if shown in line and ": 2 tasks" not in line)
    assert row.count("│") == 7
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\u2066]", text)
    save_contact_sheet(data, tmp_path / "sheet.png")


def test_the_contact_sheet_shows_each_class_where_its_header_says(tmp_path: Path) -> None:
    brightness = np.array([50, 150, 250], np.uint8)
    label = np.arange(60) % 3
    images = np.broadcast_to(brightness[label][:, None, None, None], (60, 3, 64, 64)).copy()
    data = MultiTaskData.from_arrays({"a": (images, label), "b": (images, (label + 1) % 3)}, validation=0)
    save_contact_sheet(data, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    pictures = sheet[18 + 32 :: 68, 150 + 32 :: 3 * 64 + 4][:2, :3, 0].astype(float)
    expected = np.array([[50, 150, 250], [250, 50, 150]]) * 255 / 250
    np.testing.assert_allclose(pictures, expected, atol=1)


def test_there_is_no_contact_sheet_of_vectors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs images"):
        save_contact_sheet(load("planted"), tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_statistics_come_from_what_trains_alone() -> None:
    data = load("digits", validation=0.2)
    pixels = data.inputs[data.train.index.unique()].double()
    assert data.mean.item() == pytest.approx(pixels.mean().item(), rel=1e-6)
    assert data.std.item() == pytest.approx(pixels.std(correction=0).item(), rel=1e-6)
    harmed = replace(data, inputs=data.inputs.index_fill(0, data.test.index.unique(), 255))
    again = make_data("x", harmed.inputs, data.train, data.test, data.task_names, data.classes, validation=0)
    assert torch.equal(again.mean, data.mean)
