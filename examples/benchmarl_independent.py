"""Independent PPO or independent Q-learning of BenchMARL: the game as your own BenchMARL task, through TorchRL.

    pip install -r examples/requirements/benchmarl.txt && python examples/benchmarl_independent.py --algorithm IQL

BenchMARL 1.5 needs an older TorchRL than examples/torchrl_ppo.py and therefore separate requirements.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The framework is installed in a separate environment, not where the types are checked.

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from benchmarl.algorithms import IppoConfig, IqlConfig
from benchmarl.environments import PettingZooClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from tensordict import TensorDict
from torch.nn.functional import one_hot
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from routing_env import RoutingParallelEnv, State, parallel_env
from routing_env.agents import make_router

GAME: dict[str, Any] = {"data": "digits", "network": "mlp", "hidden": 32, "final_reward": "negative_loss"}
NAME = "benchmarl"


def build(seed: int, world: str | None = None, split: str | None = None) -> RoutingParallelEnv:
    """Ten agents with plain observations; the masks go into the infos, where TorchRL finds them."""
    return parallel_env(**GAME, parts=("task", "depth"), mask="info", seed=seed, world=world, split=split)


class RoutingTask(PettingZooClass):
    """BenchMARL's PettingZoo task: one world, whose blocks one environment trains while another one evaluates them.

    BenchMARL pickles its task, which therefore knows the world by its name.
    """

    def __init__(self, name: str, seed: int, depth: int) -> None:
        super().__init__("ROUTING", {})
        self.name, self.seed, self.depth = name, seed, depth
        self.splits = ["validation", None]

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Callable[[], Any]:
        """BenchMARL asks first for the environment that it evaluates in, then for the one that it trains in."""
        env = build(self.seed, self.name, self.splits.pop(0))
        return lambda: PettingZooWrapper(env, return_state=True, device=device)

    def supports_discrete_actions(self) -> bool:
        """Return True: an action is the choice of a block."""
        return True

    def has_state(self) -> bool:
        """Return True: the state is all observations side by side."""
        return True

    def max_steps(self, env: Any) -> int:
        """Return the depth of the network, the length of every episode."""
        return self.depth

    @staticmethod
    def env_name() -> str:
        """Return the name that BenchMARL writes to its files."""
        return "routing"


class Progress(Callback):
    """Prints what each evaluation finds."""

    def on_evaluation_end(self, rollouts: list[Any]) -> None:
        """Print the mean return of the validation samples."""
        returns = torch.stack([rollout["next", "task", "reward"].sum(0) for rollout in rollouts])
        done, episodes = self.experiment.total_frames // rollouts[0].shape[0], len(rollouts)
        print(
            f"after {done:,} episodes: mean return {returns.mean():.3f} in {episodes} validation episodes", flush=True
        )


def experiment(world: RoutingParallelEnv, algorithm: str, seed: int, episodes: int, folder: str) -> Experiment:
    """Reduce BenchMARL's defaults, which are meant for millions of frames, to what digits needs."""
    config = ExperimentConfig.get_from_yaml()
    config.evaluation, config.evaluation_static = True, True  # from the first validation sample each time
    config.evaluation_interval = 100 * 30
    config.evaluation_episodes = int(world.game.data.validation.task.bincount().max())  # a whole pass
    config.render, config.loggers, config.save_folder = False, [], folder
    config.create_json = True  # without any log, BenchMARL skips the evaluation
    config.share_policy_params = False  # a network for each task
    config.gamma, config.max_n_frames = 1.0, episodes * world.game.spec.depth
    config.on_policy_n_envs_per_worker = config.off_policy_n_envs_per_worker = 1  # one world
    config.on_policy_collected_frames_per_batch = config.off_policy_collected_frames_per_batch = 30
    if algorithm == "IQL":
        config.lr, config.soft_target_update, config.hard_target_update_frequency = 1e-3, False, 10
        config.exploration_eps_init, config.exploration_eps_end = 0.02, 0.01
        config.off_policy_memory_size, config.off_policy_train_batch_size = 600, 64
        config.off_policy_n_optimizer_steps = 5
        chosen: Any = IqlConfig.get_from_yaml()
    else:
        config.lr, config.on_policy_n_minibatch_iters, config.on_policy_minibatch_size = 0.03, 4, 30
        chosen = IppoConfig.get_from_yaml()
        chosen.lmbda, chosen.share_param_critic = 1.0, False
    model = MlpConfig(num_cells=[], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    task = RoutingTask(NAME, seed, world.game.spec.depth)
    return Experiment(task, chosen, model, seed, config, callbacks=[Progress()])


def evaluate(world: RoutingParallelEnv, policy: Any) -> float:
    """Test accuracy of a group's policy without exploration."""
    tasks, depth = world.game.spec.tasks, world.game.spec.depth

    @torch.no_grad()
    def choose(state: State) -> torch.Tensor:
        lanes = len(state.task)
        seen = torch.cat([one_hot(state.task, tasks), one_hot(torch.full_like(state.task, state.depth), depth)], dim=1)
        every: dict[str, torch.Tensor] = {"observation": seen.float(), "action_mask": state.legal}
        group = TensorDict(
            {name: value[:, None].expand(-1, tasks, -1) for name, value in every.items()}, (lanes, tasks)
        )
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            actions = policy(TensorDict({"task": group}, (lanes,)))["task", "action"]
        return actions[torch.arange(lanes), state.task]

    return world.evaluate(choose, batched=True).overall_accuracy


def random_router(seed: int, episodes: int) -> float:
    """Test accuracy of random choices, with blocks trained on the same number of samples."""
    game = build(seed).game
    router = make_router("random", game.spec, seed=seed)
    router.play(game, episodes * game.spec.tasks)
    return game.evaluate(lambda state: router.act(state).action).overall_accuracy


def main(algorithm: str, episodes: int, seed: int) -> None:
    """Train and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    warnings.filterwarnings("ignore", message="PettingZoo in TorchRL is tested")
    world = build(seed, NAME)
    with tempfile.TemporaryDirectory() as folder:
        run = experiment(world, algorithm, seed, episodes, folder)
        run.run()
    test = evaluate(world, run.algorithm.get_policy_for_loss("task"))
    print(f"{algorithm}: test accuracy {test:.1%}; random router: {random_router(seed, episodes):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=["IPPO", "IQL"], default="IPPO", help="(default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=3000, help="number of episodes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.algorithm, arguments.episodes, arguments.seed)
