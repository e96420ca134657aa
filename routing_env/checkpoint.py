"""Nested state in one safetensors file: tensors as tensors, the rest as JSON beside them. No pickle anywhere.

The metadata of the file contain two SHA-256 digests: one of all tensors, and one of the metadata, the first digest
included. So the header can be checked without reading the tensors, and a file that is not as it was saved is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

_TENSOR, _PAIRS = "__tensor__", "__pairs__"

_OWN = ("tree", "tensors", "metadata")
"""Metadata of :func:`save_tree` itself: the tree, the digest of the tensors, and the digest of all other metadata."""


class DamagedError(ValueError):
    """A file is not as it was written.

    Args:
        path: Of the file.
        what: What is wrong with it, in words that follow the path.
        remedy: What to do about it.
    """

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(path, what, remedy)
        self.path, self.what, self.remedy = path, what, remedy

    def __str__(self) -> str:
        return f"{self.path} {self.what}; {self.remedy}"


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

    metadata = {**(about or {}), "tree": json.dumps(flatten(tree, "")), "tensors": _digest_of_tensors(tensors)}
    metadata["metadata"] = json_digest(metadata)
    content = save(tensors, metadata)  # safetensors' own save_file leaves a temporary file where it is killed
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise OSError(f"cannot write {path}: {error}") from error


def load_tree(path: Path) -> Any:
    """What :func:`save_tree` saved, on the CPU.

    Raises:
        DamagedError: The file is not as it was saved, or of another kind.
        FileNotFoundError: There is none.
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
            metadata = _metadata(file)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if _digest_of_tensors(tensors) != metadata["tensors"]:
            raise ValueError("its tensors are not those that were saved")
        return restore(json.loads(metadata["tree"]), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error


def read_about(path: Path) -> dict[str, str]:
    """What :func:`save_tree` was given beside the tree; reads the header of the file alone.

    Raises:
        DamagedError: The header is not as it was saved, or the file is of another kind.
        FileNotFoundError: There is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: text for name, text in _metadata(file).items() if name not in _OWN}
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, error) from error


def json_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object in hexadecimal digits; the order of keys and white space do not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _metadata(file: Any) -> dict[str, str]:
    """The metadata of an open file.

    Raises:
        ValueError: They are not those that were saved.
    """
    metadata: dict[str, str] = file.metadata() or {}
    if "metadata" not in metadata:
        raise ValueError("it has no digest, which this version of routing-env writes")
    if json_digest({name: text for name, text in metadata.items() if name != "metadata"}) != metadata["metadata"]:
        raise ValueError("its metadata are not those that were saved")
    return metadata


def _digest_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path, reason: object) -> DamagedError:
    return DamagedError(path, f"is damaged ({reason})", "delete it and resume from the start")
