"""Nodes of a Ray cluster that are killed, in a separate interpreter: Ray leaves threads and handlers behind."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from .kills import Bench, Outcome
from .runs import BreachError, SkippedError
from .server import ROOT

_CODE = """
import sys
from pathlib import Path
from ray_nodes import outlive_two_nodes
killed, local = outlive_two_nodes(Path(sys.argv[1]), 1)
sys.exit(0 if killed == local else 99)
"""

_LIMIT = 900.0
"""Seconds."""


def raylets_killed(bench: Bench) -> Outcome:
    """A benchmark of four runs on a cluster, two nodes of which are killed in turn; it must equal that of one machine.

    Raises:
        SkippedError: Ray is not installed.
        BreachError: The tables differ, or the command failed.
    """
    if importlib.util.find_spec("ray") is None:
        raise SkippedError("Ray is not installed")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths.rstrip(os.pathsep), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _CODE, str(bench.folder)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise BreachError("hangs", f"it had not ended after {_LIMIT:.0f} seconds") from error
    output = done.stdout + done.stderr
    if done.returncode == 99:
        raise BreachError("bits lost", "the leaderboards differ")
    if done.returncode:
        raise BreachError("tracebacks" if "Traceback" in output else "exit codes", output[-3000:])
    return Outcome(2)
