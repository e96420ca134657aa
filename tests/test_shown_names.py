"""Names of tasks, data, routers and files are shown as they are, and do no harm."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from routing_env import MultiTaskData, parallel_env
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.report import save_report
from routing_env.benchmark.tables import in_markdown
from routing_env.cli import main
from routing_env.names import file_name, printable
from routing_env.runs.recording import Recording
from routing_env.runs.task_table import task_table

NAMES = [
    "width [mm]",
    "a [/b]",
    "[red]x",
    "50 $ to 90 $",
    "_hidden",
    "tab\tand\x1b[31mred\x07",
    "\u202erevers",
    "n" * 300,
]


def data_of(*tasks: str, name: str = "mine") -> MultiTaskData:
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("f4")
    arrays = {task: (x + number, np.arange(60) % 2) for number, task in enumerate(tasks)}
    return MultiTaskData.from_arrays(arrays, name=name)


@given(st.text(st.characters(codec=None)))
def test_a_file_name_is_one_harmless_component(text: str) -> None:
    name = file_name(text)
    assert name not in ("", ".", "..")
    assert not set('/\\:*?"<>|\0\n') & set(name)
    assert not name.startswith((".", "-"))
    assert len(name.encode()) <= 120
    assert Path("base", name).parent == Path("base")


@given(st.text(st.characters(codec=None)))
def test_what_is_printed_moves_no_cursor(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()
    assert "\n" not in in_markdown(text)


def test_usual_names_stay() -> None:
    for name in ("digits-wpl", "cifar, first 2 tasks", "größe", "sb3:PPO"):
        assert printable(name) == name
    assert file_name("digits-wpl") == "digits-wpl"
    assert file_name("größe") == "größe"
    assert file_name("x" * 500) != file_name("x" * 501)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_tasks_shows_names_as_they_are(name: str) -> None:
    data = data_of(name, "other")
    result = parallel_env(data=data, network="mlp", hidden=8).evaluate(lambda agent, seen: 0)
    out = io.StringIO()
    Console(file=out, width=160).print(task_table(result, data, f"{name} on data"))
    cells = "".join(line.split("│")[1].strip() for line in out.getvalue().splitlines() if line.count("│") > 3)
    assert printable(name).replace(" ", "") in cells.replace(" ", "")
    assert "\x1b" not in out.getvalue()
    assert printable(name)[:50] in out.getvalue().replace("\n", "")


@pytest.mark.parametrize("name", [*NAMES, "a|b", "*all*", "`x` <b>", "a/../../../x"])
def test_a_report_on_any_name_can_be_read(name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    env = parallel_env(data=data_of(name, "other", name=name), network="mlp", hidden=8)
    with Recording(env, name, lambda state: state.legal.int().argmax(1), run_dir=tmp_path / "runs") as recording:
        env.reset(seed=0)
        for _ in range(60):
            while env.agents:
                env.step(dict.fromkeys(env.agents, 0))
            env.reset()
    assert recording.directory.path.parents[1] == tmp_path / "runs"
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    jobs = found_jobs([tmp_path / "runs"])
    out = io.StringIO()
    save_report(jobs, tmp_path / "report", Console(file=out, width=400))
    assert "\x1b" not in out.getvalue()
    assert printable(name)[:50] in out.getvalue()
    text = (tmp_path / "report" / "leaderboard.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert in_markdown(name) in row
    assert row.replace("\\|", "").count("|") == text.splitlines()[2].count("|")
    with (tmp_path / "report" / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        (entrant,) = csv.DictReader(file)
    assert printable(entrant["entrant"]) == printable(name)
    pictures = [*tmp_path.rglob("*.png")]
    assert len(pictures) >= 4
    for path in pictures:
        with Image.open(path) as image:
            assert max(image.size) < 4000
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


def test_no_name_leads_out_of_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    arguments: list[Any] = ["--data", "planted", "--router", "random", "--epochs", "1", "--no-reference"]
    monkeypatch.setattr(sys, "argv", ["routing-env", "train", *arguments, "--name", "a/../../../x"])
    main()
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in (inside / "runs").iterdir()] == ["a-..-..-..-x"]
