"""What concerns the whole process: threads, memory, and what an error says. Only commands and workers call this."""

from __future__ import annotations

import ctypes
import sysconfig
import traceback
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

_OF_THE_INPUT = (ValueError, OSError, ArithmeticError)
"""Errors whose messages say what is wrong with the input."""


def prepare(threads: int) -> None:
    """Set up a process that does nothing but train: its threads, and memory that it keeps.

    Args:
        threads: of the CPU.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of its tensors.

    A training step allocates and frees the same few megabytes again and again. By default glibc returns them to the
    system each time, and the system hands them out again page by page, zeroed: on CIFAR-MTL that cost a fifth of the
    step. From this call on the process keeps what it once had. Results are not touched.

    Returns:
        Whether the C library has such a setting; only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20)) and bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))


def explained(error: BaseException) -> str:
    """What an error says, and where in the user's own code it came up, if it did.

    Own code is what lies neither in this package nor among the installed ones.
    """
    package = Path(__file__).resolve().parents[1]
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    places = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, SyntaxError) and error.filename:
        places.append(traceback.FrameSummary(error.filename, error.lineno, "the file itself"))
    others = [package, (package / "agents").resolve(), (package / "baselines").resolve(), *installed]
    own = [place for place in places if _is_own(place.filename, others)]
    if own:
        place = own[-1]
        return f"{place.filename}, line {place.lineno}, in {place.name}: {_told(error)}"
    of_an_extra = isinstance(error, ImportError) and isinstance(error.__cause__, ImportError)  # ours says which
    if of_an_extra or isinstance(error, _OF_THE_INPUT):
        return str(error)
    return f"{_told(error)}; set ROUTING_ENV_TRACEBACK=1 to see where, and please report it"


def figures_failed(error: Exception, done: str) -> Exception:
    """The error of figures that could not be drawn, told after everything else has been shown and saved.

    Args:
        error: Why they could not.
        done: What is there all the same, in words.
    """
    text = f"{done}, but its figures could not be drawn: {_told(error)}"
    return OSError(text) if isinstance(error, OSError) else RuntimeError(text)


def _told(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'without a message').splitlines()[0]}"


def _is_own(file: str, others: list[Path]) -> bool:
    path = Path(file)
    if not path.is_file() or not {"site-packages", "dist-packages"}.isdisjoint(path.resolve().parts):
        return False  # what an environment sees may be installed in others: the user's folder, or the system's packages
    return not any(path.resolve().is_relative_to(other) for other in others)
