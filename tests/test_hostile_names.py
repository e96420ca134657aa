"""Names of tasks, data and routers come from outside: they lead to no path, and show as text and nothing else."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from worlds import little_data

from routing_env import parallel_env
from routing_env.benchmark.tables import in_markdown
from routing_env.cli import main
from routing_env.data.summary import print_summary
from routing_env.envs.single import RoutingEnv
from routing_env.names import file_name, printable
from routing_env.runs.run import Run
from routing_env.runs.task_table import task_table

HOSTILE = (
    "\x1b[2J\x1b]0;pwned\x07",
    "[bold red]x[/bold red]",
    "../../../pwned",
    "<script>alert(1)</script>|$x$",
    "a\nb\u202e",
)
DATA = replace(little_data(classes=(2,) * len(HOSTILE)), name="../../\x1b[31m[b]pwned", task_names=HOSTILE)
GAME: dict[str, Any] = {"data": DATA, "network": "mlp", "hidden": 4, "layers": 2, "blocks": 2}


def is_plain(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("name", [*HOSTILE, DATA.name, "..", "/etc/passwd", "C:\\x", "", "x" * 500])
def test_any_text_is_one_component_of_a_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / file_name(name)
    assert path.resolve().parent == tmp_path.resolve()
    path.touch()
    assert is_plain(printable(name))
    assert "<script" not in in_markdown(name).replace("\\<", "")


def test_names_are_shown_as_text() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=300)
    run = Run.of({**GAME, "epochs": 1, "reference": False})
    console.print(task_table(run.evaluate("test"), DATA, f"{DATA.name}, test split"))
    print_summary(DATA, console)
    assert is_plain(shown.getvalue())
    assert "[bold red]x[/bold red]" in shown.getvalue()


def test_environments_render_names_as_text() -> None:
    envs: tuple[Any, ...] = (parallel_env(**GAME, render_mode="ansi"), RoutingEnv(**GAME, render_mode="ansi"))
    for env in envs:
        env.reset()
        assert is_plain(env.render())


def test_a_sheet_of_examples_stays_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "images.py").write_text(
        "import numpy as np\n"
        "from routing_env import MultiTaskData\n"
        "def load(*, validation, seed):\n"
        "    x, y = np.random.default_rng(0).normal(size=(40, 8, 8)), np.arange(40) % 2\n"
        "    return MultiTaskData.from_arrays({'one': (x, y)}, name='images', validation=validation, seed=seed)\n"
    )
    monkeypatch.chdir(inner)
    monkeypatch.setattr(sys, "argv", ["routing-env", "data", "../../images.py:load"])
    main()
    assert [path.suffix for path in inner.iterdir()] == [".png"]
    assert not list(tmp_path.glob("*.png"))
