"""The command line in processes that start at once: forks of a server that has imported the package."""

from __future__ import annotations

import atexit
import functools
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from faults.server import Command, ForkServer


def routing_env(*arguments: str, cwd: Path, columns: int = 200, file_size: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``routing-env`` with these arguments in a separate process.

    Args:
        arguments: Of the command line.
        cwd: Folder that it runs in.
        columns: Width of its terminal.
        file_size: Largest size of a file in bytes; writes beyond it fail. 0 for no limit.
    """
    (ended,) = at_once(1, *arguments, cwd=cwd, columns=columns, file_size=file_size)
    return ended


def at_once(
    processes: int, *arguments: str, cwd: Path, columns: int = 200, file_size: int = 0
) -> list[subprocess.CompletedProcess[str]]:
    """Run :func:`routing_env` in several processes at the same time."""
    with ExitStack() as files:
        errors = [
            files.enter_context(tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace"))
            for _ in range(processes)
        ]
        how = Command(arguments=arguments, folder=str(cwd), columns=columns, file_size=file_size)
        endings = _server().run(*(replace(how, errors=file.name) for file in errors))
        return [
            subprocess.CompletedProcess(arguments, ending.code, ending.output, file.read())
            for ending, file in zip(endings, errors, strict=True)
        ]


@functools.cache
def _server() -> ForkServer:
    server = ForkServer()
    server.__enter__()
    atexit.register(server.__exit__)
    return server
