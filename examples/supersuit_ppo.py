"""PPO with shared parameters by the path that PettingZoo's tutorials show: SuperSuit turns the agents into a VecEnv.

    pip install supersuit==3.11.0 && python examples/supersuit_ppo.py --timesteps 60000

routing_env.envs.sb3.RoutingVecEnv does the same in one line, faster, and with action masks; this is for those who have
SuperSuit in their pipeline already.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import supersuit
import torch
from stable_baselines3 import PPO

from routing_env import parallel_env

GAME: dict[str, Any] = {"data": "digits", "network": "mlp", "hidden": 32, "final_reward": "negative_loss"}


def build() -> Any:
    """The game with plain observations: SuperSuit's conversion hands no masks on."""
    return parallel_env(**GAME, mask="none", parts=("task", "depth"))


def random_router(timesteps: int) -> float:
    """Test accuracy of choosing at random, the blocks trained on as many samples."""
    env, rng = build(), np.random.default_rng(0)
    actions = env.game.spec.actions
    for _ in range(timesteps // env.game.spec.depth // len(env.possible_agents)):
        env.reset()
        while env.agents:
            env.step({agent: int(rng.integers(actions)) for agent in env.agents})
    return env.evaluate(lambda agent, observation: int(rng.integers(actions))).overall_accuracy


def main(timesteps: int) -> None:
    """Train and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    env = build()
    lanes: Any = supersuit.pettingzoo_env_to_vec_env_v1(env)
    # One copy only: each further one would be a world with blocks of its own.
    vec_env: Any = supersuit.concat_vec_envs_v1(lanes, 1, num_cpus=0, base_class="stable_baselines3")
    # No seed here: SuperSuit's environment has no seed(), which Stable-Baselines3 would call.
    model = PPO("MlpPolicy", vec_env, n_steps=60, batch_size=200, n_epochs=4, gamma=1.0, gae_lambda=1.0)
    model.learn(timesteps)

    def choose(agent: str, observation: Any) -> int:
        return int(model.predict(observation, deterministic=True)[0])

    played: Any = vec_env.unwrapped.vec_envs[0].par_env  # SuperSuit plays a copy of the environment it was given
    test = played.unwrapped.evaluate(choose)
    print(f"PPO: test accuracy {test.overall_accuracy:.1%}; random router: {random_router(timesteps):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=300_000, help="of all agents (default: %(default)s)")
    main(parser.parse_args().timesteps)
