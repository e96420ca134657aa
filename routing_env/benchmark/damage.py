"""Damaged folders of runs: they are told, and stop neither a benchmark nor a report."""

from __future__ import annotations

from pathlib import Path

from routing_env.checkpoint import DamagedError
from routing_env.runs.directory import RunDirectory


def damage_in(folder: Path) -> str:
    """Why the config and the metrics of a run cannot be read, with the remedy; empty where they can or are not there.

    The weights in the checkpoint are not read: whoever loads them checks them.
    """
    directory = RunDirectory(folder)
    try:
        if directory.config_path.is_file():
            directory.read_config()
        if directory.epoch:
            directory.read_metrics()
    except DamagedError as error:
        return remedied(error, folder)
    return ""


def remedied(error: DamagedError, folder: Path) -> str:
    """What is wrong with a file of a run that can be trained again, and how to do that."""
    return f"{error.path} {error.what}; delete the folder {folder}, and train this run again"
