"""Every Python snippet of README and docs runs as written, and reaches what the text beside it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import small_run

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
SNIPPETS = {
    f"{page.name}:{page.read_text().count(chr(10), 0, found.start()) + 1}": found[1]
    for page in PAGES
    for found in re.finditer(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
}
FRAMEWORKS = ("benchmarl.algorithms", "ray.rllib", "tianshou.env")
"""What examples/requirements has, as it does not go together with the test environment."""

SHORTER = {
    "epochs=12": "epochs=1",
    "epochs=6": "epochs=1",
    "learn_together(models, 9_000)": "learn_together(models, 600)",
    "model.learn(400_000)": "model.learn(90_000)",
    "model.learn(80_000)": "model.learn(9_000)",
    "6 * len(game.data.train)": "2 * len(game.data.train)",
    "range(6)": "range(2)",
}
"""Trainings that take a minute or more, and what they are without ``--long``."""

REACHED = {
    'RoutingVecEnv(data="digits", copies=6, final_reward': 0.93,
    "learn_together(models": 0.93,
    'data="digits", copies=3, parts=("task", "depth"), seed=0)': 0.95,
    "class Residual(RoutedModel)": 0.65,
    "class Net(RoutedModel)": 0.65,
    "model.spec(data.tasks)": 0.75,
    "6 * game.dealer.pass_size": 0.8,
}
"""The least accuracy that a snippet must print after its full training, by a part of it."""


def surroundings(snippet: str) -> dict[str, Any]:
    """Names that the text before a snippet introduces."""
    if "load_run" in snippet:
        small_run(Path("runs/planted-wpl/my-run"))
    if "wines" in snippet:
        from sklearn.datasets import load_wine

        wines, grower = load_wine(return_X_y=True)
        return {"wines": wines, "grower": grower, "is_high": (wines[:, 0] > 13).astype(int)}
    return {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", SNIPPETS)
def test_snippet(
    place: str, long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snippet = SNIPPETS[place]
    for name in FRAMEWORKS:
        if re.search(rf"^from {re.escape(name)}\b", snippet, re.MULTILINE):
            pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    whole = snippet
    if not long:
        for part, shorter in SHORTER.items():
            snippet = snippet.replace(part, shorter)
    exec(compile(snippet, place, "exec"), names := surroundings(snippet))
    assert len(names) > 1
    printed = capsys.readouterr().out
    for part, least in REACHED.items():
        if part in snippet and snippet == whole:
            percent = [float(number) / 100 for number in re.findall(r"accuracy (\d+\.\d+)%", printed)]
            numbers = percent[:1] or [float(number) for number in re.findall(r"\d\.\d+", printed)]
            assert sum(numbers) / len(numbers) >= least, printed


def test_the_accuracies_are_those_of_snippets_that_exist() -> None:
    for part in (*REACHED, *SHORTER):
        assert any(part in snippet for snippet in SNIPPETS.values()), part
    for place, snippet in SNIPPETS.items():
        ast.parse(snippet, place)
