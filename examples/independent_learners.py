"""Ten Stable-Baselines3 models of three kinds, one per task, learn at the same time on one game.

    python examples/independent_learners.py --timesteps 3000

Each model has its own environment and its own loop; they wait for each other at every step. Needs nothing beyond the
package itself (written with stable-baselines3 2.9.2).
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from routing_env import parallel_env
from routing_env.agents import make_router
from routing_env.envs.independent import TaskEnv, evaluate_together, independent_envs, learn_together

GAME: dict[str, Any] = {"data": "digits", "network": "mlp", "hidden": 32, "final_reward": "negative_loss"}


def build(env: TaskEnv) -> BaseAlgorithm:
    """Give the tasks DQN, A2C and PPO in turn."""
    shared: dict[str, Any] = {"seed": env.task, "gamma": 1.0, "device": "cpu", "policy_kwargs": {"net_arch": []}}
    if env.task % 3 == 0:
        return DQN("MlpPolicy", env, learning_starts=0, buffer_size=3000, exploration_initial_eps=0.05, **shared)
    if env.task % 3 == 1:
        return A2C("MlpPolicy", env, n_steps=30, learning_rate=3e-3, **shared)
    return PPO("MlpPolicy", env, n_steps=60, batch_size=60, learning_rate=3e-3, **shared)


def random_router(timesteps: int) -> float:
    """Test accuracy of random choices, with blocks trained on the same number of samples."""
    game = parallel_env(**GAME).game
    router = make_router("random", game.spec)
    router.play(game, timesteps // game.spec.depth * game.spec.tasks)
    return game.evaluate(lambda state: router.act(state).action).overall_accuracy


def main(timesteps: int) -> None:
    """Train all models and print the test accuracy of each task and overall."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    models = [build(env) for env in independent_envs(**GAME, parts=("task", "depth"))]
    learn_together(models, timesteps)
    evaluation = evaluate_together(models)
    for task, model in enumerate(models):
        print(f"task_{task} by {type(model).__name__}: {evaluation.accuracy[task]:.1%}")
    print(f"all: test accuracy {evaluation.overall_accuracy:.1%}; random router: {random_router(timesteps):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=9000, help="steps of each model (default: %(default)s)")
    main(parser.parse_args().timesteps)
