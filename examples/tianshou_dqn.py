"""DQN of Tianshou, one for each task, over the turn-based environment.

    pip install -r examples/requirements/tianshou.txt && python examples/tianshou_dqn.py --seed 0

Turn by turn, the reward of an action comes after the turns of the other agents, for all depths: the horizon of the
n-step return must cover agents x depth turns. Tianshou reads action masks from the observation alone. The run is
recorded: ``routing-env report runs/planted-3x4-tianshou-dqn``.
"""

# pyright: reportMissingImports=false
# The framework is installed in a separate environment, not where the types are checked.

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.env.pettingzoo_env import PettingZooEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net
from torch import Tensor

from routing_env import State, make_game, routing_v0
from routing_env.agents import make_router
from routing_env.runs.recording import Recording


def learners(turns: PettingZooEnv, horizon: int) -> MultiAgentOffPolicyAlgorithm:
    """Build a DQN without hidden layers for each agent; little exploration, undiscounted."""
    space: Any = turns.observation_space["observation"]

    def learner() -> DQN:
        model = Net(state_shape=space.shape, action_shape=turns.action_space.n, hidden_sizes=())
        policy = DiscreteQLearningPolicy(model=model, action_space=turns.action_space, eps_training=0.05)
        optim = AdamOptimizerFactory(lr=0.01)
        return DQN(policy=policy, optim=optim, gamma=1.0, n_step_return_horizon=horizon)

    return MultiAgentOffPolicyAlgorithm(algorithms=[learner() for _ in turns.agents], env=turns)


def random_fixed(scenario: str, seed: int, samples: int) -> float:
    """Test accuracy of random routes that never change, with blocks trained on the same number of samples."""
    game = make_game(scenario=scenario, seed=seed)
    router = make_router("random-fixed", game.spec, seed=seed)
    router.play(game, samples)
    return game.evaluate(router).overall_accuracy


def main(scenario: str, episodes: int, seed: int, run_dir: Path) -> None:
    """Train, record, and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    torch.manual_seed(seed)
    logging.getLogger("tianshou").setLevel(logging.ERROR)  # it warns of every reward with an entry for each agent
    np.random.seed(seed)  # noqa: NPY002 (Tianshou explores by it)
    env = routing_v0.env(scenario=scenario, parts=("task", "depth"), seed=seed)
    world: Any = env.unwrapped
    spec = world.game.spec
    turns = PettingZooEnv(env)
    horizon = spec.tasks * spec.depth
    algorithm = learners(turns, horizon)
    buffer = VectorReplayBuffer(50 * horizon, 1)
    collector = Collector(algorithm, DummyVectorEnv([lambda: turns]), buffer, exploration_noise=True)

    @torch.no_grad()
    def greedy(state: State) -> Tensor:
        seen, actions = world.lanes.format.vectors(state), torch.empty_like(state.task)
        for task, agent in enumerate(turns.agents):
            own = state.task == task
            values, _ = algorithm.get_algorithm(agent).policy.model(seen[own.numpy()])
            actions[own] = values.masked_fill(~state.legal[own], -torch.inf).argmax(1)
        return actions

    params = OffPolicyTrainerParams(
        max_epochs=1,
        epoch_num_steps=episodes * horizon,
        training_collector=collector,
        collection_step_num_env_steps=5 * horizon,
        batch_size=20 * horizon,  # of all agents together
        update_step_num_gradient_steps_per_sample=0.2 / horizon,
        multi_agent_return_reduction=lambda returns: returns.mean(1),
        verbose=False,
        show_progress=False,
    )
    with Recording(env, f"{scenario}-tianshou-dqn", greedy, run_dir=run_dir) as recording:
        algorithm.run_training(params)
    test, other = (
        world.evaluate(greedy, batched=True).overall_accuracy,
        random_fixed(scenario, seed, world.game.samples),
    )
    print(f"recorded in {recording.directory.path}")
    print(f"DQN: test accuracy {test:.1%}; random-fixed router: {other:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="planted-3x4", help="(default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=4320, help="of a sample per task (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"), help="of the records (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.scenario, arguments.episodes, arguments.seed, arguments.run_dir)
