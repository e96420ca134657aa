"""The C++ twin of :mod:`routing_env.game.linear_maps`, which ``routing-env compile`` compiles for this installation.

It makes training steps on the CPU faster, and has the same results to the bit. Without it everything works as well.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("linear_maps.cpp")

_NINJA = "ninja", "pip install 'routing-env[compile]', and activate the environment"

ChosenMaps = Callable[[Tensor, Tensor, list[int], list[Tensor]], Tensor]
"""As :func:`routing_env.game.linear_maps.chosen_maps`."""


def library_path() -> Path:
    """Where the library for this source, version of torch and kind of machine is, or would be."""
    of = (SOURCE.read_bytes(), torch.__version__.encode(), sys.platform.encode(), platform.machine().encode())
    return SOURCE.with_name(f"{SOURCE.stem}-{sha256(b' '.join(of)).hexdigest()[:16]}.so")


def compiled_maps() -> ChosenMaps | None:
    """Load the library; None where it has not been compiled.

    Raises:
        OSError: the file is there and cannot be loaded.
    """
    path = library_path()
    if not path.exists():
        return None
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise OSError(f"{path} cannot be loaded; delete it, and compile it again: {error}") from error
    operation: Any = torch.ops.routing_env.chosen_maps.default
    return operation


def compile_maps() -> Path:
    """Compile the library, unless it is there; processes that start from now on use it.

    Returns:
        Its file, beside the source. It is complete or not there.

    Raises:
        OSError: there is no compiler or no ninja, the compiler fails, or the file cannot be written.
    """
    path = library_path()
    if path.exists():
        return path
    from torch.utils import cpp_extension

    for tool, remedy in ((cpp_extension.get_cxx_compiler(), "install a C++ compiler, or name yours in CXX"), _NINJA):
        if shutil.which(tool) is None:
            raise FileNotFoundError(f"{tool} is not on the PATH; {remedy}. Everything works without compiling too")
    part = path.with_suffix(".part")
    part.touch()  # before the long work: an error where the installation cannot be written
    try:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                built = cpp_extension.load(
                    SOURCE.stem,
                    [str(SOURCE)],
                    build_directory=folder,
                    extra_cflags=["-O2"],
                    is_python_module=False,
                )
            except (RuntimeError, SubprocessError) as error:
                raise OSError(f"{SOURCE.name} cannot be compiled; everything works without it too. {error}") from error
            shutil.copyfile(str(built), part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
