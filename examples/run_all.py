"""Run every example, with a separate virtual environment per framework, and print a table of what passed.

    python examples/run_all.py            # all of them
    python examples/run_all.py rllib aec  # those whose file names start with these words

Environments are kept in --environments and reused. The exit status is 1 if an example failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements"
SHORT = {"--episodes": "20", "--timesteps": "20", "--passes": "1"}
"""Budgets that only show that an example runs."""


def prepare(name: str, folder: Path) -> Path:
    """Make or update a virtual environment and return its interpreter.

    Args:
        name: name of a file in requirements/, or "package" for the package with its test extra and nothing else.
        folder: folder of all environments.
    """
    environment = folder / name
    if not environment.exists():
        venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    requirements = REQUIREMENTS / f"{name}.txt"
    wanted = ["-r", str(requirements)] if requirements.exists() else ["-c", str(HERE.parent / "constraints.txt")]
    package = f"{HERE.parent}" if requirements.exists() else f"{HERE.parent}[test]"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted, "-e", package], check=True)
    return python


def run(example: Path, python: Path, arguments: list[str], limit: float) -> tuple[str, str]:
    """Run one example; return the outcome and the last line that it printed."""
    try:
        done = subprocess.run([python, example, *arguments], capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return "too slow", f"stopped after {limit:.0f} seconds"
    printed = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return "failed" if done.returncode else "passed", printed[-1] if printed else ""


def main(prefixes: list[str], folder: Path, limit: float, short: bool) -> int:
    """Run the examples one after the other and return how many failed."""
    failed = 0
    examples = sorted(path for path in HERE.glob("*.py") if path != Path(__file__).resolve())
    for example in examples:
        if prefixes and not example.name.startswith(tuple(prefixes)):
            continue
        framework = example.stem.split("_")[0]
        name = framework if (REQUIREMENTS / f"{framework}.txt").exists() else "package"
        python = prepare(name, folder)
        budget = re.search(rf'add_argument\("({"|".join(SHORT)})"', example.read_text())
        start = time.perf_counter()
        outcome, line = run(example, python, [budget[1], SHORT[budget[1]]] if short and budget else [], limit)
        failed += outcome != "passed"
        print(f"{outcome:8} {example.name:26} {time.perf_counter() - start:6.0f} s  {line}", flush=True)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", nargs="*", help="beginnings of file names (default: all)")
    parser.add_argument(
        "--environments", type=Path, default=HERE.parent / ".venv" / "examples", help="(default: %(default)s)"
    )
    parser.add_argument("--limit", type=float, default=900, help="seconds per example (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="tiny budgets, only to check that the examples run")
    given = parser.parse_args()
    sys.exit(min(main(given.prefixes, given.environments, given.limit, given.short), 1))
