"""Ctrl-C on the command line: exit code 130 and one line, whatever the process is doing.

A process that is to ignore it from its start, as in the background of a script, goes on to ignore it.

The package imports this first, and so it imports little.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager

TYPE_CHECKING = False  # what typing would cost is time in which Ctrl-C prints a traceback

if TYPE_CHECKING:
    from collections.abc import Generator

EXIT_CODE = 130
"""What shells report for a program that SIGINT ended: 128 + 2."""

_IGNORED = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""Whether the parent has this process ignore Ctrl-C, as shells do for a job of a script in the background."""

_SHOW_CURSOR = b"\x1b[?25h"
"""For terminals in which a progress bar has hidden it."""


def exit_at_once(*, only_in_command: bool = False) -> None:
    """Let Ctrl-C end this process with one line on standard error, even in the middle of an import.

    A ``KeyboardInterrupt`` would not do: libraries catch it while they are imported.

    Args:
        only_in_command: Change nothing unless this process is ``routing-env`` or ``python -m routing_env``.
    """
    if only_in_command and not (
        sys.argv[0].endswith("routing-env") or (sys.argv[0] == "-m" and "routing_env" in sys.orig_argv)
    ):
        return
    if not _IGNORED:
        signal.signal(signal.SIGINT, _exit)


def done() -> None:
    """Let Ctrl-C do nothing: everything is finished, and the interpreter takes a moment to end."""
    _handle(signal.SIG_IGN)


@contextmanager
def interruptible(hint: str) -> Generator[None, None, None]:
    """Let Ctrl-C unwind the block by ``KeyboardInterrupt``, then print one line and exit.

    Args:
        hint: How to continue.

    Raises:
        SystemExit: The block was interrupted; the code is 130.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        try:
            _handle(signal.default_int_handler)
            yield
        finally:
            _handle(before)
    except KeyboardInterrupt:
        _handle(signal.SIG_IGN)  # one line, however often it is pressed
        print(f"\ninterrupted; {hint}", flush=True)
        sys.exit(EXIT_CODE)


@contextmanager
def starting_process() -> Generator[None, None, None]:
    """Hold back Ctrl-C while a process is started: here until the block ends, there until :func:`silent_worker`.

    A process that is still importing would print a traceback otherwise.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which would unblock the signal when it starts
    arrived: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    _handle(lambda number, _: arrived.append(number))  # the signal may come in by another thread
    _block(signal.SIG_BLOCK)
    try:
        yield
    finally:
        _block(signal.SIG_UNBLOCK)
        _handle(before)
    if arrived:
        signal.raise_signal(signal.SIGINT)


def silent_worker() -> None:
    """Let Ctrl-C end a worker process without a word; its parent says what there is to say."""
    if not _IGNORED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _block(signal.SIG_UNBLOCK)


def _exit(*_: object) -> None:
    os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"\ninterrupted\n")
    os._exit(EXIT_CODE)


def _handle(handler: signal._HANDLER) -> None:  # pyright: ignore[reportPrivateUsage]
    """Set the handler of SIGINT where that is possible, in the main thread, and wanted."""
    import threading

    if not _IGNORED and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)


def _block(how: int) -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(how, {signal.SIGINT})
