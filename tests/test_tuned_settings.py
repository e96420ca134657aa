"""The file of tuned settings: what it keeps, what it refuses, and who plays with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routing_env.benchmark.jobs import asked_for, differences, who_was_tuned
from routing_env.benchmark.tuned import Tuned, read_tuned, with_tuned_router, write_tuned
from routing_env.game.settings import SettingError
from routing_env.runs.settings import BenchmarkOptions


def entry(**given: Any) -> Tuned:
    usual = Tuned({"learning_rate": 0.3}, {"step": 0.1}, 0.5, 4, "planted", 1.0, 6, (3,))
    return replace(usual, **given)


def test_a_file_keeps_the_entrants_that_are_not_tuned_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tuned.json"
    write_tuned(path, {"wpl": entry(), "dense": entry(options={})})
    write_tuned(path, {"wpl": entry(validation_accuracy=0.6)})
    assert read_tuned(path) == {"wpl": entry(validation_accuracy=0.6), "dense": entry(options={})}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a file of tuned settings"),
        ('{"wpl": {"settings": {}}}', "is not a file of tuned settings"),
        ("[1]", "is not a file of tuned settings"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tuned.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_tuned(tmp_path / "tuned.json")


def test_a_run_takes_the_settings_of_its_router(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    write_tuned(path, {"wpl": entry(), "dense": entry(options={})})
    assert with_tuned_router({"router": "dense"}, path)["learning_rate"] == 0.3
    given = with_tuned_router({"router_options": ("rule=full-vector",), "learning_rate": 0.3, "epochs": 2}, path)
    assert given == {"router_options": ("rule=full-vector", "step=0.1"), "learning_rate": 0.3, "epochs": 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": 0.1}, "setting learning_rate is 0.1, and 0.3 in"),
        ({"router_options": ("step=0.2",)}, "option step is 0.2, and 0.1 in"),
        ({"router": "wpl-approx"}, "has no settings for 'wpl-approx'; known: wpl"),
        ({"scenario": "pair-2"}, "scenario 'pair-2' settles"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    write_tuned(tmp_path / "tuned.json", {"wpl": entry()})
    with pytest.raises(SettingError) as error:
        with_tuned_router(given, tmp_path / "tuned.json")
    assert message in str(error.value)


def test_a_benchmark_plays_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    write_tuned(path, {"wpl": entry(), "dense": entry(options={}, arena="digits")})

    def asked(settings: Path | None) -> tuple[str, dict[str, Any]]:
        names: Sequence[str] = ("wpl", "dense", "random-fixed")
        config = BenchmarkOptions(entrants=tuple(names), seeds=1, settings=settings, run_dir=tmp_path)
        name, jobs = asked_for("planted", config)
        return name, {job.entrant.name: job for job in jobs}

    (usual_name, usual), (name, jobs) = asked(None), asked(path)
    assert name != usual_name
    assert jobs["wpl"].given["learning_rate"] == 0.3
    assert jobs["wpl"].given["router_options"] == ("step=0.1",)
    assert jobs["wpl"].path != usual["wpl"].path
    assert jobs["random-fixed"].given == usual["random-fixed"].given
    assert differences(list(jobs.values())) == f"With the tuned settings of {path}: wpl, dense."
    assert differences(list(usual.values())) == ""
    config = BenchmarkOptions(entrants=tuple(jobs), settings=path)
    assert who_was_tuned("planted", config) == [
        f"planted: wpl, dense with the tuned settings of {path}; as usual: random-fixed",
        "planted: the settings of dense were tuned on digits",
    ]
    with pytest.raises(SettingError, match="tune it with --scenario"):
        asked_for("", BenchmarkOptions(scenario=("pair-2",), settings=path))
