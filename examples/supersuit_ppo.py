"""PPO with shared parameters as in PettingZoo's tutorials: SuperSuit turns the agents into a VecEnv.

    pip install supersuit==3.11.0 && python examples/supersuit_ppo.py

routing_env.envs.sb3.RoutingVecEnv does the same in one line, faster, and with action masks; this example is for those
who already have SuperSuit in their pipeline.
"""

from __future__ import annotations

import argparse
from typing import Any

import supersuit
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed

from routing_env import parallel_env
from routing_env.agents import make_router

GAME: dict[str, Any] = {"data": "digits", "network": "mlp", "hidden": 32, "final_reward": "negative_loss"}


def build(seed: int) -> Any:
    """The game with plain observations, because SuperSuit's conversion drops masks."""
    return parallel_env(**GAME, seed=seed, mask="none", parts=("task", "depth"))


def random_router(timesteps: int, seed: int) -> float:
    """Test accuracy of random choices, with blocks trained on the same number of samples."""
    game = build(seed).game
    router = make_router("random", game.spec, seed=seed)
    router.play(game, timesteps // game.spec.depth)
    return game.evaluate(lambda state: router.act(state).action).overall_accuracy


def main(timesteps: int, seed: int) -> None:
    """Train and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    lanes: Any = supersuit.pettingzoo_env_to_vec_env_v1(build(seed))
    # One copy only: each additional one would be a world with separate blocks.
    vec_env: Any = supersuit.concat_vec_envs_v1(lanes, 1, num_cpus=0, base_class="stable_baselines3")
    set_random_seed(seed)  # not PPO(seed=...), which would call the seed() that SuperSuit's environment lacks
    model = PPO(
        "MlpPolicy",
        vec_env,
        n_steps=90,
        batch_size=300,
        n_epochs=4,
        gamma=1.0,
        gae_lambda=1.0,
        learning_rate=3e-3,
    )
    model.learn(timesteps)

    def choose(agent: str, observation: Any) -> int:
        return int(model.predict(observation, deterministic=True)[0])

    played: Any = vec_env.unwrapped.vec_envs[0].par_env  # SuperSuit plays a copy of the environment it was given
    test = played.unwrapped.evaluate(choose)
    print(f"PPO: test accuracy {test.overall_accuracy:.1%}; random router: {random_router(timesteps, seed):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=300_000, help="steps of all agents (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.timesteps, arguments.seed)
