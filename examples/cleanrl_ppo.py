"""PPO on one page, in the style of CleanRL, on the lanes of one game as a Gymnasium vector environment.

    python examples/cleanrl_ppo.py --seed 0

``autoreset_mode="SameStep"`` matters: all lanes end together, and with Gymnasium's default, "NextStep", each episode is
followed by a step that does nothing, which a loop in this style takes for one of its decisions. The run is recorded:
``routing-env report runs/planted-3x4-cleanrl-ppo``. Needs nothing beyond the package itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from routing_env import State, make_game
from routing_env.agents import make_router
from routing_env.runs.recording import Recording


class Agent(nn.Module):
    """Policy and value of one router for all tasks; task and depth are one-hot, so that no hidden layer is needed."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.actor, self.critic = nn.Linear(features, actions, bias=False), nn.Linear(features, 1, bias=False)
        nn.init.normal_(self.actor.weight)  # tasks that all start undecided teach every block everything
        nn.init.zeros_(self.critic.weight)

    def policy(self, seen: Tensor, legal: Tensor) -> Categorical:
        """The distribution over the legal actions."""
        return Categorical(logits=self.actor(seen).masked_fill(~legal, -torch.inf))


def train(envs: Any, agent: Agent, steps: int, rollout: int, rate: float, entropy: float) -> None:
    """PPO with whole returns: ``rollout`` steps of all lanes, then four epochs on all of them."""
    optimizer = torch.optim.Adam(agent.parameters(), lr=rate, eps=1e-5)
    seen, infos = envs.reset()
    for _ in range(max(steps // rollout, 1)):
        rows: list[tuple[Tensor, ...]] = []
        rewards: list[Tensor] = []
        ends: list[bool] = []
        for _ in range(rollout):
            now, legal = torch.from_numpy(seen), torch.from_numpy(infos["action_mask"] == 1)
            with torch.no_grad():
                policy = agent.policy(now, legal)
                action = policy.sample()
                rows.append((now, legal, action, policy.log_prob(action), agent.critic(now)[:, 0]))
            seen, reward, terminations, _, infos = envs.step(action.numpy())
            rewards.append(torch.from_numpy(reward).float())
            ends.append(bool(terminations.all()))  # lanes end together, and a rollout ends with them
        later, backwards = torch.zeros(envs.num_envs), list[Tensor]()
        for reward, over in zip(reversed(rewards), reversed(ends), strict=True):
            later = reward + (0 if over else later)
            backwards.append(later)
        goal = torch.cat(backwards[::-1])
        now, legal, action, before, value = (torch.cat(columns) for columns in zip(*rows, strict=True))
        advantage = goal - value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(4):
            policy = agent.policy(now, legal)
            ratio = (policy.log_prob(action) - before).exp()
            gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            misfit = (agent.critic(now)[:, 0] - goal).pow(2).mean()
            optimizer.zero_grad()
            (0.5 * misfit - gain - entropy * policy.entropy().mean()).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def random_fixed(scenario: str, seed: int, samples: int) -> float:
    """Test accuracy of random routes that never change, with blocks trained on the same number of samples."""
    game = make_game(scenario=scenario, seed=seed)
    router = make_router("random-fixed", game.spec, seed=seed)
    router.play(game, samples)
    return game.evaluate(router).overall_accuracy


def main(scenario: str, samples: int, seed: int, run_dir: Path, autoreset: str) -> None:
    """Train, record, and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    torch.manual_seed(seed)
    lanes = 12
    envs: Any = gymnasium.make_vec(
        "routing_env:Routing-v0",
        num_envs=lanes,
        scenario=scenario,
        parts=("task", "depth"),
        autoreset_mode=autoreset,
        seed=seed,
    )
    depth, (features,) = envs.game.spec.depth, envs.single_observation_space.shape
    agent = Agent(features, envs.game.spec.actions)

    @torch.no_grad()
    def greedy(state: State) -> Tensor:
        seen = torch.from_numpy(envs.lanes.format.vectors(state))
        return agent.policy(seen, state.legal).logits.argmax(1)

    steps = samples // lanes * (depth + (autoreset == "NextStep"))
    with Recording(envs, f"{scenario}-cleanrl-ppo", greedy, run_dir=run_dir) as recording:
        train(envs, agent, steps, rollout=5 * depth, rate=0.01, entropy=0.01)
    test, other = envs.evaluate(greedy, batched=True).overall_accuracy, random_fixed(scenario, seed, samples)
    print(f"recorded in {recording.directory.path}")
    print(f"PPO: test accuracy {test:.1%}; random-fixed router: {other:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="planted-3x4", help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=12 * 4320, help="of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"), help="of the records (default: %(default)s)")
    parser.add_argument(
        "--autoreset", choices=["SameStep", "NextStep"], default="SameStep", help="(default: %(default)s)"
    )
    given = parser.parse_args()
    main(given.scenario, given.samples, given.seed, given.run_dir, given.autoreset)
