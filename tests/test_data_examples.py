"""The examples for your own data, network and loop and the snippets of docs/data.md do better than guessing."""

import gzip
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routing_env import MultiTaskData

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def printed(example: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return capsys.readouterr().out


def test_your_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("your_own_data.py", capsys)
    shares = re.findall(r"(\d+)% right; always predicting the majority class would be (\d+)%", out)
    assert len(shares) == 2
    assert all(int(right) > int(majority) + 10 for right, majority in shares)
    errors = [float(error) for error in re.findall(r"mean squared error ([\d.]+);", out)]
    assert len(errors) == 2
    assert max(errors) < 1


def test_your_own_network(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("your_own_network.py", capsys)
    found = re.search(r"all: balanced accuracy (\d+)%", out)
    assert found
    assert int(found[1]) > 60
    assert out.count("first block:") == 10


def test_your_own_loop(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("your_own_loop.py", capsys)
    for topology in ("per_task", "dispatched"):
        shares = re.findall(rf"{topology}, epoch \d: accuracy ([\d.]+)%", out)
        assert float(shares[-1]) > 75


def test_the_snippets_of_the_page_on_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), flags=re.S):
        exec(snippet, names)
    index, regret = map(float, capsys.readouterr().out.split())
    assert index == 1
    assert regret < 0.05
    assert names["network"].output_shape == (5,)

    for part, count in (("train", 30), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    data: MultiTaskData = names["kuzushiji"](tmp_path)
    assert (data.name, data.classes, data.input_shape, len(data.test)) == ("kuzushiji", (10,), (1, 28, 28), 20)
