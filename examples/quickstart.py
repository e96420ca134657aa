"""Twelve agents that choose at random play the routing game in PettingZoo's usual loop.

Each agent serves one task. In every episode each agent is dealt one sample and chooses the block that it goes
through. The blocks learn from all routes, whoever took them; tasks of one group gain if they share a block.

    python examples/quickstart.py --episodes 300
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from routing_env import routing_v0


def main(episodes: int) -> None:
    """Play some episodes and print what happened."""
    torch.set_num_threads(1)  # an episode is twelve small samples: more threads would only wait
    env = routing_v0.parallel_env(scenario="planted-3x4", render_mode="ansi")
    rng = np.random.default_rng(0)

    def choose(agent: str, observation: dict[str, np.ndarray]) -> int:
        return int(rng.choice(observation["action_mask"].nonzero()[0]))

    print(f"{len(env.possible_agents)} agents, from {env.possible_agents[0]} to {env.possible_agents[-1]}.")
    print(f"Each chooses among {env.game.spec.actions} blocks, once per episode.\n")

    observations, infos = env.reset(seed=0)  # a seed restarts the whole world: blocks and order of the data
    window = max(episodes // 5, 1)
    correct: list[bool] = []
    for episode in range(1, episodes + 1):
        while env.agents:
            actions = {agent: choose(agent, observations[agent]) for agent in env.agents}
            observations, _, _, _, infos = env.step(actions)
        correct += [info["correct"] for info in infos.values()]
        if episode % window == 0:
            recent = correct[-window * len(env.possible_agents) :]
            print(f"episode {episode:4d}: {np.mean(recent):6.1%} of the last {len(recent)} samples were right")
        if episode < episodes:
            observations, _ = env.reset()  # no seed: the next samples, and the blocks keep what they have learned

    print(f"\nThe last episode, block by block:\n\n{env.render()}\n")
    print(f"task_0 was rewarded {infos['task_0']['final_reward']:+.0f} for it.\n")

    test = env.evaluate(choose)
    print(
        f"test accuracy {test.overall_accuracy:.1%}; guessing one of four classes would get 25%. Choosing at random is"
    )
    print("hard to learn from: agents that learn do better, see examples/custom_router.py.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=300, help="number of episodes (default: %(default)s)")
    main(parser.parse_args().episodes)
