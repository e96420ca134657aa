"""Whatever a user has set for the whole process: a run trains as it would without, or is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = {
    "float64, and all is an error": (
        "torch.set_default_dtype(torch.float64); numpy.seterr(all='raise'); warnings.simplefilter('error')"
    ),
    "no gradients, deterministic algorithms": (
        "torch.set_grad_enabled(False); torch.use_deterministic_algorithms(True)"
    ),
    "inference mode, numpy prints little": (
        "torch.inference_mode().__enter__(); numpy.set_printoptions(threshold=3, precision=1)"
    ),
    "another device by default": "torch.set_default_device('meta')",
}
PLAY = """
import hashlib, sys, warnings
import numpy, torch
torch.set_num_threads(1)
from pathlib import Path
from rich.console import Console
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run

SET

given = {"data": "planted", "fraction": 0.2, "rho": 0.1, "momentum": 0.9, "threads": 1, "epochs": 2}
for router in ("wpl", "reinforce-approx", "relax", "mmoe"):
    directory = RunDirectory(Path(router))
    run = Run.of({**given, "router": router})
    directory.write_config(run.settings, run.learner.data)
    run.train(directory, Display(Console(quiet=True)))
    if router == "wpl":
        run.draw(directory)
    stored = Run.stored(directory, directory.read_config())
    stored.restore(directory)
    loss = stored.evaluate("test").loss
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in directory.read_metrics()]
    parts = [part for part in (getattr(run.learner, "game", None), getattr(run.learner, "network", None)) if part]
    for part in parts:
        network = getattr(part, "network", part)
        for name, value in network.state_dict().items():
            assert value.dtype != torch.float64, name
            rows.append(hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest())
    print(router, hashlib.sha256(repr((rows, loss.tolist())).encode()).hexdigest())
"""


def play(folder: Path, code: str, *options: str, **environment: str) -> str:
    folder.mkdir(parents=True)
    played = subprocess.run(
        [sys.executable, *options, "-c", PLAY.replace("SET", code)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stderr[-2000:]
    return played.stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return play(tmp_path_factory.mktemp("plain") / "run", "")


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_process_change_no_bit(name: str, plain: str, tmp_path: Path) -> None:
    assert play(tmp_path / "run", SETTINGS[name]) == plain


WITHOUT_ASSERTS = """
from routing_env import Decision, Router
from routing_env.testing import check_router

class Greedy(Router):
    def __init__(self, spec, *, seed=0): self.n = 0
    def act(self, state, *, greedy=False):
        self.n += 1
        ranks = (state.legal.cumsum(1) == 1 + self.n % state.legal.sum(1, keepdim=True)) & state.legal
        return Decision(ranks.int().argmax(1))

try:
    check_router(Greedy)
except AssertionError as error:
    if "two greedy evaluations in a row route differently" not in str(error):
        raise
else:
    raise SystemExit("check_router found nothing")
"""


def test_options_of_python_change_no_bit_and_leave_check_router_its_checks(plain: str, tmp_path: Path) -> None:
    # One process for both: the first import of torch without asserts compiles it anew.
    options = ("-O", "-W", "error")
    environment = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    assert play(tmp_path / "run", WITHOUT_ASSERTS, *options, **environment) == plain


def test_a_terminal_that_knows_only_ascii_gets_every_name(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\n"
        "from routing_env import MultiTaskData\n"
        "x = np.random.default_rng(0).normal(size=(60, 3))\n"
        "data = MultiTaskData.from_arrays({'größer 数': (x, np.arange(60) % 2), 'b': (x + 1, np.arange(60) % 2)})\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "routing_env", "train", "--data", "data.py:data", "--network", "mlp"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    trained = subprocess.run(
        [*command, "--router", "random", "--epochs", "1", "--no-reference"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr
    assert b"gr\\xf6\\xdfer" in trained.stdout or "größer".encode() in trained.stdout
