"""Damage to the files of a run is refused by name, and nothing is touched, or it changes nothing at all."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corruption import REFUSED, SAME, WRONG, Twin, corruptions
from rich.console import Console
from trained import GIVEN, small_run

from routing_env.checkpoint import DamagedError, load_tree, save_tree
from routing_env.cli import main
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.records import row_of, sealed
from routing_env.runs.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("corruption") / "run").path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_is_damaged_is_refused_or_does_not_matter(folder: Path, tmp_path: Path) -> None:
    twin = Twin(folder)
    seen: dict[str, int] = {}
    for number, corruption in enumerate(corruptions(folder, 240)):
        damaged = shutil.copytree(folder, tmp_path / str(number))
        corruption.apply(damaged)
        assert twin.failures(damaged, corruption) == []
        shutil.rmtree(damaged)
        seen[corruption.file] = seen.get(corruption.file, 0) + 1
    assert set(seen) == {"config.json", "metrics.jsonl", "checkpoint.safetensors"}
    assert min(seen.values()) > 50


def test_a_run_that_is_not_damaged_is_not_refused(folder: Path, tmp_path: Path) -> None:
    config = folder / "config.json"
    twin, copy = Twin(folder), shutil.copytree(folder, tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps(json.loads(config.read_text()), sort_keys=True))  # no white space
    assert set(twin.outcomes(copy).values()) == {SAME}


def test_every_bit_of_the_weights_counts(tmp_path: Path) -> None:
    path = tmp_path / "tree.safetensors"
    save_tree(path, {"weights": torch.zeros(2), "flags": torch.zeros(1, dtype=torch.bool)})
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(DamagedError, match=r"tree\.safetensors is damaged .*delete it"):
                load_tree(path)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "seed": lambda config: config["game"].update(seed=1),
    "validation": lambda config: config["game"].update(validation=0.2),
    "fraction": lambda config: config["game"].update(fraction=0.5),
    "learning rate": lambda config: config["game"].update(learning_rate=0.5),
    "epochs": lambda config: config.update(epochs=1),
    "fingerprint": lambda config: config["fingerprint"].update(train="0"),
    "versions": lambda config: config["versions"].update(torch="0"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_config_is_refused(folder: Path, tmp_path: Path, edit: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    EDITS[edit](config)
    (copy / "config.json").write_text(json.dumps(config, indent=2))
    with pytest.raises(DamagedError, match=r"config\.json is not as it was written.*start a new run"):
        RunDirectory(copy).read_config()
    assert set(Twin(folder).outcomes(copy, "config.json").values()) == {REFUSED}


def test_files_of_two_runs_do_not_mix(folder: Path, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", seed=1)
    for names in (("config.json",), ("checkpoint.safetensors", "metrics.jsonl")):
        mixed = shutil.copytree(folder, tmp_path / names[0])
        for name in names:
            shutil.copy(other.path / name, mixed / name)
        with pytest.raises(
            DamagedError, match=r"checkpoint\.safetensors is of a run with other settings than those of"
        ):
            RunDirectory(mixed).load_checkpoint()
        assert set(Twin(folder).outcomes(mixed, "checkpoint.safetensors").values()) == {REFUSED}


@pytest.mark.parametrize("given", [{"rho": 0.7}, {"seed": 1}, {"router": "exp3"}], ids=str)
def test_a_run_does_not_go_on_with_other_settings(folder: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = contents(copy)
    run = Run.of({**GIVEN, "epochs": 3, **given})
    with pytest.raises(ValueError, match=rf"was trained with {next(iter(given))} .*start a new run"):
        run.train(RunDirectory(copy), Display(Console(quiet=True)))
    with pytest.raises(ValueError, match="was trained with"):
        RunDirectory(copy).write_config(run.settings)
    assert contents(copy) == before
    assert run.epoch == 0


def test_a_refused_resume_leaves_the_config_as_it_was(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    before = contents(copy)
    with pytest.raises(DamagedError, match=r"checkpoint\.safetensors is damaged"):
        small_run(copy, epochs=5)
    assert contents(copy) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_block_that_is_not_finite_is_named_before_it_is_evaluated(folder: Path, tmp_path: Path, value: float) -> None:
    directory = RunDirectory(shutil.copytree(folder, tmp_path / "copy"))
    tree = directory.load_checkpoint()
    assert tree is not None
    weights: dict[str, torch.Tensor] = tree["learner"]["game"]["network"]
    name = next(name for name in weights if "blocks" in name)
    weights[name].view(-1)[0] = value
    directory.save_checkpoint(tree)
    run = Run.stored(directory, directory.read_config())
    before = run.evaluate()
    with pytest.raises(ValueError, match=rf"checkpoint\.safetensors holds NaN or infinity in {name}: .*new run"):
        run.restore(directory)
    assert torch.equal(run.evaluate().loss, before.loss)
    assert run.epoch == 0


ROW = '{"epoch": 1, "samples": 9, "seconds": 1.5, "test_accuracy": 0.5, "test_task_accuracy": [0.5, 1.0], "loss": null}'


@pytest.mark.parametrize(
    "change",
    [
        ('"epoch": 1', '"epoch": "1"', "epoch is '1'; it must be an integer of at least 1"),
        ('"epoch": 1', '"epoch": true', "epoch is True"),
        ('"epoch": 1', '"epoch": 0', "epoch is 0"),
        ('"epoch": 1, ', "", "epoch is missing"),
        ("1.5", "-1", "seconds is -1; it must be a finite number of at least 0"),
        ("1.5", "1e999", "seconds is inf"),
        ("1.5", "NaN", "NaN is not JSON"),
        ("[0.5, 1.0]", "[0.5, 1.5]", r"test_task_accuracy is \[0.5, 1.5\]; it must be numbers in \[0, 1\]"),
        ("[0.5, 1.0]", "0.5", "test_task_accuracy is 0.5"),
        ('"test_accuracy": 0.5', '"test_accuracy": 2', r"test_accuracy is 2; it must be a number in \[0, 1\] or null"),
        ("null", "[]", r"loss is \[\]; it must be a finite number or null"),
        ("null", "9" * 5000, "4300 digits"),
        ("null", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        (ROW, "null", "None is not a JSON object"),
        (ROW, "[]", r"\[\] is not a JSON object"),
    ],
    ids=lambda change: change[2][:40],
)
def test_measures_are_checked_by_type_and_range(tmp_path: Path, change: tuple[str, str, str]) -> None:
    assert row_of(ROW)["seconds"] == 1.5
    before, after, message = change
    directory = RunDirectory(tmp_path)
    directory.metrics_path.write_text(ROW.replace(before, after) + "\n")
    with pytest.raises(DamagedError, match=rf"metrics\.jsonl line 1 is damaged: .*{message}.*restore the file"):
        directory.read_metrics()


def test_the_command_line_says_what_is_damaged_in_a_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, value in enumerate(WRONG):
        copy = shutil.copytree(folder, tmp_path / str(number))
        config = json.loads((copy / "config.json").read_text())
        config["game"]["seed"] = value
        (copy / "config.json").write_text(json.dumps(sealed(config)))
        for arguments in (["evaluate", str(copy)], ["train", "--resume", str(copy), "--epochs", "3"]):
            monkeypatch.setattr(sys, "argv", ["routing-env", *arguments])
            with pytest.raises(SystemExit) as exit_:
                main()
            assert exit_.value.code == 2
            error = capsys.readouterr().err
            assert error.startswith(f"error: {copy / 'config.json'} is damaged")
            assert error.count("\n") == 1
