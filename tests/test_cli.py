"""The command line, run as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import routing_env
from PIL import Image
from rich.console import Console
from routed_models import MODELS
from safetensors.torch import load_file
from trained import small_run

from routing_env.cli import main
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run

QUICK = ("--network", "mlp", "--hidden", "16", "--no-reference")


def only_run(base: Path) -> Path:
    (config,) = base.glob("runs/*/*/config.json")
    return config.parent


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds")
    return rows


def test_a_run_leaves_its_files_and_can_be_evaluated(tmp_path: Path) -> None:
    trained = routing_env("train", "--epochs", "2", "--network", "mlp", "--hidden", "16", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    run = only_run(tmp_path)
    for row in metrics(run):
        assert {
            "epoch",
            "samples",
            "train_accuracy",
            "test_accuracy",
            "test_balanced_accuracy",
            "policy_entropy",
        } <= set(row)
    assert [row["epoch"] for row in metrics(run)] == [1, 2]
    for reference in ("fixed", "random-fixed"):
        assert [row["epoch"] for row in metrics(run / "references" / reference)] == [1, 2]
        assert reference in trained.stdout
    for figure in ("learning_curve", "policy_over_time", "block_probability", "routing_map"):
        with Image.open(run / "figures" / f"{figure}.png") as image:
            assert min(image.size) > 300
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 8, f"{figure} is blank"
    assert "9 or not" in trained.stdout
    assert "all tasks" in trained.stdout
    assert str(run.relative_to(tmp_path)) in trained.stdout
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pt", ".partial")]

    evaluated = routing_env("evaluate", str(run), cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"{100 * metrics(run)[-1]['test_accuracy']:.1f}" in evaluated.stdout


OWN_NETWORK = Path(__file__).with_name("routed_models.py")
PLANTED = ("--data=planted", "--data-options", "samples=60", "features=12", "--no-reference")
KILLED = {
    "wpl": (*PLANTED, "--network=mlp", "--router=wpl", "--momentum=0.9", "--rho=0.2"),
    "masked": (*PLANTED, f"--network={OWN_NETWORK}:masked", "--router=reinforce-approx", "--optimizer=adam"),
}
"""Options of runs that are killed."""


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, name: str) -> None:
    options = (*KILLED[name], "--epochs", "4", "--seed", "3")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert routing_env("train", *options, cwd=whole).returncode == 0

    command = [sys.executable, "-m", "routing_env", "train", *options]
    with subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not any(len(path.read_text().splitlines()) >= 2 for path in killed.glob("runs/*/*/metrics.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    run = only_run(killed)
    assert len((run / "metrics.jsonl").read_text().splitlines()) < 4, "killed too late to show anything"
    resumed = routing_env("train", "--resume", str(run), "--trust", cwd=killed)
    assert resumed.returncode == 0, resumed.stderr

    assert metrics(run) == metrics(only_run(whole))
    mine, theirs = (load_file(folder / "checkpoint.safetensors") for folder in (run, only_run(whole)))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.equal(theirs[name]), name


SMALL: dict[str, Any] = {"data": "planted", "data_options": ("samples=30", "features=12")}
CUT: dict[str, dict[str, Any]] = {
    "q-learning": {**SMALL, "network": "mlp", "router": "q-learning", "momentum": 0.9, "rho": 0.2},
    **{
        name: {**SMALL, "network": f"{OWN_NETWORK}:{name}", "router": "reinforce-approx", "optimizer": "adam"}
        for name in MODELS
    },
}
"""Settings of runs that are cut."""


@pytest.mark.parametrize("name", CUT)
def test_a_cut_run_resumes_to_the_same_bits(tmp_path: Path, name: str) -> None:
    whole, cut = (RunDirectory(tmp_path / folder) for folder in ("whole", "cut"))
    for directory, epochs in ((whole, 3), (cut, 1), (cut, 3)):
        run = Run.of({**CUT[name], "seed": 3, "threads": 1, "reference": False, "epochs": epochs})
        run.train(directory, Display(Console(quiet=True)))
    assert metrics(cut.path) == metrics(whole.path)
    mine, theirs = (load_file(directory.path / "checkpoint.safetensors") for directory in (cut, whole))
    assert mine.keys() == theirs.keys()
    for key, tensor in mine.items():
        assert tensor.equal(theirs[key]), key


def test_a_run_that_died_before_its_first_checkpoint_resumes(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", epochs=1).path
    before = metrics(run)
    (run / "checkpoint.safetensors").unlink()
    failed = routing_env("evaluate", str(run), cwd=tmp_path)
    assert failed.returncode == 2
    assert "no checkpoint yet" in failed.stderr
    assert routing_env("train", "--resume", str(run), cwd=tmp_path).returncode == 0
    assert metrics(run) == before


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", epochs=1).path
    before = (run / "checkpoint.safetensors").read_bytes()

    failed = routing_env("train", "--resume", str(run), "--epochs", "2", cwd=tmp_path, file_size=len(before) // 2)
    assert failed.returncode == 2
    assert "checkpoint.safetensors" in failed.stderr
    assert f"--resume {run}" in failed.stderr
    assert (run / "checkpoint.safetensors").read_bytes() == before
    assert not list(run.glob("*.partial"))
    assert routing_env("train", "--resume", str(run), "--epochs", "2", cwd=tmp_path).returncode == 0
    assert [row["epoch"] for row in metrics(run)] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digit"], "did you mean 'digits'?"),
        (["--router", "wpll"], "did you mean 'wpl'?"),
        (["--router", "nowhere.py:Router"], "there is no file nowhere.py"),
        (["--router", "json:dumps"], "is not a router"),
        (["--router-options", "seed=1"], "seed is not an option of wpl"),
        (["--router", "cross_stitch", "--router-options", "own=x"], "own is 'x'; it must be in [0, 1]"),
        (["--router", "q-learning", "--router-options", "epsilon=abc"], "epsilon is 'abc'; it must be a number"),
        (["--router-options", "stepp=1"], "did you mean 'step'?"),
        (["--router-options", "rule=best"], "rule is 'best'"),
        (["--rho", "1.5"], "rho is 1.5"),
        (["--epochs", "0"], "epochs is 0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--learning-rate", "-1"], "learning_rate is -1"),
        (["--validation", "1"], "validation is 1"),
        (["--blocks", "0"], "blocks is 0"),
        (["--depth", "5"], "a layered network decides once per layer"),
        (["--device", "cuda:9"], "device 'cuda:9' is not available"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--threads", "0"], "threads is 0"),
        (["--learning-rate", "1e9", "--network", "mlp"], "training has diverged"),
        (["--run-dir", "a-file"], "choose another --run-dir"),
        (["--resume", "a-file"], "no run directory"),
        (["--resume", "empty"], "no config.json"),
    ],
)
def test_wrong_values_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "a-file").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["routing-env", "train", *QUICK, "--epochs", "2", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "a-file").read_text() == "mine"


def test_a_resumed_run_keeps_its_settings_and_forgets_no_epoch(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run").path
    before = (run / "config.json").read_bytes()
    for given, message in (
        (("--rho", "0.5"), "--rho 0.5 differs from the run's 0.0"),
        (("--epochs", "1"), "has trained 2 epochs"),
    ):
        failed = routing_env("train", "--resume", str(run), *given, cwd=tmp_path)
        assert failed.returncode == 2
        assert message in failed.stderr
    assert (run / "config.json").read_bytes() == before


def test_evaluating_changes_nothing(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run").path
    checkpoint = run / "checkpoint.safetensors"
    content = checkpoint.read_bytes()
    checkpoint.unlink()
    before = (run / "metrics.jsonl").read_bytes()
    failed = routing_env("evaluate", str(run), cwd=tmp_path)
    assert failed.returncode == 2
    assert "has no checkpoint yet" in failed.stderr
    assert (run / "metrics.jsonl").read_bytes() == before
    checkpoint.write_bytes(content)
    (run / "metrics.jsonl").write_text(before.decode() + '{"epoch": 3}\n')  # as the run itself may write meanwhile
    assert routing_env("evaluate", str(run), cwd=tmp_path).returncode == 0
    assert [row["epoch"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] == [1, 2, 3]


def test_a_router_that_keeps_nothing_is_not_taken_for_trained(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from routing_env import Decision, Router\n"
        "class Counts(Router):\n"
        "    def __init__(self, spec, *, seed=0):\n"
        "        self.deals = 0\n"
        "    def act(self, state, *, greedy=False):\n"
        "        return Decision(torch.full_like(state.task, min(self.deals, 1)))\n"
        "    def learn(self, trace):\n"
        "        self.deals += 1\n"
        "        return {}\n"
    )
    trained = routing_env("train", *PLANTED, "--epochs", "1", "--router", "mine.py:Counts", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "Counts has no state_dict" in trained.stdout
    for command in (("evaluate",), ("train", "--resume")):
        failed = routing_env(*command, str(only_run(tmp_path)), "--trust", cwd=tmp_path)
        assert failed.returncode == 2
        assert "Counts learns, but has no state_dict" in failed.stderr


def test_brackets_in_names_are_no_markup(tmp_path: Path) -> None:
    trained = routing_env("train", *PLANTED, "--epochs", "1", "--run-dir", "runs[old]", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (again,) = [line for line in trained.stdout.splitlines() if line.startswith("again")]
    assert Path(tmp_path / again.split()[-1]).is_dir()
    failed = routing_env("evaluate", "runs/[/x]", cwd=tmp_path)
    assert "there is no run directory runs/[/x]" in failed.stderr


def test_a_router_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from routing_env import Decision, Router\n"
        "class First(Router):\n"
        "    def __init__(self, spec, *, seed=0, block=0):\n"
        "        self.block = block\n"
        "    def act(self, state, *, greedy=False):\n"
        "        return Decision(torch.full_like(state.task, self.block))\n"
    )
    options = ("--router", "mine.py:First", "--router-options", "block=3")
    trained = routing_env("train", *QUICK, "--epochs", "1", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "3 > 3 > 3" in trained.stdout
    assert only_run(tmp_path).parent.name == "digits-mine"


def test_list_names_every_data_set_and_router(tmp_path: Path) -> None:
    from routing_env.agents import ROUTERS
    from routing_env.data import DATASETS
    from routing_env.envs.sb3_algorithms import ALGORITHMS

    listed = routing_env("list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    for name in (*DATASETS, *ROUTERS, *(f"sb3:{algorithm}" for algorithm in ALGORITHMS)):
        assert name in listed.stdout


def test_help_needs_no_torch() -> None:
    code = "import sys, routing_env.cli\nassert 'torch' not in sys.modules\n"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
