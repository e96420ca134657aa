"""Tuning: every entrant has as many trials, and the test split stays closed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console
from secret_data import SECRET

from routing_env.agents import ROUTERS
from routing_env.agents.q_learning import QLearning
from routing_env.baselines import BASELINES
from routing_env.benchmark.local_engine import LocalEngine
from routing_env.benchmark.studies import Playing, Study, run_studies
from routing_env.benchmark.suites import Arena, Entrant
from routing_env.benchmark.tuned import read_tuned
from routing_env.benchmark.tuning import COMMON, RATES, Search, budget, search_for, searches_for, space_of
from routing_env.benchmark.tuning_report import save_tuning, tuning_table
from routing_env.benchmark.worker import DIVERGED, STOP, STOPPED, train_in_worker
from routing_env.names import field_docs
from routing_env.runs.directory import RunDirectory
from routing_env.runs.settings import TuneOptions
from routing_env.search_space import Between, Choices, SearchSpace, grid

pytestmark = pytest.mark.filterwarnings("ignore:class 2 of task")

QUIET = Console(quiet=True)
ARENA = Arena("secret", SECRET, ())
OWN = f"{Path(__file__).resolve()}:Between0And1"


class Between0And1(QLearning):
    """A router with a space that is not finite."""

    space: ClassVar[SearchSpace] = {"step": Between(0.01, 1.0, log=True)}


class Misspelt(QLearning):
    """A router that declares what it does not have."""

    space: ClassVar[SearchSpace] = {"stepp": Choices((0.1,))}


class Unbounded(QLearning):
    """A router that declares no space but numbers."""

    space: ClassVar[Any] = {"step": (0.1, 0.2)}


def options(tmp_path: Path, **given: Any) -> TuneOptions:
    usual: dict[str, Any] = {"epochs": 1, "seeds": (3,), "run_dir": tmp_path}
    return TuneOptions(**{**usual, **given})


def searches(tmp_path: Path, *names: str, arena: Arena = ARENA, **given: Any) -> list[Search]:
    config = options(tmp_path, **given)
    return [search_for(arena, Entrant(name, name), config, epochs=config.epochs) for name in names]


def measured(playing: Playing, *accuracies: float) -> None:
    """Rows that runs of a trial might have written."""
    for job in playing.jobs:
        RunDirectory(job.path).path.mkdir(parents=True, exist_ok=True)
        for epoch, accuracy in enumerate(accuracies, 1):
            RunDirectory(job.path).append_metrics({"epoch": epoch, "validation_accuracy": accuracy, "seconds": 1.0})
        RunDirectory(job.path).save_checkpoint({"epoch": len(accuracies)})


def points(study: Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.ended.values()]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Study], Path]:
    """A router, a baseline and a router of a user's, tuned on data whose test split raises."""
    folder = tmp_path_factory.mktemp("tuned")
    found = searches(folder, "wpl", "dense", search=("learning_rate",), rates=(0.1, 1e30))
    found += searches(folder, OWN, search=("options",), trials=3)
    studies = [Study(search) for search in found]
    assert run_studies(studies, QUIET, LocalEngine(1)) == []
    return studies, folder


def test_routers_and_baselines_have_every_point_once(tuned: tuple[list[Study], Path]) -> None:
    for study in tuned[0][:2]:
        assert [point["settings.learning_rate"] for point in points(study)] == [0.1, 1e30]
        assert study.complete


def test_a_space_that_is_not_finite_has_as_many_trials_as_asked_for(tuned: tuple[list[Study], Path]) -> None:
    steps = [point["options.step"] for point in points(tuned[0][2])]
    assert len(set(steps)) == len(steps) == 3
    assert all(0.01 <= step <= 1 for step in steps)


def test_nothing_of_the_test_split_is_measured(tuned: tuple[list[Study], Path]) -> None:
    """Its labels raise; besides, no metrics know of it."""
    files = list(tuned[1].rglob("metrics.jsonl"))
    assert len(files) >= 5
    assert not any("test" in file.read_text() for file in files)


def test_the_score_is_the_validation_accuracy_of_the_last_epoch(tuned: tuple[list[Study], Path]) -> None:
    for study in tuned[0]:
        for trial in study.completed:
            rows = study.search.jobs(trial.params)[0].rows()
            assert trial.value == (rows[-1]["validation_accuracy"] if rows else 0.0)


def test_what_diverges_scores_nothing(tuned: tuple[list[Study], Path]) -> None:
    dense = tuned[0][1]
    by_rate = {trial.params["settings.learning_rate"]: trial.value for trial in dense.completed}
    assert by_rate[1e30] == 0
    best = dense.best()
    assert best is not None
    assert best.settings["learning_rate"] == 0.1


def test_the_same_search_again_trains_nothing(tuned: tuple[list[Study], Path]) -> None:
    studies, folder = tuned
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.jsonl")}
    again = [Study(study.search) for study in studies]
    assert run_studies(again, QUIET, LocalEngine(1)) == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.jsonl")} == before
    assert [study.best() for study in again] == [study.best() for study in studies]


def test_the_report_has_a_row_for_each_entrant_and_the_file_an_entry(
    tuned: tuple[list[Study], Path], tmp_path: Path
) -> None:
    studies, _ = tuned
    output = tmp_path / "own.json"
    save_tuning(studies, options(tmp_path, output=output), QUIET)
    assert set(read_tuned(output)) == {"wpl", "dense", OWN}
    assert output.with_suffix(".png").stat().st_size > 1000
    table = tuning_table(studies)
    assert table == output.with_suffix(".md").read_text()
    assert all(f"`{study.search.entrant.name}`" in table for study in studies)


def test_a_killed_trial_is_run_again(tmp_path: Path) -> None:
    """What a crash left running goes on in its folder, and no point is lost or doubled."""
    (search,) = searches(tmp_path, "wpl", search=("learning_rate",))
    killed = Study(search)
    killed.resume()
    first, second = killed.next(), killed.next()
    assert first is not None
    assert second is not None
    measured(first, 0.5)
    killed.end(first, "")
    study = Study(search)
    study.resume()
    left: list[Playing] = []
    while (playing := study.next()) is not None:
        measured(playing, 0.4)
        study.end(playing, "")
        left.append(playing)
    assert second.jobs[0].path in [playing.jobs[0].path for playing in left]
    assert sorted(point["settings.learning_rate"] for point in points(study)) == sorted(RATES)
    assert len(left) == len(RATES) - 1


def test_a_failed_trial_is_tried_again_by_the_next_command_alone(tmp_path: Path) -> None:
    (search,) = searches(tmp_path, "wpl", search=("learning_rate",), rates=(0.1,))
    study = Study(search)
    study.resume()
    playing = study.next()
    assert playing is not None
    assert study.end(playing, "the disk is full") == "failed: the disk is full"
    assert study.next() is None
    assert study.best() is None
    again = Study(search)
    again.resume()
    assert again.next() is not None


def test_trials_below_the_median_are_stopped(tmp_path: Path) -> None:
    (search,) = searches(tmp_path, OWN, search=("options",), trials=8, epochs=4)
    study = Study(search)
    study.resume()
    for number in range(5):
        playing = study.next()
        assert playing is not None
        measured(playing, *[0.5 + 0.01 * number] * 4)
        study.end(playing, "")
    playing = study.next()
    assert playing is not None
    measured(playing, 0.1, 0.1)
    playing.watch()
    assert playing.pruned
    assert (playing.jobs[0].path / STOP).exists()
    assert study.end(playing, STOPPED) == "pruned at validation 10.00 %"
    assert len(study.ended) == 6
    assert len(study.completed) == 5


def test_the_sampler_is_seeded_and_goes_on_elsewhere(tmp_path: Path) -> None:
    """Two studies of one seed see the same points, and one that was opened again does not repeat itself."""
    steps: list[list[float]] = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        (search,) = searches(folder, OWN, search=("options",), trials=4)
        for _ in range(2):  # each time two trials, as after an interruption
            study = Study(search)
            study.resume()
            for _ in range(2):
                playing = study.next()
                assert playing is not None
                measured(playing, 0.5)
                study.end(playing, "")
        steps.append([point["options.step"] for point in points(Study(search))])
    assert steps[0] == steps[1]
    assert len(set(steps[0])) == 4


def test_a_run_stops_where_a_file_says_so(tmp_path: Path) -> None:
    """The loss lays the file down itself, in the middle of the first epoch."""
    stop = tmp_path / "run" / STOP
    module = tmp_path / "stopping.py"
    module.write_text(
        f"from pathlib import Path\nfrom secret_data import loss as own\n"
        f"def loss(output, target):\n    Path({str(stop)!r}).touch()\n    return own(output, target)\n"
    )
    given = {**SECRET, "loss": f"{module}:loss", "router": "dense", "epochs": 3, "measure_test": False, "threads": 1}
    assert train_in_worker([(given, tmp_path / "run"), (given, tmp_path / "next")]) == STOPPED
    assert len(RunDirectory(tmp_path / "run").read_metrics()) == 1
    assert not (tmp_path / "next").exists()
    assert train_in_worker([({**given, "loss": SECRET["loss"], "learning_rate": 1e30}, tmp_path / "far")]).startswith(
        DIVERGED
    )


def test_an_entrant_keeps_what_it_settles_itself(tmp_path: Path) -> None:
    config = options(tmp_path)
    fixed = Entrant("own", "wpl", ("rule=full-vector",), {"learning_rate": 0.7})
    search = search_for(ARENA, fixed, config, epochs=1)
    assert set(search.space) == {"options.step"}
    job = search.jobs({"options.step": 0.1})[0]
    assert job.given["learning_rate"] == 0.7
    assert set(job.given["router_options"]) == {"rule=full-vector", "step=0.1"}


def test_a_baseline_keeps_its_usual_optimiser(tmp_path: Path) -> None:
    """And it tries a tenth of the learning rates, as Adam needs them."""
    (search,) = searches(tmp_path, "soft_mixture", search=("learning_rate",))
    rates = [job.given["learning_rate"] for point in search.points or [] for job in search.jobs(point)]
    assert rates == [0.001, 0.003, 0.01, 0.03]
    assert search.jobs({"settings.learning_rate": 0.01})[0].given["optimizer"] == "adam"
    assert search.chosen({"settings.learning_rate": 0.01}, 0.5, 4).settings["optimizer"] == "adam"


def test_in_a_scenario_options_alone_are_searched(tmp_path: Path) -> None:
    first, second = searches_for("", options(tmp_path, scenario=("planted-3x4",), entrants=("wpl", "dense")))
    assert set(first.space) == {"options.rule", "options.step"}
    assert second.points == [{"options.depth": 1}, {"options.depth": 2}, {"options.depth": 3}]


def test_depth_is_searched_once(tmp_path: Path) -> None:
    """Of a baseline, as its option or as the layers of the game; a network without layers has none."""
    (search,) = searches(tmp_path, "dense", search=("options", "layers"))
    assert set(search.space) == {"settings.layers"}
    (search,) = searches(tmp_path, "linear_heads", search=("options",))
    assert search.points == [{}]


def test_other_points_and_other_spaces_have_other_places(tmp_path: Path) -> None:
    one, other = (searches(tmp_path, "wpl", search=("learning_rate",), rates=rates)[0] for rates in ((0.1,), (0.1, 1)))
    assert one.journal != other.journal
    here, there = (other.jobs({"settings.learning_rate": rate})[0].path for rate in (0.1, 1.0))
    assert here != there
    assert one.jobs({"settings.learning_rate": 0.1})[0].path == here


def test_the_budget_is_said(tmp_path: Path) -> None:
    first, *others = budget(searches(tmp_path, "wpl", "dense", trials=5))
    assert "5 trials for each entrant" in first
    assert "the test split is not read" in first
    assert others == [
        (
            "  wpl: 5 trials; learning_rate {0.01, 0.03, 0.1, 0.3}, rule {algorithm-3, full-vector}, "
            "step {0.003, 0.01, 0.03, 0.1, 0.3}"
        ),
        "  dense: 5 trials; learning_rate {0.01, 0.03, 0.1, 0.3}, depth {1, 2, 3}",
    ]


@pytest.mark.parametrize("name", [*ROUTERS, *BASELINES])
def test_declared_spaces_name_options_that_exist(name: str) -> None:
    assert all(isinstance(one, Between | Choices) for one in space_of(name).values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"search": ("learningrate",)}, "unknown setting to search 'learningrate'; did you mean 'learning_rate'?"),
        ({"trials": 0}, "trials is 0; it must be at least 1"),
        ({"seeds": ()}, "seeds is (); it must be one or more numbers"),
        ({"seeds": (10, -1)}, "seeds is (10, -1); it must be one or more numbers from 0 to 2**63 - 1"),
        ({"rates": (0.0,)}, "rates is (0.0,); it must be above 0"),
        ({"rates": (0.1, float("inf"))}, "rates is (0.1, inf); it must be above 0 and finite"),
        ({"search": ("optimizer", "momentum")}, "momentum, which only sgd has, cannot be searched beside optimizer"),
        ({"scenario": ("pair-2", "drift")}, "has the arenas pair-2, drift, and settings are tuned for one"),
        ({"entrants": (f"{__file__}:Misspelt",)}, "has no option 'stepp'; did you mean 'step'?"),
        ({"entrants": (f"{__file__}:Unbounded",)}, "step is (0.1, 0.2); it must be Choices(...) or Between(...)"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the messages follow
        searches_for("planted", options(tmp_path, **given))
    assert message in str(error.value)


def test_without_optuna_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "routing_env.benchmark.studies")
    with pytest.raises(ValueError, match=r"pip install 'routing-env\[tune\]'"):
        importlib.import_module("routing_env.benchmark.studies")


def test_a_grid_is_every_combination() -> None:
    space: SearchSpace = {"a": Choices((1, 2)), "b": Choices(("x", None))}
    assert grid(space) == [{"a": 1, "b": "x"}, {"a": 1, "b": None}, {"a": 2, "b": "x"}, {"a": 2, "b": None}]
    assert grid({}) == [{}]
    assert grid({**space, "c": Between(0, 1)}) is None
    assert json.dumps(grid(space))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choices(()), "values is ()"),
        (lambda: Choices(((1, 2),)), "numbers, strings, True, False or None"),
        (lambda: Between(1, 1), "high is 1; it must be a number above low, 1"),
        (lambda: Between(0, 1, log=True), "low is 0; it must be a number, above 0 if log"),
        (lambda: Between(0.5, 2, integer=True), "low is 0.5; it must be an integer"),
    ],
)
def test_an_empty_space_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the messages follow
        make()
    assert message in str(error.value)


def test_help_and_page_name_everything_that_can_be_searched() -> None:
    page = (Path(__file__).parents[1] / "docs" / "tuning.md").read_text(encoding="utf-8")
    for name in COMMON:
        assert f"| `{name}`" in page
        assert name in field_docs(TuneOptions)["search"]
