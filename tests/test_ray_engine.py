"""The engine ray: runs outlive the nodes that they are trained on, and end as they do on one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from ray_nodes import outlive_two_nodes, planned

from routing_env.benchmark.ray_engine import train_remotely


def test_runs_outlive_two_nodes_killed_in_turn(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seeds: int = request.config.getoption("--ray-seeds")  # pyright: ignore[reportAssignmentType]
    killed, local = outlive_two_nodes(tmp_path, seeds)
    assert killed == local


def metrics(files: dict[str, bytes]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_an_attempt_goes_on_from_the_files_that_another_has_sent(tmp_path: Path) -> None:
    job = planned(tmp_path, 1)[0]
    given = [(dict(job.given), str(job.path))]

    def attempt(begin: dict[str, bytes]) -> list[dict[str, bytes]]:
        sent = list(train_remotely(given, [begin], str(Path.cwd()), {}))
        assert sent[-1] == ""
        return [one[1] for one in sent if not isinstance(one, str)]

    whole = attempt({})
    rest = attempt(whole[2])
    assert [len(metrics(files)) for files in whole] == [*range(1, 6)]
    assert [metrics(files) for files in rest] == [metrics(files) for files in whole[3:]]
    assert not job.path.exists(), "an attempt writes to no folder of a run"
