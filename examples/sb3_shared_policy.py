"""One Stable-Baselines3 model routes all tasks: PPO, DQN or MaskablePPO on lanes that share their blocks.

    python examples/sb3_shared_policy.py --algorithm DQN

The pass with the best validation accuracy is selected; its test accuracy is printed beside the random router's. Needs
nothing beyond the package itself (written with stable-baselines3 2.9.2 and sb3-contrib 2.9.2).
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO

from routing_env.agents import make_router
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.sb3_router import defaults

ALGORITHMS: dict[str, Any] = {"PPO": PPO, "DQN": DQN, "MaskablePPO": MaskablePPO}
NETWORKS: dict[str, dict[str, Any]] = {"DQN": {"net_arch": []}}
"""Policy networks other than those of Stable-Baselines3; `routing-env train --router sb3:A2C` has a table instead."""


def build(seed: int) -> RoutingVecEnv:
    """Ten tasks with six lanes each; the negative loss tells a learner more than right or wrong."""
    return RoutingVecEnv(
        data="digits",
        network="mlp",
        hidden=32,
        copies=6,
        final_reward="negative_loss",
        parts=("task", "depth"),
        seed=seed,
    )


def random_router(seed: int, passes: int) -> float:
    """Test accuracy of random choices, with blocks trained on the same number of samples."""
    game = build(seed).game
    router = make_router("random", game.spec, seed=seed)
    router.play(game, passes * game.dealer.pass_size)
    return game.evaluate(lambda state: router.act(state).action).overall_accuracy


def main(algorithm: str, passes: int, seed: int) -> None:
    """Train, select, and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    env = build(seed)
    depth = env.game.spec.depth
    settings = defaults(algorithm, tasks=env.game.spec.tasks, depth=depth, lanes=env.num_envs)
    model = ALGORITHMS[algorithm](env=env, seed=seed, **(settings | {"policy_kwargs": NETWORKS.get(algorithm)}))
    best = chosen = 0.0
    for number in range(1, passes + 1):
        model.learn(env.game.dealer.pass_size * depth, reset_num_timesteps=number == 1)
        validation, test = env.evaluate(model, "validation").overall_accuracy, env.evaluate(model).overall_accuracy
        if validation > best:
            best, chosen = validation, test
        print(f"pass {number:2}: validation accuracy {validation:.1%}")
    print(f"{algorithm}: test accuracy {chosen:.1%}; random router: {random_router(seed, passes):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), default="PPO", help="(default: %(default)s)")
    parser.add_argument("--passes", type=int, default=10, help="passes over the training data (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.algorithm, arguments.passes, arguments.seed)
