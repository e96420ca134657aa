"""A short edition of the fault campaign, and that it notices what it is there to notice."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from faults.campaign import Campaign, CampaignOptions
from faults.damage import damage
from faults.runs import BreachError, Standing, Twin, content, expect, settle
from faults.server import Ending
from rich.console import Console
from trained import small_run

from routing_env.checkpoint import load_tree, read_about, save_tree

KINDS = (
    "train: SIGKILL before it changes a file",
    "train: killed inside a write",
    "any file of a stopped run",
    "content of a stopped run",
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="kills processes by way of /proc and pidfd")


@linux
def test_a_short_campaign_breaks_nothing(tmp_path: Path) -> None:
    options = CampaignOptions(
        kills=4, corruptions=2, others=1, kinds=KINDS, trainings=("wpl",), jobs=1, keep=tmp_path, limit=600
    )
    campaign = Campaign(options, Console(quiet=True))
    assert campaign.run() == []
    assert len(campaign.rows) == len(KINDS)
    assert all(row.injected >= row.wanted > 0 for row in campaign.rows)


def flip_a_weight(run: Path) -> None:
    path = run / "checkpoint.safetensors"
    tree = load_tree(path)
    states: list[Any] = [tree]
    while not (isinstance(node := states.pop(), torch.Tensor) and node.is_floating_point()):
        states += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    node.view(-1)[0] += 1e-6
    save_tree(path, tree, read_about(path))


def change_a_measure(run: Path) -> None:
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["samples"] += 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("change", [flip_a_weight, change_a_measure])
def test_bits_that_differ_from_the_twin_are_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    whole, other = small_run(tmp_path / "whole").path, small_run(tmp_path / "other").path
    twin = Twin(whole, content(whole), 1.0)
    settle(other, twin, [])  # which was trained at another time, for other seconds
    change(other)
    with pytest.raises(BreachError, match="bits lost"):
        settle(other, twin, [])


def test_what_is_left_over_or_missing_is_noticed(tmp_path: Path) -> None:
    whole = small_run(tmp_path / "whole").path
    twin, other = Twin(whole, content(whole), 1.0), tmp_path / "other"
    shutil.copytree(whole, other)
    (other / "metrics.jsonl.partial").write_text("")
    with pytest.raises(BreachError, match=r"litter.*metrics\.jsonl\.partial"):
        settle(other, twin, [])
    (other / "metrics.jsonl.partial").unlink()
    (other / "metrics.jsonl").unlink()
    with pytest.raises(BreachError, match=r"bits lost.*metrics\.jsonl"):
        settle(other, twin, [])


def test_epochs_that_are_trained_again_are_noticed(tmp_path: Path) -> None:
    directory = small_run(tmp_path / "run")
    before = Standing.of(tmp_path)
    small_run(directory.path, 3)
    Standing.of(tmp_path).refuse_loss(before)
    shutil.rmtree(directory.path)
    small_run(directory.path, 3)  # the same numbers, at other times
    with pytest.raises(BreachError, match="trained again"):
        Standing.of(tmp_path).refuse_loss(before)


@pytest.mark.parametrize(
    ("ending", "breach"),
    [
        (Ending(0, "", 999.0, False, True, 0), "hangs"),
        (Ending(1, 'Traceback (most recent call last):\n  File "routing_env/x.py"', 1, False, False, 0), "tracebacks"),
        (Ending(1, "error: no", 1.0, False, False, 0), "exit codes"),
    ],
)
def test_an_ending_that_should_not_be_is_noticed(ending: Ending, breach: str) -> None:
    with pytest.raises(BreachError, match=f"^{breach}"):
        expect(ending, 0, 2)


def test_damage_changes_one_file_and_the_same_seed_the_same_one(tmp_path: Path) -> None:
    whole, random, told = small_run(tmp_path / "whole").path, Random(0), set[str]()
    for number in range(20):
        copies = [tmp_path / f"{number}-{copy}" for copy in range(2)]
        seed = random.random()
        for copy in copies:
            shutil.copytree(whole, copy)
            _, said = damage(copy, Random(seed))
            told.add(said)
        files = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
        changed = [file for file in files if (copies[0] / file).read_bytes() != (whole / file).read_bytes()]
        assert len(changed) == 1
        assert all((copies[0] / file).read_bytes() == (copies[1] / file).read_bytes() for file in files)
    assert len(told) > 10
