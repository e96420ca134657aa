"""The examples for one's own data and network run, and what they print is better than guessing."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def printed(example: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return capsys.readouterr().out


def test_your_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("your_own_data.py", capsys)
    shares = re.findall(r"(\d+)% right; always naming the commonest class would be (\d+)%", out)
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
