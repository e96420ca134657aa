"""The files of a run: nothing is half-written, and what is damaged is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from routing_env.checkpoint import load_tree, save_tree, write_atomically
from routing_env.game.settings import Settings
from routing_env.names import parse_options
from routing_env.runs.directory import RunDirectory
from routing_env.runs.records import sealed
from routing_env.runs.settings import RunSettings


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tree: dict[Any, Any] = {
        "tensors": [torch.arange(3), torch.tensor(0.1, dtype=torch.float64), torch.zeros(0, 4)],
        "optimizer": optimizer.state_dict(),
        "text": 'a "b" ü',
        "nothing": None,
        "number": 0.1,
        "flags": [True, False],
        7: "an integer key",
    }
    save_tree(tmp_path / "tree.safetensors", tree)
    back = load_tree(tmp_path / "tree.safetensors")
    assert list(back) == list(tree)
    assert back["optimizer"]["state"].keys() == {0, 1}
    assert {key: back[key] for key in ("text", "nothing", "number", "flags", 7)} == {
        key: tree[key] for key in ("text", "nothing", "number", "flags", 7)
    }
    for mine, theirs in zip(tree["tensors"], back["tensors"], strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)
    momentum = optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(back["optimizer"]["state"][0]["exp_avg"], momentum)


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_tree(tmp_path / "tree.safetensors", {"whole": whole, "part": whole[2:4], "again": whole})
    back = load_tree(tmp_path / "tree.safetensors")
    assert torch.equal(back["part"], whole[2:4])
    assert torch.equal(back["again"], whole)


def test_what_is_no_plain_state_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"/router/policy is a Linear"):
        save_tree(tmp_path / "tree.safetensors", {"router": {"policy": torch.nn.Linear(1, 1)}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped header", "flipped tree", "other file"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_tree(path, {"weights": torch.ones(100)})
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-10],
            "empty": b"",
            "flipped header": b"\xff" + content[1:],
            "flipped tree": content.replace(b"__pairs__", b"__pairz__"),
            "other file": b"hello, I am a text file",
        }[damage]
    )
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged.*resume from the start"):
        load_tree(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    config = RunSettings(router="q-learning", router_options=("step=0.1",), game=Settings(rho=0.3, seed=4))
    directory = RunDirectory.create(tmp_path / "runs", "digits-q-learning", config)
    assert directory.read_config() == config
    assert json.loads(directory.config_path.read_text())["versions"]["torch"] == torch.__version__


def test_runs_of_the_same_second_do_not_collide(tmp_path: Path) -> None:
    paths = {RunDirectory.create(tmp_path, "digits-wpl", RunSettings(game=Settings())).path for _ in range(4)}
    assert len(paths) == 4


def test_a_folder_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    hold = f"""
import pathlib
from routing_env.runs.directory import RunDirectory
from routing_env.runs.records import sealed
with RunDirectory(pathlib.Path({str(tmp_path)!r})).held(wait=False):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OSError, match="another process is training in"), directory.held(wait=False):
            pytest.fail("two processes in one folder")
        other.kill()
        with directory.held(wait=True):  # a killed process holds nothing
            assert other.wait() < 0


def test_metrics_survive_a_cut_last_line_but_no_other_damage(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for epoch in (1, 2, 3):
        directory.append_metrics({"epoch": epoch, "test_accuracy": float("nan")})
    assert directory.read_metrics()[0] == {"epoch": 1, "test_accuracy": None}
    whole = directory.metrics_path.read_text()
    directory.metrics_path.write_text(whole[:-5])
    assert [row["epoch"] for row in directory.read_metrics()] == [1, 2]
    directory.keep_metrics(1)
    assert [row["epoch"] for row in directory.read_metrics()] == [1]
    directory.metrics_path.write_text("{broken\n" + whole)
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 1 is damaged"):
        directory.read_metrics()
    directory.metrics_path.write_text("".join(reversed(whole.splitlines(keepends=True))))
    with pytest.raises(ValueError, match="does not go from epoch to epoch"):
        directory.read_metrics()
    directory.metrics_path.write_bytes(b"\xff" + whole.encode())
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        directory.read_metrics()


def test_versions_are_those_that_the_run_began_with(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_config(RunSettings(game=Settings()))
    old = directory.config_path.read_text().replace('"torch": "', '"torch": "0.')
    directory.config_path.write_text(json.dumps(sealed(json.loads(old))))
    directory.write_config(RunSettings(epochs=3, game=Settings()))
    assert directory.read_versions()["torch"].startswith("0.")
    assert directory.read_config().epochs == 3


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        RunDirectory.open(tmp_path)
    directory = RunDirectory.create(tmp_path, "digits-wpl", RunSettings(game=Settings()))
    with pytest.raises(FileNotFoundError, match="did you mean"):
        RunDirectory.open(directory.path.with_name(directory.path.name + "x"))
    directory.config_path.write_text('{"router": "wpl", "router_')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        directory.read_config()


def test_router_options_are_read_as_json_or_text() -> None:
    assert parse_options(["step=0.1", "rule=full-vector", "greedy=true", "n=3"]) == {
        "step": 0.1,
        "rule": "full-vector",
        "greedy": True,
        "n": 3,
    }
    with pytest.raises(ValueError, match="name=value"):
        parse_options(["step"])
