"""The entropy of a policy is measured where the policy is known, and left out where it is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from stable_baselines3 import DQN, PPO
from worlds import little_data

from routing_env import Decision, Router, State, make_game
from routing_env.agents import ROUTERS, make_router
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.leaderboard import leaderboards
from routing_env.benchmark.tables import markdown
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.monitor import Monitor
from routing_env.runs.recording import Recording
from routing_env.runs.run import Run

DATA = little_data()
SMALL: dict[str, Any] = {"data": DATA, "network": "mlp", "hidden": 4, "learning_rate": 0.1}


class Halves(Router):
    """Draws one of the first two legal actions, and says so or not."""

    def __init__(self, *, says: bool) -> None:
        self.says = says

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """One of the two, with the policy if it says so."""
        drawn = torch.randint(2, state.task.shape).unsqueeze(1)
        policy = self.probability(state)
        action = policy.topk(2).indices.gather(1, drawn).squeeze(1)
        return Decision(action, policy if self.says else None)

    def probability(self, state: State) -> torch.Tensor:
        """A half for each of the two."""
        return 0.5 * ((state.legal.cumsum(1) <= 2) & state.legal)


@pytest.mark.parametrize(("says", "knows"), [(True, False), (False, True), (False, False)])
def test_the_entropy_is_that_of_the_policy_or_nothing(says: bool, knows: bool) -> None:
    game, router = make_game(**SMALL), Halves(says=says)
    monitor = Monitor(game.spec, every=1, probability=router.probability if knows else None)
    game.observers.append(monitor)
    router.play(game, 20)
    if says or knows:
        assert monitor.entropy() == pytest.approx(math.log(2))
    else:
        assert math.isnan(monitor.entropy())


@pytest.mark.parametrize("name", [name for name in ROUTERS if name != "oracle"])
def test_every_router_says_what_it_draws_from(name: str) -> None:
    game = make_game(**SMALL)
    router = make_router(name, game.spec, seed=0)
    state: State | None = game.reset()
    while state is not None:
        decision = router.act(state)
        assert decision.probability is not None
        state = game.step(decision)


def test_the_oracle_says_what_it_draws_from() -> None:
    game = make_game(data="planted", network="mlp")
    state = game.reset()
    assert make_router("oracle", game.spec).act(state).probability is not None


def last_row(recording: Recording) -> dict[str, Any]:
    return json.loads(recording.directory.metrics_path.read_text(encoding="utf-8").splitlines()[-1])


def test_the_distribution_of_a_model_is_read(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL, copies=2)
    model = PPO("MlpPolicy", env, n_steps=6, batch_size=36, seed=0, learning_rate=0.0)
    with Recording(env, "ppo", env.policy(model), run_dir=tmp_path) as recording:
        model.learn(3 * len(DATA.train))
    with torch.no_grad():  # at learning rate 0 the model still is as it was
        seen = torch.from_numpy(env.reset())
        logits = model.policy.get_distribution(seen).distribution.logits  # pyright: ignore[reportAttributeAccessIssue]
        legal = torch.from_numpy(env.lanes.masks) > 0
        expected = torch.special.entr(logits.masked_fill(~legal, -torch.inf).softmax(1)).sum(1).mean()
    assert last_row(recording)["policy_entropy"] == pytest.approx(float(expected), rel=0.05)


def test_a_model_without_a_distribution_has_no_entropy(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL, copies=2)
    model = DQN("MlpPolicy", env, seed=0, buffer_size=500)
    with Recording(env, "dqn", env.policy(model), run_dir=tmp_path) as recording:
        model.learn(3 * len(DATA.train))
    assert last_row(recording)["policy_entropy"] is None


def test_a_leaderboard_shows_a_dash_beside_known_entropies(tmp_path: Path) -> None:
    env = RoutingVecEnv(**SMALL)
    with Recording(env, "silent", lambda state: state.legal.int().argmax(1), run_dir=tmp_path):
        env.seed(0)
        env.reset()
        for _ in range(3 * len(DATA.train)):
            env.step(np.zeros(env.num_envs, int))
    wpl = RunDirectory(tmp_path / "wpl" / "one")
    run = Run.of({**SMALL, "router": "wpl", "epochs": 1})
    wpl.write_config(run.settings)
    run.train(wpl, Display(Console(quiet=True)))
    text = markdown(leaderboards(found_jobs([tmp_path])))
    routing = text.split("Routing on the test split")[1]
    (silent,) = [line for line in routing.splitlines() if line.startswith("| silent")]
    (other,) = [line for line in routing.splitlines() if line.startswith("| wpl")]
    assert silent.split("|")[2].strip() == "-"
    assert float(other.split("|")[2]) > 0
