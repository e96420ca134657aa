"""Tasks that arrive: their dealer, growing routers, measures and runs."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from routing_env.cli import main
from routing_env.data import MultiTaskData, Split
from routing_env.data.arrivals import TaskSequence, arriving, parse_stages
from routing_env.data.base import channel_statistics, make_data
from routing_env.data.digits import load as load_digits
from routing_env.data.planted import load as load_planted
from routing_env.game.settings import SettingError
from routing_env.runs.arrivals import StagedBaselineLearner, StagedRouterLearner, matrix_of
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run
from routing_env.runs.session import train_and_show
from routing_env.runs.settings import RunSettings, resumed
from routing_env.runs.transfer import (
    arrival_stages,
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
)
from routing_env.state_dicts import same_state
from routing_env.types import Batch


@pytest.fixture(scope="module")
def planted() -> MultiTaskData:
    return load_planted(validation=0.1, seed=0)


def sequence(data: MultiTaskData, stages: tuple[int, ...], samples: tuple[int, ...], **options: float) -> TaskSequence:
    return TaskSequence(data, 10, 3, stages=stages, samples=samples, **options)


def tasks_of(batch: Batch) -> set[int]:
    return set(batch.task.tolist())


def test_stages_are_read_from_a_sum() -> None:
    assert parse_stages("9+1") == (9, 1)
    assert parse_stages("5 + 3 + 2") == (5, 3, 2)
    for text in ("", "9+", "9,1", "9+-1", "9+x"):
        with pytest.raises(ValueError, match="arrivals is"):
            parse_stages(text)


def test_tasks_are_numbered_in_the_order_of_their_arrival(planted: MultiTaskData) -> None:
    tasks = planted.tasks
    order = list(reversed(range(tasks)))
    data = arriving(planted, (tasks - 1, 1), order=order)
    assert data.task_names == tuple(reversed(planted.task_names))
    assert planted.groups is not None
    assert data.groups == tuple(reversed(planted.groups))
    assert torch.equal(data.test.task, tasks - 1 - planted.test.task)
    assert torch.equal(data.test.index, planted.test.index)
    assert torch.equal(data.test.target, planted.test.target)


def test_later_tasks_keep_their_shots_of_each_class_and_first_tasks_everything() -> None:
    digits = load_digits(validation=0.1, seed=0)
    data = arriving(digits, (8, 2), shots=20, seed=1)
    for task in range(10):
        own, all_ = data.train.target[data.train.task == task], digits.train.target[digits.train.task == task]
        expected = [20, 20] if task >= 8 else torch.bincount(all_).tolist()
        assert torch.bincount(own).tolist() == expected
    other = arriving(digits, (8, 2), shots=20, seed=2)
    assert not torch.equal(data.train.index, other.train.index)
    everything = arriving(digits, (8, 2), shots=10_000)
    assert torch.equal(everything.train.index, digits.train.index)


def test_inputs_are_standardised_by_the_tasks_of_the_first_stage(planted: MultiTaskData) -> None:
    data = arriving(planted, (2, planted.tasks - 2))
    mean, std = channel_statistics(data.inputs, planted.train.index[planted.train.task < 2].unique())
    assert torch.equal(data.mean, mean)
    assert torch.equal(data.std, std)


@pytest.mark.parametrize(
    ("stages", "options", "words"),
    [
        ((3, 3), {}, r"3\+3 tasks arrive, and noise has 3; the stages must sum to that"),
        ((3, 0), {}, "must sum"),
        ((2, 1), {"order": (0, 1, 1)}, "must name each task from 0 to 2 once"),
        ((2, 1), {"shots": -1}, "shots is -1"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(stages: tuple[int, ...], options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        arriving(noise(), stages, **options)  # pyright: ignore[reportArgumentType]


def noise() -> MultiTaskData:
    """Three tasks of 40, 20 and 10 training samples."""
    generator = torch.Generator().manual_seed(0)
    task = torch.tensor([0] * 40 + [1] * 20 + [2] * 10)
    index = torch.arange(70)
    split = Split(index, task, torch.randint(2, (70,), generator=generator))
    return make_data("noise", torch.randn(70, 4, generator=generator), split, split, list("abc"), [2] * 3, validation=0)


def test_a_stage_deals_its_samples_of_its_tasks_alone() -> None:
    dealer = sequence(noise(), (1, 1, 1), (80, 25, 12))
    assert dealer.pass_size == 40
    dealt: list[list[Batch]] = [[], [], []]
    for _ in range(8 + 3 + 2):
        dealt[dealer.stage].append(dealer.next_batch())
    assert [[len(batch) for batch in stage] for stage in dealt] == [[10] * 8, [8, 8, 9], [6, 6]]
    for task, stage in enumerate(dealt):
        assert set().union(*map(tasks_of, stage)) == {task}
    once = torch.cat([batch.x for batch in dealt[0][:4]])  # the first pass over 40 samples
    again = torch.cat([batch.x for batch in dealt[0][4:]])
    assert len(once.unique(dim=0)) == 40
    assert torch.equal(once.unique(dim=0), again.unique(dim=0))
    assert dealer.stage == 2  # and the last stage goes on
    assert [len(dealer.next_batch()) for _ in range(3)] == [6, 6, 6]


def test_replay_is_the_share_of_earlier_tasks_in_every_deal() -> None:
    dealer = sequence(noise(), (1, 1, 1), (40, 40, 40), replay=0.3)
    counts = [torch.bincount(dealer.next_batch().task, minlength=3).tolist() for _ in range(12)]
    assert counts[:4] == [[10, 0, 0]] * 4
    assert counts[4:8] == [[3, 7, 0]] * 4
    assert all(row[2] == 7 and row[0] + row[1] == 3 for row in counts[8:])
    replayed = np.sum(counts[8:], axis=0)
    assert replayed[0] > 0
    assert replayed[1] > 0


@pytest.mark.parametrize("deals", [0, 3, 7, 12])
def test_a_restored_sequence_deals_the_same_bits(deals: int) -> None:
    one = sequence(noise(), (1, 1, 1), (40, 40, 40), replay=0.3)
    for _ in range(deals):
        one.next_batch()
    state = one.state_dict()
    other = TaskSequence(noise(), 10, 99, stages=(1, 1, 1), samples=(40, 40, 40), replay=0.3)
    other.load_state_dict(state)
    for _ in range(15):
        first, second = one.next_batch(), other.next_batch()
        assert torch.equal(first.x, second.x)
        assert torch.equal(first.task, second.task)
        assert one.stage == other.stage
    for stages, samples, replay in (((2, 1), (40, 40), 0.3), ((1, 1, 1), (40, 40, 40), 0.2)):
        with pytest.raises(ValueError, match="in the state"):
            TaskSequence(noise(), 10, 0, stages=stages, samples=samples, replay=replay).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": (1, 1)}, r"1\+1 tasks arrive, and noise has 3"),
        ({"samples": (10, 10)}, "each of the 3 stages"),
        ({"samples": (10, 0, 10)}, "at least 1"),
        ({"replay": 1.0}, "replay is 1.0"),
        ({"replay": 0.96}, "leave lanes to arriving tasks"),
    ],
)
def test_a_sequence_that_cannot_be_dealt_is_refused(change: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"stages": (1, 1, 1), "samples": (10, 10, 10), **change}
    with pytest.raises(ValueError, match=words):
        TaskSequence(noise(), 10, 0, **given)  # pyright: ignore[reportArgumentType]


MATRIX = np.array(
    [
        [0.5, 0.4, 0.3, 0.2],
        [0.9, 0.8, 0.5, 0.3],
        [0.7, 0.9, 0.8, 0.1],
        [0.8, 0.6, 0.5, 0.9],
    ]
)
"""Before training, and after the stages of 2 + 1 + 1 tasks."""


def test_measures_of_transfer_by_hand() -> None:
    arrival = arrival_stages((2, 1, 1))
    assert arrival.tolist() == [1, 1, 2, 3]
    assert average_accuracy(MATRIX) == pytest.approx((0.8 + 0.6 + 0.5 + 0.9) / 4)
    # R[3] - R[arrival]: 0.8 - 0.9, 0.6 - 0.8, 0.5 - 0.8
    assert backward_transfer(MATRIX, arrival) == pytest.approx((-0.1 - 0.2 - 0.3) / 3)
    # the best of stages 1 and 2, minus R[3]: 0.9 - 0.8, 0.9 - 0.6, 0.8 - 0.5
    assert forgetting(MATRIX, arrival) == pytest.approx((0.1 + 0.3 + 0.3) / 3)
    # R[arrival - 1] - R[0]: 0.5 - 0.3, 0.1 - 0.2
    assert forward_transfer(MATRIX, arrival) == pytest.approx((0.2 - 0.1) / 2)


def test_one_stage_neither_transfers_nor_forgets() -> None:
    matrix, arrival = MATRIX[:2], arrival_stages((4,))
    assert average_accuracy(matrix) == pytest.approx(0.625)
    for measure in (backward_transfer, forward_transfer, forgetting):
        assert np.isnan(measure(matrix, arrival))


def run_of(tmp_path: Path, **given: Any) -> tuple[Run, RunDirectory]:
    usual: dict[str, Any] = {"data": "planted", "epochs": 2, "arrivals": "11+1", "arrival_samples": 100, "shots": 4}
    run = Run.of({**usual, **given})
    return run, RunDirectory.create(tmp_path, "arrivals", run.settings, run.data)


def trained(tmp_path: Path, **given: Any) -> tuple[Run, RunDirectory]:
    run, directory = run_of(tmp_path, **given)
    run.train(directory, Display(Console(quiet=True)))
    return run, directory


def test_a_run_measures_every_stage(tmp_path: Path) -> None:
    run, directory = trained(tmp_path)
    rows = directory.read_metrics()
    assert [row["stage"] for row in rows] == [1, 1, 2, 2, 2, 2, 2]
    passes = sum(1 for task in run.learner.data.train.task.tolist() if task < 11)
    assert rows[1]["samples"] == 2 * passes
    assert rows[-1]["samples"] == 2 * passes + 100
    for split in ("test", "validation"):
        matrix = matrix_of(rows, f"{split}_task_accuracy")
        assert matrix is not None
        assert matrix[1].tolist() == rows[1][f"{split}_task_accuracy"]
        assert matrix[2].tolist() == rows[-1][f"{split}_task_accuracy"]
        fresh, _ = run_of(tmp_path)
        assert matrix[0].tolist() == fresh.evaluate(split).accuracy.tolist()
    names = {path.name for path in run.draw(directory)}
    assert {"accuracy_matrix.png", "learning_curve.png"} <= names
    (table,) = run.learner.tables(rows)[:1]
    assert table.row_count == 12


class KilledError(Exception):
    """Ends a run where a test wants it to end."""


@pytest.mark.parametrize("router", ["wpl", "reinforce-approx", "task_specific_1_fc"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, router: str, epoch: int) -> None:
    given = {"router": router, "replay": 0.2, "momentum": 0.9, "data_options": ("samples=60",), "arrival_samples": 40}
    whole, whole_directory = trained(tmp_path / "whole", **given)

    class Stops(Display):
        def epoch(self, row: Mapping[str, Any]) -> None:
            if row["epoch"] == epoch:
                raise KilledError

    run, directory = run_of(tmp_path / "killed", **given)
    with pytest.raises(KilledError):
        run.train(directory, Stops(Console(quiet=True)))
    again = Run.stored(directory, directory.read_config())
    again.train(directory, Display(Console(quiet=True)))
    assert same_state(again.learner.state_dict(), whole.learner.state_dict())
    strip = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in found.read_metrics()]
        for found in (directory, whole_directory)
    ]
    assert json.dumps(strip[0]) == json.dumps(strip[1])


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    run, _ = trained(tmp_path)
    state = deepcopy(run.learner.state_dict())
    for wrong in ({**state, "stage": 2}, {**state, "stage": 0}, {**state, "router": {}}):
        with pytest.raises(ValueError, match=r"the stage is 2|router"):
            run.learner.load_state_dict(wrong)
        assert same_state(run.learner.state_dict(), state)


@pytest.mark.parametrize("optimizer", [{"momentum": 0.9, "weight_decay": 0.1}, {"optimizer": "adam"}])
@pytest.mark.parametrize("data", ["planted", "digits"])
def test_frozen_blocks_stay_bitwise_while_the_new_agent_learns(
    tmp_path: Path, data: str, optimizer: dict[str, Any]
) -> None:
    """On digits the stem has batch norm, whose statistics must not move either."""
    own: dict[str, Any] = {"planted": {}, "digits": {"arrivals": "9+1", "fraction": 0.05}}[data]
    learner = run_of(tmp_path, data=data, arrival_block_rate=0.0, epochs=1, **own, **optimizer)[0].learner
    assert isinstance(learner, StagedRouterLearner)
    learner.play(learner.goal(1), lambda: None)
    blocks, router = deepcopy(learner.game.network.state_dict()), deepcopy(learner.router.state_dict())
    learner.play(learner.goal(6) - learner.samples, lambda: None)
    assert learner.stage == 1
    assert same_state(learner.game.network.state_dict(), blocks)
    before, after = router["tables"]["policy"], learner.router.state_dict()["tables"]["policy"]
    known = len(before)
    assert torch.equal(after[:known], before)
    fresh = torch.full_like(after[known:], 1 / after.shape[-1])
    assert (after[known:] - fresh).abs().max() > 0.01


def test_blocks_learn_at_the_rate_of_the_stage(tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, arrival_block_rate=0.25, learning_rate=0.2, epochs=1)
    learner = run.learner
    learner.play(learner.goal(1), lambda: None)
    assert learner.trainer.learning_rate == 0.2
    learner.play(10, lambda: None)
    assert learner.trainer.learning_rate == pytest.approx(0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_frozen_trunk_keeps_its_bits_and_the_new_head_learns(tmp_path: Path, optimizer: str) -> None:
    run, _ = run_of(tmp_path, router="shared_trunk", arrival_block_rate=0.0, epochs=1, optimizer=optimizer)
    learner = run.learner
    assert isinstance(learner, StagedBaselineLearner)
    learner.play(learner.goal(1), lambda: None)
    before = deepcopy(learner.network.state_dict())
    learner.play(learner.goal(6) - learner.samples, lambda: None)
    after = learner.network.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"heads.blocks.11.weight", "heads.blocks.11.bias"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arrivals": 91}, "arrivals is 91; it must be a string"),
        ({"arrivals": "5"}, "5 tasks arrive, and planted has 12"),
        ({"arrivals": "5+x"}, "arrivals is '5.x'; it must be the number of tasks of each stage"),
        ({"shots": 2.5}, "shots is 2.5; it must be an integer"),
        ({"arrival_order": [0, 0, 1, 2, 3, 4]}, "must name each task from 0 to 11 once"),
        ({"arrival_samples": 2}, "arrival_samples is 2; it must be at least 5"),
        ({"arrival_block_rate": -1.0}, "arrival_block_rate is -1.0; it must be at least 0"),
        ({"replay": 1.5}, "replay is 1.5"),
        ({"dealer": "endless"}, "dealer is 'endless' beside arrivals"),
        ({"router": "sb3:PPO"}, "router is 'sb3:PPO' beside arrivals"),
        ({"arivals": "11+1"}, "unexpected keyword argument 'arivals'; did you mean 'arrivals'?"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run_of(tmp_path, **given)


@pytest.mark.parametrize("name", ["arrival_order", "arrival_samples", "arrival_block_rate", "shots", "replay"])
def test_settings_of_arrivals_need_arrivals(name: str) -> None:
    value = getattr(RunSettings, name)
    with pytest.raises(SettingError, match=f"{name} is .* without arrivals"):
        Run.of({"data": "planted", name: value})


def test_a_resumed_run_cannot_move_its_stages(tmp_path: Path) -> None:
    _, directory = run_of(tmp_path)
    with pytest.raises(SettingError, match="--epochs 9 differs from the run's 2"):
        resumed({"epochs": 9}, directory.read_config())


def test_the_command_prints_and_draws_the_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--data planted --epochs 1 --arrivals 10+1+1 --arrival-samples 50 --shots 3 --no-reference"
    monkeypatch.setattr(sys, "argv", ["routing-env", "train", *options.split(), "--run-dir", str(tmp_path)])
    main()
    said = capsys.readouterr().out
    assert "accuracy on the test split of planted" in said
    assert "forgetting" in said
    (folder,) = tmp_path.glob("planted-wpl/*")
    assert (folder / "figures" / "accuracy_matrix.png").is_file()
    assert [row["stage"] for row in RunDirectory(folder).read_metrics()] == [1] + [2] * 5 + [3] * 5
    monkeypatch.setattr(sys, "argv", ["routing-env", "evaluate", str(folder)])
    main()
    assert "after epoch 11" in capsys.readouterr().out


def test_the_reference_meets_the_same_stages(tmp_path: Path) -> None:
    run, directory = run_of(tmp_path, arrival_order=list(range(11, -1, -1)), epochs=1)
    train_and_show(run, directory, Console(quiet=True))
    reference = RunDirectory(directory.references / "random-fixed")
    stored = Run.stored(reference, reference.read_config())
    assert stored.learner.data.task_names == run.learner.data.task_names
    assert torch.equal(stored.learner.data.train.index, run.learner.data.train.index)


def test_the_example_measures_all_entrants() -> None:
    example = runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "arrivals.py"))
    found = example["run"](
        {"data": "planted", "arrivals": "11+1", "epochs": 1, "seed": 0, "arrival_samples": 60}, [2, 3]
    )
    assert set(found) == {*example["ENTRANTS"], example["ANEW"]}
    for name, by_shots in found.items():
        assert set(by_shots) == {2, 3}
        for result in by_shots.values():
            assert 0 <= result.new <= 100
            if "frozen" in name:
                assert result.old_after == result.old_before
