"""BenchMARL's algorithms on our leaderboard, with settings that learn here.

pip install -r examples/requirements/benchmarl.txt -e .
python -m routing_env.runs.benchmarl QMIX --scenario planted-3x4 --seed 0
routing-env report runs/planted-3x4-benchmarl-qmix runs/planted-3x4-wpl
"""

# pyright: reportMissingImports=false
# BenchMARL is installed in a separate environment, not where the types are checked.

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from benchmarl.algorithms import algorithm_config_registry
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig

from routing_env.envs.benchmarl import GroupPolicy, RoutingTask
from routing_env.envs.parallel import RoutingParallelEnv
from routing_env.names import look_up
from routing_env.runs.recording import Recording
from routing_env.scenarios import SCENARIOS

EPISODES = 20
"""Episodes between two rounds of learning; each routes a sample of every task."""

VALUE_BASED: Mapping[str, Any] = {
    "lr": 1e-2,
    "soft_target_update": False,
    "hard_target_update_frequency": 50,
    "exploration_eps_init": 0.1,
    "exploration_eps_end": 0.01,
    "off_policy_memory_size": 500,
    "off_policy_train_batch_size": 32,
    "off_policy_n_optimizer_steps": 8,
}
"""Settings of an experiment with Q-values, in place of BenchMARL's, which are meant for millions of frames."""

ALGORITHMS = {name: config for name, config in algorithm_config_registry.items() if config.supports_discrete_actions()}
"""BenchMARL's algorithms that play the game; the others need continuous actions."""

POLICY_BASED: Mapping[str, Any] = {"lr": 0.03, "on_policy_n_minibatch_iters": 4}
"""Settings of an experiment with a policy."""


def build_experiment(
    task: RoutingTask, algorithm: str, *, seed: int, passes: int, folder: Path | str, **config: Any
) -> Experiment:
    """Build an experiment with undiscounted returns, a linear network for each agent, and no evaluation by BenchMARL.

    Args:
        task: the game.
        algorithm: one of :data:`ALGORITHMS`, such as "MAPPO"; upper or lower case.
        seed: of the world and the algorithm.
        passes: over the training samples; rounded up to whole batches.
        folder: where BenchMARL puts its own files.
        config: fields of BenchMARL's ``ExperimentConfig``.

    Raises:
        ValueError: unknown algorithm, or one without discrete actions; the message suggests the closest match.
        TypeError: ``config`` has a field that does not exist.
    """
    chosen = look_up("algorithm of BenchMARL", algorithm.lower(), ALGORITHMS).get_from_yaml()
    on_policy = chosen.on_policy()
    game = RoutingParallelEnv(**task.config).game  # for its sizes
    batch = EPISODES * game.spec.depth
    batches = ceil(passes * game.dealer.pass_size / (EPISODES * game.spec.tasks))
    usual = {
        "evaluation": False,
        "render": False,
        "loggers": [],
        "create_json": False,
        "save_folder": str(folder),
        "share_policy_params": False,
        "gamma": 1.0,
        "max_n_frames": batches * batch,
        "on_policy_n_envs_per_worker": 1,
        "off_policy_n_envs_per_worker": 1,
        "on_policy_collected_frames_per_batch": batch,
        "on_policy_minibatch_size": batch,
        "off_policy_collected_frames_per_batch": batch,
        **(POLICY_BASED if on_policy else VALUE_BASED),
    }
    settings = replace(ExperimentConfig.get_from_yaml(), **(usual | config))
    if on_policy:
        chosen.lmbda, chosen.share_param_critic = 1.0, False
    model = MlpConfig(num_cells=[], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    return Experiment(task, chosen, model, seed, settings)


def record(experiment: Experiment, name: str, *, run_dir: Path | str = "runs") -> Recording:
    """Run an experiment and file it as a run, which ``routing-env report`` takes in beside others.

    Args:
        experiment: of a :class:`~routing_env.envs.benchmarl.RoutingTask`, which has not run yet.
        name: of the entrant; runs of one name and of different seeds are one entrant.
        run_dir: folder of all runs.

    Raises:
        TypeError: the experiment is of another task, or its model is recurrent.
    """
    with Recording(experiment.task.world, name, GroupPolicy(experiment), run_dir=run_dir) as recording:
        experiment.run()
    return recording


def main() -> None:
    """Train by one of BenchMARL's algorithms, file the run, and print its test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm", type=str.upper, choices=sorted(map(str.upper, ALGORITHMS)))
    parser.add_argument("--scenario", default="planted-3x4", help="(default: %(default)s)")
    parser.add_argument("--passes", type=int, help="over the training samples (default: the scenario's)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    warnings.filterwarnings("ignore", message="PettingZoo in TorchRL is tested")
    task = RoutingTask(scenario=given.scenario)
    passes = given.passes or look_up("scenario", given.scenario, SCENARIOS).epochs
    with tempfile.TemporaryDirectory() as folder:
        experiment = build_experiment(task, given.algorithm, seed=given.seed, passes=passes, folder=folder)
        recording = record(experiment, f"{given.scenario}-benchmarl-{given.algorithm.lower()}", run_dir=given.run_dir)
    test = recording.directory.read_metrics()[-1]["test_accuracy"]
    print(f"{given.algorithm}: test accuracy {test:.1%}; recorded in {recording.directory.path}")


if __name__ == "__main__":
    main()
