"""The BenchMARL task: TorchRL's check of specifications, evaluation that trains nothing, runs on our leaderboard."""

# pyright: reportMissingImports=false

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import same, weights

pytest.importorskip("benchmarl", reason="BenchMARL is not installed: see examples/requirements/benchmarl.txt")

from torchrl.envs.utils import check_env_specs

from routing_env import State
from routing_env.envs.benchmarl import GroupPolicy, RoutingTask
from routing_env.runs.benchmarl import build_experiment, record

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL: dict[str, Any] = {"scenario": "pair-2"}
MASKED: dict[str, Any] = {
    "data": "planted",
    "data_options": ("groups=1", "tasks_per_group=3", "samples=40"),
    "layers": 2,
    "hidden": 8,
    "recursive": True,
    "pass_action": True,
}


def environments(task: RoutingTask, seed: int | None = 0) -> list[Any]:
    return [task.get_env_fun(envs, continuous_actions=False, seed=seed, device="cpu")() for envs in (10, 1)]


@pytest.mark.parametrize("settings", [MASKED, SMALL], ids=["recursive", "pair-2"])
def test_specifications_hold(settings: dict[str, Any]) -> None:
    task: Any = RoutingTask(parts=("v", "task", "depth"), **settings)
    for env in environments(task):
        check_env_specs(env, break_when_any_done="both")
        spec = task.world.game.spec
        assert task.action_mask_spec(env)["task", "action_mask"].shape == (spec.tasks, spec.actions)
        assert task.max_steps(env) == len(env.rollout(9)) == spec.depth
        assert list(task.state_spec(env).keys()) == ["state"]
        assert list(task.observation_spec(env)["task"].keys()) == ["observation"]


def test_the_first_environment_evaluates_what_the_second_one_trains() -> None:
    task = RoutingTask(**SMALL)
    validation, training = environments(task)
    assert task.world is not None
    start = weights(task.world)
    rewards = []
    for _ in range(2):
        validation.set_seed(0)
        rewards.append(torch.stack([validation.rollout(1)["next", "task", "reward"] for _ in range(10)]))
    assert same(weights(task.world), start)
    training.rollout(20, break_when_any_done=False)
    assert not same(weights(task.world), start)
    assert task.world.game.samples == 40
    other = RoutingTask(**SMALL)
    environments(other)
    assert other.world is not None
    assert same(weights(other.world), start), "another experiment has another world"


def test_mistakes_are_named(tmp_path: Path) -> None:
    task = RoutingTask(**SMALL)
    task.get_env_fun(10, continuous_actions=False, seed=0, device="cpu")
    with pytest.raises(ValueError, match="on_policy_n_envs_per_worker and off_policy_n_envs_per_worker to 1"):
        task.get_env_fun(3, continuous_actions=False, seed=0, device="cpu")
    with pytest.raises(ValueError, match="did you mean 'qmix'"):
        build_experiment(RoutingTask(**SMALL), "QMIXX", seed=0, passes=1, folder=tmp_path)
    with pytest.raises(ValueError, match="algorithm of BenchMARL 'maddpg'"):  # has continuous actions only
        build_experiment(RoutingTask(**SMALL), "MADDPG", seed=0, passes=1, folder=tmp_path)
    with pytest.raises(TypeError, match="gama"):
        build_experiment(RoutingTask(**SMALL), "QMIX", seed=0, passes=1, folder=tmp_path, gama=1.0)
    copy = pickle.loads(pickle.dumps(task))  # noqa: S301 (as BenchMARL does)
    assert copy == task
    assert copy.world is None


@pytest.mark.parametrize("algorithm", ["IQL", "VDN", "QMIX", "IPPO", "MAPPO", "ISAC", "MASAC"])
def test_experiments_are_recorded_and_reproduce(algorithm: str, tmp_path: Path) -> None:
    def train(seed: int, run_dir: Path) -> tuple[list[Any], list[dict[str, Any]]]:
        task = RoutingTask(**SMALL)
        given: dict[str, Any] = {"off_policy_n_optimizer_steps": 2, "create_json": True, "evaluation": True}
        given |= {"evaluation_interval": 100, "evaluation_episodes": 10, "evaluation_static": True}
        experiment = build_experiment(task, algorithm, seed=seed, passes=1, folder=tmp_path, **given)
        recording = record(experiment, "mine", run_dir=run_dir)
        assert task.world is not None
        assert task.world.game.samples == 200, "180 training samples, in whole batches of twenty episodes"
        return weights(task.world), recording.directory.read_metrics()

    once, again, other = (train(seed, tmp_path / name) for seed, name in ((3, "a"), (3, "b"), (4, "c")))
    assert same(once[0], again[0])
    assert not same(once[0], other[0])
    (row,) = once[1]
    assert row["samples"] == 180
    assert 0 <= row["test_accuracy"] <= 1


def test_the_policy_is_the_experiments_own(tmp_path: Path) -> None:
    """Lanes in any order, and more of one task than of another, are answered as the agents of an episode would be."""
    task = RoutingTask(**MASKED)
    experiment = build_experiment(task, "IPPO", seed=0, passes=1, folder=tmp_path)
    policy = GroupPolicy(experiment)
    assert task.world is not None
    env = experiment.test_env
    with torch.no_grad():
        seen = env.rollout(1, experiment.algorithm.get_policy_for_loss("task"))
    legal = seen["task", "action_mask"][0]
    v = torch.zeros(5, task.world.game.spec.features)
    order = torch.tensor([2, 0, 1, 0, 0])
    state = State(v, order, 0, legal[order])
    actions = policy(state)
    assert actions[1] == actions[3] == actions[4]
    logits = experiment.algorithm.get_policy_for_loss("task")(seen[0].clone())["task", "logits"]
    expected = logits.masked_fill(~legal, -torch.inf).argmax(-1)
    assert actions.tolist() == expected[order].tolist()
    assert task.world.evaluate(policy, batched=True).overall_accuracy > 0
