"""Published results fit the rules of results/README.md, and what does not fit is named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from routing_env.maintenance.results import check_submission

RESULTS = Path(__file__).resolve().parents[1] / "results"
FOLDERS = sorted(path for path in RESULTS.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_published_results_fit(folder: Path) -> None:
    assert check_submission(folder) == []
    assert f"({folder.name})" in (RESULTS / "README.md").read_text(encoding="utf-8")


FIRST = "planted-3x4,1,best known,router,True,3,0.8979166666666667"


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("about.json", '"command"', '"comand"', "about.json does not say 'command'"),
        ("about.json", "{", "", "about.json cannot be read"),
        ("leaderboard.csv", ",seeds,", ",runs,", "has no column 'seeds'"),
        ("leaderboard.csv", ",iqm,", ",my_score,", "a column 'my_score', which leaderboards do not have"),
        ("leaderboard.csv", FIRST, FIRST.replace("0.8979", "89.79"), "best known in planted-3x4: accuracy is 89.79"),
        ("leaderboard.csv", FIRST, FIRST.replace("0.8979", "high"), "accuracy is 'high.*', not a number"),
        ("leaderboard.csv", FIRST, FIRST.replace("True,3", "True,2.5"), "seeds is 2.5; it must be a whole number"),
        ("leaderboard.csv", FIRST, FIRST.replace("True,3", "True,4"), "4 seeds in leaderboard.csv and 3 in runs.csv"),
        ("leaderboard.csv", FIRST, FIRST.replace(",1,", ",3,"), "places are 3, 2; they must go from 1 to 2"),
        ("leaderboard.csv", FIRST, FIRST.replace("0.89791", "0.89691"), "is not the mean over its runs in runs.csv"),
        (
            "leaderboard.csv",
            "planted-3x4,2,route-hedge",
            "planted-3x4,2,best known",
            "best known has more than one row",
        ),
        ("leaderboard.csv", FIRST, "planted-3x4,1", "does not have as many fields"),
        ("runs.csv", ",test_accuracy,", ",accuracy,", "runs.csv has no column 'test_accuracy'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, file: str, before: str, after: str, message: str) -> None:
    shutil.copytree(RESULTS / "route-hedge", tmp_path, dirs_exist_ok=True)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert before in text
    (tmp_path / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    wrong = check_submission(tmp_path)
    assert any(re.search(message, line) for line in wrong), wrong


def test_an_accuracy_outside_its_interval_is_named(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "leading", tmp_path, dirs_exist_ok=True)
    table = tmp_path / "leaderboard.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.5544,0.5732", "0.57,0.5732"), encoding="utf-8")
    assert check_submission(tmp_path) == ["leaderboard.csv, ensemble in leading: accuracy is not inside its interval"]


def test_places_follow_the_accuracy(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "leading", tmp_path, dirs_exist_ok=True)
    table = tmp_path / "leaderboard.csv"
    text = table.read_text(encoding="utf-8").replace("0.5638,0.5544", "0.5538,0.5444")
    table.write_text(text, encoding="utf-8")
    assert check_submission(tmp_path) == ["leaderboard.csv, leading: the rows are not in descending order of accuracy"]
