"""PPO of TorchRL with action masks: one network per task, or one for all tasks.

    pip install torchrl==0.14.1 tensordict==0.14.3 && python examples/torchrl_ppo.py

PettingZooWrapper stacks the agents into one group, "task", by their names: a step is one tensordict for all of them.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch.nn.functional import one_hot
from torchrl.collectors import Collector
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MaskedCategorical, MultiAgentMLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss, ValueEstimators

from routing_env import RoutingParallelEnv, State, parallel_env
from routing_env.agents import make_router

GAME: dict[str, Any] = {"data": "digits", "network": "mlp", "hidden": 32, "final_reward": "negative_loss"}
SEEN = ("task", "observation")


def build(seed: int) -> RoutingParallelEnv:
    """Ten agents with plain observations; the masks go into the infos, where TorchRL finds them."""
    return parallel_env(**GAME, parts=("task", "depth"), mask="info", seed=seed)


def random_router(seed: int, episodes: int) -> float:
    """Test accuracy of random choices, with blocks trained on the same number of samples."""
    game = build(seed).game
    router = make_router("random", game.spec, seed=seed)
    router.play(game, episodes * game.spec.tasks)
    return game.evaluate(lambda state: router.act(state).action).overall_accuracy


def learner(features: int, actions: int, agents: int, shared: bool) -> tuple[ProbabilisticActor, ClipPPOLoss]:
    """Build actor, critic and loss for the group "task", in which all agents are stacked."""

    def network(outputs: int) -> MultiAgentMLP:
        # A single task's observation varies only in the depth, so a separate network needs no hidden layer.
        layers: dict[str, Any] = {"depth": int(shared), "num_cells": 64, "activation_class": torch.nn.Tanh}
        return MultiAgentMLP(features, outputs, agents, centralised=False, share_params=shared, **layers)

    inputs: Any = {"logits": ("task", "logits"), "mask": ("task", "action_mask")}
    actor = ProbabilisticActor(
        TensorDictModule(network(actions), in_keys=[SEEN], out_keys=[("task", "logits")]),
        in_keys=inputs,
        out_keys=[("task", "action")],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
        log_prob_key=("task", "log_prob"),
    )
    critic = ValueOperator(network(1), in_keys=[SEEN], out_keys=[("task", "state_value")])
    # Normalised over all agents together, because some tasks have more to gain than others.
    loss = ClipPPOLoss(actor, critic, entropy_bonus=False, normalize_advantage=True)
    names = ("action", "reward", "done", "terminated", "advantage", "value_target")
    keys = {name: ("task", name) for name in names}
    loss.set_keys(**keys, sample_log_prob=("task", "log_prob"), value=("task", "state_value"))
    loss.make_value_estimator(ValueEstimators.GAE, gamma=1.0, lmbda=1.0)
    return actor, loss


def train(env: PettingZooWrapper, actor: Any, loss: ClipPPOLoss, frames: int, batches: int, lr: float) -> None:
    """PPO's loop: collect ``frames`` frames, then take four steps on all of them."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=lr)
    for batch in Collector(env, actor, frames_per_batch=frames, total_frames=batches * frames):
        for _ in range(4):
            with torch.no_grad():
                loss.value_estimator(batch, params=loss.critic_network_params)
            losses = loss(batch)
            optimizer.zero_grad()
            (losses["loss_objective"] + losses["loss_critic"]).backward()
            optimizer.step()


def evaluate(world: RoutingParallelEnv, actor: Any) -> float:
    """Test accuracy of the likeliest actions."""
    tasks, depth = world.game.spec.tasks, world.game.spec.depth

    @torch.no_grad()
    def choose(state: State) -> torch.Tensor:
        lanes = len(state.task)
        seen = torch.cat([one_hot(state.task, tasks), one_hot(torch.full_like(state.task, state.depth), depth)], dim=1)
        every = {"observation": seen.float(), "action_mask": state.legal}
        group = TensorDict(
            {name: value[:, None].expand(-1, tasks, -1) for name, value in every.items()}, (lanes, tasks)
        )
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            actions = actor(TensorDict({"task": group}, (lanes,)))["task", "action"]
        return actions[torch.arange(lanes), state.task]

    return world.evaluate(choose, batched=True).overall_accuracy


def main(episodes: int, seed: int, shared: bool) -> None:
    """Train and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    torch.manual_seed(seed)
    warnings.filterwarnings("ignore", message="PettingZoo in TorchRL is tested")
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrl")
    warnings.filterwarnings("ignore", message="You requested advantage normalization")
    world = build(seed)
    env = PettingZooWrapper(world)
    agents, features = env.observation_spec[SEEN].shape
    actor, loss = learner(features, world.game.spec.actions, agents, shared)
    frames = 10 * world.game.spec.depth  # ten episodes
    train(env, actor, loss, frames, batches=max(episodes // 10, 1), lr=0.01 if shared else 0.03)
    test = evaluate(world, actor)
    print(f"PPO: test accuracy {test:.1%}; random router: {random_router(seed, episodes):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=3000, help="number of episodes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--shared", action="store_true", help="one network for all tasks instead of one each")
    arguments = parser.parse_args()
    main(arguments.episodes, arguments.seed, arguments.shared)
