"""A run's folder may come from somebody else: it runs no code without consent, and its files are no way out."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routing_env.checkpoint import write_atomically
from routing_env.cli import main
from routing_env.runs.records import sealed
from routing_env.runs.run import Run, resolve_run
from routing_env.runs.settings import RunSettings
from routing_env.runs.sources import consent, refuse_foreign_code

ROUTER = """
from pathlib import Path
import torch
from routing_env import Decision, Router

Path("has-run").touch()

class Mine(Router):
    def __init__(self, spec, *, seed=0):
        pass

    def act(self, state, *, greedy=False):
        return Decision(torch.zeros_like(state.task))
"""
QUICK = ("--data", "planted", "--data-options", "samples=20", "--epochs", "1", "--no-reference")


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["routing-env", *arguments])
    if code:
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == code
    else:
        main()


def settings(**given: Any) -> RunSettings:
    return resolve_run({"data": "planted", "data_options": ("samples=20",)} | given)[0]


def test_code_that_a_folder_names_needs_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ROUTER)
    command("train", *QUICK, "--router", "mine.py:Mine", monkeypatch=monkeypatch)
    assert "--trust" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("again"))
    (run,) = (path.parent for path in tmp_path.glob("runs/*/*/config.json"))
    marker = tmp_path / "has-run"
    for arguments in (("evaluate", str(run)), ("analyse", str(run)), ("train", "--resume", str(run), "--epochs", "2")):
        marker.unlink()
        command(*arguments, monkeypatch=monkeypatch, code=2)
        error = " ".join(capsys.readouterr().err.split())
        assert "outside routing-env: mine.py:Mine (the file " in error
        assert "--trust" in error
        assert not marker.exists()
        command(*arguments[:2], *arguments[2:], "--trust", monkeypatch=monkeypatch)
        assert marker.exists()
    resume = ("train", "--resume", str(run), "--router", "mine.py:Mine", "--epochs")
    command(*resume, "3", monkeypatch=monkeypatch)  # which names the code itself
    (tmp_path / "mine.py").write_text(ROUTER + "# changed since\n")
    marker.unlink()
    command(*resume, "4", monkeypatch=monkeypatch, code=2)  # it would be the folder's copy
    assert str(run / "source") in capsys.readouterr().err.replace("\n", "")
    assert not marker.exists()


def test_a_config_that_was_tampered_with_names_what_it_would_run(tmp_path: Path) -> None:
    honest = settings()
    refuse_foreign_code(honest, {}, {})
    assert consent(honest) == ""
    tampered = {
        "os:system": replace(honest, game=replace(honest.game, optimizer="os:system")),
        "mine:load": replace(honest, game=replace(honest.game, data="mine:load")),
        "/somewhere/mine.py:R": replace(honest, router="/somewhere/mine.py:R"),
        "mine.py:Net": replace(honest, router_options=('approximator="mine.py:Net"',)),
        "mine.py:Deep": replace(honest, router_options=('parts=[{"a": ["mine.py:Deep"]}]',)),
        "routing_env.py:X": replace(honest, router="routing_env.py:X"),
    }
    for reference, run in tampered.items():
        with pytest.raises(ValueError, match=r"outside routing-env: .*--trust") as error:
            refuse_foreign_code(run, {}, {})
        assert reference in str(error.value)
        assert consent(run) == " --trust"
    own = replace(honest, router="routing_env.agents.wpl:WPL", game=replace(honest.game, device="cuda:1"))
    refuse_foreign_code(own, {}, {})
    refuse_foreign_code(replace(honest, router="sb3:PPO"), {}, {})
    refuse_foreign_code(tampered["os:system"], {}, {"optimizer": "os:system"})


def test_runs_from_python_ask_for_consent_too(tmp_path: Path) -> None:
    from routing_env.runs.directory import RunDirectory

    run = Run.of({"data": "planted", "data_options": ("samples=20",)})
    directory = RunDirectory.create(tmp_path, "a/../../../x", run.settings, run.data)
    assert directory.path.resolve().is_relative_to(tmp_path.resolve())
    assert len(directory.path.relative_to(tmp_path).parts) == 2
    Run.stored(directory, directory.read_config())
    content = json.loads(directory.config_path.read_text())
    content["router"] = "not_to_be_imported:Router"
    directory.config_path.write_text(json.dumps(sealed(content)))  # as whoever means harm would
    with pytest.raises(ValueError, match="not_to_be_imported:Router"):
        Run.stored(directory, directory.read_config())


def test_a_temporary_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("untouched")
    (folder / "config.json.partial").symlink_to(outside)
    write_atomically(folder / "config.json", lambda path: path.write_text("new"))
    assert outside.read_text() == "untouched"
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert (folder / "config.json").read_text() == "new"
    assert not (folder / "config.json").is_symlink()
    plain = folder / "plain"
    plain.touch()
    assert (folder / "config.json").stat().st_mode == plain.stat().st_mode  # others may read it as before
