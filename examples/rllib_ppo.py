"""PPO of RLlib: one policy per task, or one for all tasks.

    pip install -r examples/requirements/rllib.txt && python examples/rllib_ppo.py

Ray pins an older Gymnasium than this package is tested with and therefore needs separate requirements.
"""

# pyright: reportMissingImports=false
# The framework is installed in a separate environment, not where the types are checked.

from __future__ import annotations

import argparse
import logging
from typing import Any

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune import register_env

from routing_env import RoutingParallelEnv, parallel_env
from routing_env.agents import make_router

GAME: dict[str, Any] = {"data": "digits", "network": "mlp", "hidden": 32, "final_reward": "negative_loss"}
NAME = "rllib"


def build(seed: int, world: str | None = None, split: str | None = None) -> RoutingParallelEnv:
    """Ten agents with plain observations, because RLlib's own networks take no masks."""
    return parallel_env(**GAME, parts=("task", "depth"), mask="none", seed=seed, world=world, split=split)


def random_router(seed: int, episodes: int) -> float:
    """Test accuracy of random choices, with blocks trained on the same number of samples."""
    game = build(seed).game
    router = make_router("random", game.spec, seed=seed)
    router.play(game, episodes * game.spec.tasks)
    return game.evaluate(lambda state: router.act(state).action).overall_accuracy


def configure(world: RoutingParallelEnv, seed: int, shared: bool) -> PPOConfig:
    """Undiscounted returns, ten episodes per update, and no exploration beyond the policy's own."""
    frames = 10 * world.game.spec.depth
    network = {"fcnet_hiddens": [64], "fcnet_activation": "tanh"}
    policies = ["shared"] if shared else world.possible_agents
    specs: Any = {policy: RLModuleSpec(model_config=network) for policy in policies}
    register_env("routing", lambda config: ParallelPettingZooEnv(build(seed, NAME, config.get("split"))))

    def policy_of(agent: Any, *_: Any, **__: Any) -> str:
        return "shared" if shared else agent

    return (
        PPOConfig()
        .environment("routing")
        .env_runners(num_env_runners=0)  # in this process: another process would train its own blocks
        .multi_agent(policies=set(policies), policy_mapping_fn=policy_of)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .training(
            gamma=1.0,
            lambda_=1.0,
            lr=0.01,
            train_batch_size_per_learner=frames,
            minibatch_size=frames,
            num_epochs=4,
            use_kl_loss=False,
            vf_clip_param=float("inf"),
        )
        .evaluation(
            evaluation_interval=100,
            evaluation_num_env_runners=0,  # in this process: it evaluates the blocks that are being trained
            evaluation_duration=int(world.game.data.validation.task.bincount().max()),  # a whole pass
            evaluation_config={"env_config": {"split": "validation"}, "explore": False},
        )
        .debugging(seed=seed, log_level="ERROR")
    )


def main(episodes: int, seed: int, shared: bool) -> None:
    """Train and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    world = build(seed, NAME)
    ray.init(num_cpus=1, include_dashboard=False, logging_level=logging.ERROR)
    algorithm = configure(world, seed, shared).build_algo()
    for iteration in range(1, max(episodes // 10, 1) + 1):
        result: Any = algorithm.train()
        if "evaluation" in result:
            mean = result["evaluation"]["env_runners"]["episode_return_mean"] / world.game.spec.tasks
            print(f"after {10 * iteration:,} episodes: mean return of a validation sample {mean:.3f}", flush=True)
    modules: dict[str, Any] = {
        agent: algorithm.get_module("shared" if shared else agent) for agent in world.possible_agents
    }

    @torch.no_grad()
    def choose(agent: str, observation: Any) -> int:
        logits = modules[agent].forward_inference({"obs": torch.from_numpy(observation)[None]})["action_dist_inputs"]
        return int(logits.argmax())

    test = world.evaluate(choose).overall_accuracy
    algorithm.stop()
    print(f"PPO: test accuracy {test:.1%}; random router: {random_router(seed, episodes):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=3000, help="number of episodes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--shared", action="store_true", help="one policy for all tasks instead of one each")
    arguments = parser.parse_args()
    main(arguments.episodes, arguments.seed, arguments.shared)
