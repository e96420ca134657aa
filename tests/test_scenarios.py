"""Named scenarios: what they settle, how they are played, and that they tell routers apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test
from rich.console import Console
from worlds import little_data

from routing_env import make_game, parallel_env
from routing_env.agents import make_router
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.jobs import plan_jobs
from routing_env.benchmark.scenario_scores import (
    ScenarioScores,
    overall,
    save_scenario_scores,
    scenario_scores,
    terminal_scores,
)
from routing_env.benchmark.suites import SUITES, suite_of
from routing_env.data import DATASETS, OnePerTask, ShuffledPass, load
from routing_env.data.dealers import DriftingTasks
from routing_env.data.planted import plant
from routing_env.game.build import resolve
from routing_env.game.settings import Settings
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run, resolve_run
from routing_env.scenarios import FREE, SCENARIOS, VERSION, Scenario
from routing_env.state_dicts import same_state
from routing_env.types import State

HERE = [name for name, about in SCENARIOS.items() if not DATASETS[about.game["data"]].files]
"""Scenarios that need no files."""

QUICK = ["planted-3x4", "scarce", "uneven", "mixed", "arrivals", "visitors", "scale-12"]


@pytest.mark.parametrize("name", HERE)
def test_a_scenario_is_a_game_with_a_best_routing(name: str) -> None:
    settings, data = resolve({"scenario": name, "seed": 3})
    about = SCENARIOS[name]
    assert settings.scenario == name
    assert {key: getattr(settings, key) for key in about.game} == dict(about.game)
    game = make_game(scenario=name, seed=3)
    assert (about.best is not None) == about.tells_apart
    if about.best is not None and not about.run:
        router, options = about.best
        state: State | None = game.reset()
        run, _ = resolve_run({"scenario": name, "router": router, "router_options": options})
        assert run.epochs == about.epochs
        oracle: Any = Run(run, data).learner
        while state is not None:
            state = game.step(oracle.router.act(state))
    assert about.measures
    assert about.literature or not about.tells_apart


def test_what_a_scenario_settles_is_refused_and_the_rest_is_free() -> None:
    with pytest.raises(ValueError, match="beside scenario 'crowd-12', which settles it"):
        make_game(scenario="crowd-12", rho=0.5)
    with pytest.raises(ValueError, match="data is 'digits' beside scenario"):
        parallel_env(scenario="crowd-12", data="digits")
    with pytest.raises(ValueError, match="arrivals is '6\\+6' beside scenario 'arrivals'"):
        Run.of({"scenario": "arrivals", "arrivals": "6+6"})
    with pytest.raises(ValueError, match="did you mean 'crowd-12'"):
        make_game(scenario="crowd-21")
    assert make_game(scenario="crowd-12", batch_size=6, seed=2, data="planted").settings is not None
    names = set(Settings.__dataclass_fields__)
    assert names >= FREE
    for about in SCENARIOS.values():
        assert set(about.game) <= names - FREE | {"batch_size"}


@pytest.mark.parametrize("name", ["pair-2", "drift", "arrivals", "blind", "visitors", "sparse-5"])
def test_a_scenario_passes_the_conformance_tests(name: str) -> None:
    parallel_api_test(parallel_env(scenario=name), num_cycles=30)
    env: Any = pettingzoo.make("parallel", f"routing-bench/{name}-v0")
    assert env.unwrapped.lanes.spec.actions == parallel_env(scenario=name).lanes.spec.actions
    if name != "arrivals":
        single: Any = gymnasium.make(f"routing-bench/{name}-v0", mask="info")
        check_env(single.unwrapped, skip_render_check=True)


def test_arriving_agents_come_with_the_scenario() -> None:
    env = parallel_env(scenario="arrivals")
    env.reset(seed=0)
    assert env.agents == ["task_0", "task_1", "task_2"]
    assert len(env.possible_agents) == 12
    data = make_game(scenario="arrivals").data
    assert data.groups == (0, 1, 2) * 4


@pytest.mark.parametrize("dealt", [ShuffledPass, OnePerTask])
def test_tasks_change_hands_after_their_passes(dealt: Any) -> None:
    data = plant(groups=2, tasks_per_group=3, samples=40, features=8, validation=0)
    plain = dealt(data, 6, 0)
    drifting = DriftingTasks(dealt(data, 6, 0), data, 2)
    before = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    seen = 0
    while seen < 4 * data.train.task.numel():
        as_dealt, batch = plain.next_batch(), drifting.next_batch()
        task = before[as_dealt.task] if seen < 2 * plain.pass_size else as_dealt.task
        expected, found = (
            sorted(zip(tasks.tolist(), x[:, 0].tolist(), strict=True))
            for tasks, x in ((task, as_dealt.x), (batch.task, batch.x))
        )
        assert found == expected
        if dealt is OnePerTask:
            assert batch.task.equal(as_dealt.task)
        seen += len(batch)
        if seen == 6 * 10:
            twin = DriftingTasks(dealt(data, 6, 0), data, 2)
            twin.load_state_dict(drifting.state_dict())
            assert same_state(twin.state_dict(), drifting.state_dict())
    with pytest.raises(ValueError, match="differ in their numbers of classes"):
        DriftingTasks(plain, little_data(3, (2, 3, 2)), 1)


def test_visitors_have_no_choice_and_the_others_have() -> None:
    game = make_game(scenario="visitors")
    router = make_router("wpl", game.spec, seed=0)
    router.play(game, 2_000)
    routes = game.evaluate(router).routes[:, 0]
    assert [routes[task].argmax().item() for task in (0, 4, 8)] == [1, 2, 0]
    state = game.reset()
    visiting = torch.isin(state.task, torch.tensor([0, 4, 8]))
    assert (state.legal[visiting].sum(1) == 1).all()
    assert state.legal[~visiting].all()
    with pytest.raises(ValueError, match="visitors is 4; it must be from 0 to 3"):
        make_game(data="planted", visitors=4)
    with pytest.raises(ValueError, match="has no groups"):
        make_game(data="digits", visitors=1)


def test_options_of_a_data_set_have_its_functions_names() -> None:
    uneven = load("planted", sizes=[1, 2], samples=20, features=4)
    assert uneven.groups == (0, 1, 1)
    given = resolve({"data": "planted", "data_options": ("sizes=[1, 2]", "samples=20", "features=4")})[1]
    assert given.fingerprint == uneven.fingerprint
    with pytest.raises(ValueError, match="data set 'planted' has no option 'group'; did you mean 'groups'"):
        make_game(data="planted", data_options=("group=3",))
    with pytest.raises(ValueError, match="'digits' has no option 'groups'"):
        make_game(data="digits", data_options=("groups=3",))
    with pytest.raises(ValueError, match="every group must have at least 1 task"):
        plant(sizes=[2, 0])


def test_the_oracle_of_mixed_data_sees_the_kind() -> None:
    game = make_game(data="mixed")
    oracle = make_router("oracle", game.spec)
    state = game.reset()
    kind = state.v[:, :3].argmax(1)
    assert oracle.act(state).action.equal(kind)
    assert len(kind.unique()) == 3
    with pytest.raises(ValueError, match="only the first decision sees the kind"):
        make_router("oracle", make_game(data="mixed", layers=2).spec)


@pytest.mark.parametrize("name", QUICK)
def test_random_fixed_routes_are_far_below_the_best_routing(name: str) -> None:
    about = SCENARIOS[name]
    assert about.best is not None
    accuracy: dict[str, float] = {}
    for router, options in (about.best, ("random-fixed", ())):
        run = Run.of({"scenario": name, "router": router, "router_options": options, "threads": 1})
        epochs = about.epochs // 2 + run.learner.later_epochs
        for epoch in range(epochs):
            run.learner.play(run.learner.goal(epoch + 1) - run.learner.samples, lambda: None)
        accuracy[router] = run.learner.evaluate("validation").overall_accuracy
    best, floor = accuracy.values()
    assert best > floor + 0.05


def test_scores_are_on_one_scale() -> None:
    accuracy = {"best known": {0: 0.9, 1: 0.8}, "random-fixed": {0: 0.5, 1: 0.4}, "mine": {0: 0.65, 1: 0.85}}
    scores = ScenarioScores("a", accuracy, floor=0.45, top=0.85, top_is_known=True, p=0.1)
    assert scores.normalised("mine") == pytest.approx({0: 0.5, 1: 1.0})
    assert np.mean(list(scores.normalised("random-fixed").values())) == pytest.approx(0)
    assert np.mean(list(scores.normalised("best known").values())) == pytest.approx(1)
    other = replace(scores, scenario="b", accuracy={**accuracy, "other": {0: 0.5}})
    unknown = replace(scores, scenario="c", accuracy={"mine": {0: 9.0, 1: 9.0}}, top_is_known=False)
    over = overall([scores, other, unknown])
    assert list(over) == ["best known", "mine", "random-fixed"]
    assert over["mine"].value == pytest.approx(0.75)


def test_names_of_entrants_do_not_break_the_table_of_scores(tmp_path: Path) -> None:
    accuracy = {"random-fixed": {0: 0.5}, "mine.py:Mine kinds=a|b": {0: 0.6}}
    scores = ScenarioScores("a", accuracy, floor=0.5, top=0.6, top_is_known=False, p=np.nan)
    heading, _, row = save_scenario_scores([scores], tmp_path)[0].read_text(encoding="utf-8").splitlines()
    assert r"kinds=a\|b" in heading
    assert heading.replace(r"\|", "").count("|") == row.count("|")


def test_without_a_scale_there_is_no_score() -> None:
    accuracy = {"best known": {0: 0.5}, "random-fixed": {0: 0.5}, "mine": {0: 0.4}}
    scores = ScenarioScores("a", accuracy, floor=0.5, top=0.5, top_is_known=True, p=np.nan)
    assert np.isnan(scores.normalised("mine")[0])
    assert overall([scores]) == {}
    assert "-" in [cell for column in terminal_scores([scores]).columns for cell in column.cells]


def test_only_agents_with_a_choice_count(tmp_path: Path) -> None:
    jobs = plan_jobs(suite_of(["visitors"]), tmp_path, seeds=1)
    assert {"best known", "random-fixed", "wpl"} <= {job.entrant.name for job in jobs}
    row = {"test_task_accuracy": [0.0 if task in (0, 4, 8) else 0.5 for task in range(12)]}
    for job in jobs:
        job.path.mkdir(parents=True)
        rows = [json.dumps({"epoch": epoch + 1, **row}) for epoch in range(job.epochs)]
        (job.path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
        RunDirectory(job.path).save_checkpoint({"epoch": job.epochs})
    (scores,) = scenario_scores(jobs)
    assert scores.floor == scores.top == 0.5


@pytest.mark.parametrize("scenario", ["planted-3x4", "overlap"])  # the oracle knows the routing of one alone
def test_a_report_on_folders_knows_the_best_routing(scenario: str, tmp_path: Path) -> None:
    best = SCENARIOS[scenario].best
    assert best is not None
    for router, options in (best, ("random-fixed", ())):
        run = Run.of({"scenario": scenario, "router": router, "router_options": options, "epochs": 1})
        run.train(RunDirectory.create(tmp_path, router, run.settings, run.data), Display(Console(quiet=True)))
    (scores,) = scenario_scores(found_jobs([tmp_path]))
    assert scores.top_is_known
    assert set(scores.accuracy) == {"best known", "random-fixed"}


def test_the_suites_play_all_scenarios() -> None:
    played = {arena.name for suite in (VERSION, f"{VERSION}-paper") for arena in SUITES[suite].arenas}
    assert played == set(SCENARIOS)
    arrivals = plan_jobs(suite_of(["arrivals"]), Path("base"), seeds=1)
    assert all(job.epochs > SCENARIOS["arrivals"].epochs for job in arrivals)
    assert isinstance(SCENARIOS["arrivals"], Scenario)
