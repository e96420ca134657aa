"""Nested state in one safetensors file: tensors as tensors, the rest as JSON beside them. No pickle anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

_TENSOR, _PAIRS = "__tensor__", "__pairs__"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in place in one step.

    A crash or a full disk leaves what was at ``path`` before. What lies where the temporary file is to be, such as a
    link to somewhere else, is removed and never written through.

    Raises:
        OSError: the folder cannot be written, or somebody else is writing the same file.
    """
    temporary = path.with_name(path.name + ".partial")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tree(path: Path, tree: Any, about: Mapping[str, str] | None = None) -> None:
    """Save nested dicts and lists of tensors, numbers, strings, booleans and None.

    Args:
        path: Of the file.
        tree: What to save.
        about: What :func:`read_about` finds without reading the tree.

    Raises:
        TypeError: anything else in the tree, with its place.
    """
    tensors: dict[str, torch.Tensor] = {}

    def flatten(node: Any, place: str) -> Any:
        if isinstance(node, torch.Tensor):
            tensors[place] = node.detach().cpu().contiguous().clone()
            return {_TENSOR: place}
        if isinstance(node, dict):
            pairs = cast(dict[Any, Any], node).items()
            # JSON would turn the integer keys of optimiser states into strings.
            return {_PAIRS: [[key, flatten(value, f"{place}/{key}")] for key, value in pairs]}
        if isinstance(node, list | tuple):
            return [flatten(value, f"{place}/{i}") for i, value in enumerate(cast(list[Any], node))]
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(
            f"{place or 'the state'} is a {type(node).__name__}; a checkpoint holds only nested dicts and lists of "
            "tensors, numbers, strings, booleans and None"
        )

    metadata = {**(about or {}), "tree": json.dumps(flatten(tree, ""))}
    content = save(tensors, metadata)  # safetensors' own save_file leaves a temporary file where it is killed
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise OSError(f"cannot write {path}: {error}") from error


def load_tree(path: Path) -> Any:
    """What :func:`save_tree` saved, on the CPU.

    Raises:
        ValueError: the file is damaged or of another kind.
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")

    def restore(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
        if isinstance(node, list):
            return [restore(value, tensors) for value in cast(list[Any], node)]
        if not isinstance(node, dict):
            return node
        if _TENSOR in node:
            return tensors[cast(str, node[_TENSOR])]
        return {key: restore(value, tensors) for key, value in cast(list[list[Any]], node[_PAIRS])}

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return restore(json.loads((file.metadata() or {})["tree"]), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def read_about(path: Path) -> dict[str, str]:
    """What :func:`save_tree` was given beside the tree; reads the header of the file alone.

    Raises:
        ValueError: The file is damaged or of another kind.
        FileNotFoundError: There is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: text for name, text in (file.metadata() or {}).items() if name != "tree"}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(f"checkpoint {path} is damaged ({reason}); delete it and resume from the start")
