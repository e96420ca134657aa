"""The turn-based game in PettingZoo's AEC loop: the blocks are applied when the last agent has chosen.

    python examples/aec.py --episodes 200

Each agent keeps to the block with its own number, so every task trains a separate network; agents that choose at random
share everything. Needs nothing beyond the package itself (written with pettingzoo 1.27.0).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from routing_env import routing_v0

Choose = Callable[[str, Any], int]


def play(choose: Choose, episodes: int) -> float:
    """Play some episodes and return the test accuracy."""
    env = routing_v0.env(data="digits", network="mlp", hidden=32)
    env.reset(seed=0)  # a seed restarts the whole world: blocks and order of the data
    for _ in range(episodes):
        for agent in env.agent_iter():
            observation, _, termination, truncation, _ = env.last()
            env.step(None if termination or truncation else choose(agent, observation))
        env.reset()  # no seed: the next images, and the blocks keep what they have learned
    game: Any = env.unwrapped
    return game.evaluate(choose).overall_accuracy


def main(episodes: int) -> None:
    """Compare agents that keep to their own blocks with agents that choose at random."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    def at_random(agent: str, observation: Any) -> int:
        return int(rng.choice(observation["action_mask"].nonzero()[0]))

    def own_block(agent: str, observation: Any) -> int:
        return int(agent.removeprefix("task_"))

    print(f"a block for each task: test accuracy {play(own_block, episodes):.1%}; ", end="", flush=True)
    print(f"random router: {play(at_random, episodes):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1500, help="number of episodes (default: %(default)s)")
    main(parser.parse_args().episodes)
