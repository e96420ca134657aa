"""The zoo: every trained run that comes with the package does what its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import routing_env

from routing_env import load_run
from routing_env.checkpoint import DamagedError
from routing_env.maintenance.zoo import ENTRIES, card, command
from routing_env.runs.zoo import CARD, ZOO, run_folder, zoo_entries


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_does_what_its_card_says(name: str) -> None:
    """The scores on the card, and the routes and accuracies of the run's own metrics, are measured again."""
    assert (ZOO / name / CARD).read_text(encoding="utf-8") == card(name, ZOO / name)
    run = load_run(f"zoo:{name}")
    evaluation, last = run.evaluate("test"), run.metrics[-1]
    assert evaluation.accuracy.tolist() == last["test_task_accuracy"]
    assert evaluation.routes.tolist() == last["test_routes"]
    assert evaluation.overall_loss == pytest.approx(last["test_loss"], rel=1e-4)
    what, given = ENTRIES[name]
    assert zoo_entries()[name] == what
    for setting, value in given.items():
        assert run.settings.given()[setting] == value
    assert sum(path.stat().st_size for path in (ZOO / name).iterdir()) < 300_000


def test_the_zoo_on_the_command_line(tmp_path: Path) -> None:
    assert set(zoo_entries()) == set(ENTRIES) == {path.name for path in ZOO.iterdir()}
    shown = routing_env("evaluate", "zoo:wpl-planted", cwd=tmp_path).stdout
    accuracy = load_run("zoo:wpl-planted").metrics[-1]["test_accuracy"]
    assert f"{100 * accuracy:.1f}" in next(line for line in shown.splitlines() if "all tasks" in line)
    listed = routing_env("list", cwd=tmp_path).stdout
    assert all(name in listed for name in ENTRIES)
    wrong = routing_env("evaluate", "zoo:wpl-planned", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "unknown entry of the zoo 'wpl-planned'; did you mean 'wpl-planted'?" in wrong.stderr
    resumed = routing_env("train", "--resume", "zoo:wpl-planted", "--epochs", "13", cwd=tmp_path)
    assert resumed.returncode == 2
    assert "zoo:wpl-planted stays as it is" in resumed.stderr
    assert not list(tmp_path.iterdir())


def test_an_entry_that_was_changed_is_refused(tmp_path: Path) -> None:
    for path in (ZOO / "wpl-planted").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "checkpoint.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(DamagedError):
        load_run(tmp_path)
    assert run_folder(tmp_path) == tmp_path


def test_the_command_of_a_card() -> None:
    given = {"data_options": ("groups=2", "noise=0.1"), "learning_rate": 0.5, "recursive": True, "reference": False}
    assert command(given) == (
        "routing-env train --data-options groups=2 noise=0.1 --learning-rate 0.5 --recursive --no-reference"
    )
