"""QMIX and VDN over the interface of PyMARL and EPyMARL: one reward for the team, available actions, a state.

    python examples/pymarl_qmix.py --algorithm VDN --seed 0

The loop is that of the two frameworks on one page: episodes into a buffer, the values of the chosen actions mixed into
the team's (Sunehag et al. 2018; Rashid et al. 2018), a target network. It records its run: ``routing-env report
runs/planted-3x4-pymarl-qmix``. Needs nothing beyond the package itself.
"""

from __future__ import annotations

import argparse
import copy
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from routing_env import State
from routing_env.agents import make_router
from routing_env.envs.epymarl import PyMARLEnv
from routing_env.runs.recording import Recording

PARTS = ("task", "depth")
"""What the agents see; v changes its meaning while the blocks learn."""


class Sum(nn.Module):
    """VDN: the team's value is the sum of the agents' values."""

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Values float32 [..., T] and state float32 [..., S] to float32 [...]."""
        return values.sum(-1)


class Monotonic(nn.Module):
    """QMIX: a network whose non-negative weights are functions of the state."""

    def __init__(self, agents: int, state: int, width: int = 32) -> None:
        super().__init__()
        self.first, self.bias = nn.Linear(state, agents * width), nn.Linear(state, width)
        self.last = nn.Linear(state, width)
        self.value = nn.Sequential(nn.Linear(state, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Values float32 [..., T] and state float32 [..., S] to float32 [...]."""
        weights = self.first(state).abs().unflatten(-1, (values.shape[-1], -1))
        hidden = nn.functional.elu((values[..., None, :] @ weights).squeeze(-2) + self.bias(state))
        return (hidden * self.last(state).abs()).sum(-1) + self.value(state).squeeze(-1)


class Learner:
    """Q-learning of the team's value from whole episodes.

    Args:
        info: the sizes, from ``env.get_env_info()``.
        algorithm: "QMIX" or "VDN".
        rate: learning rate.
    """

    def __init__(self, info: dict[str, int], algorithm: str, rate: float) -> None:
        agents, state = info["n_agents"], info["state_shape"]
        values = nn.Linear(info["obs_shape"], info["n_actions"], bias=False)
        nn.init.uniform_(values.weight, -0.01, 0.01)
        mixer = Monotonic(agents, state) if algorithm == "QMIX" else Sum()
        self.online = nn.ModuleDict({"agent": values, "mixer": mixer})
        self.target = copy.deepcopy(self.online)
        self._optimizer = torch.optim.Adam(self.online.parameters(), lr=rate)

    def values(self, seen: Tensor, legal: Tensor) -> Tensor:
        """Observations [..., n] and legal actions [..., A] to values of the actions [..., A]."""
        return self.online["agent"](seen).masked_fill(~legal, -torch.inf)

    def learn(self, batch: dict[str, Tensor]) -> None:
        """Take one step on episodes: entries [episodes, D or D + 1, ...], undiscounted."""
        seen, state, legal = batch["obs"], batch["state"], batch["legal"]
        chosen = self.online["agent"](seen[:, :-1]).gather(-1, batch["action"][..., None]).squeeze(-1)
        total = self.online["mixer"](chosen, state[:, :-1])
        with torch.no_grad():
            best = self.values(seen, legal).argmax(-1, keepdim=True)
            later = self.target["mixer"](self.target["agent"](seen).gather(-1, best).squeeze(-1), state)
            later[:, -1] = 0  # the routes have ended
            goal = batch["reward"] + later[:, 1:]
        self._optimizer.zero_grad()
        (total - goal).pow(2).mean().backward()
        self._optimizer.step()


def play(env: PyMARLEnv, learner: Learner, epsilon: float, rng: np.random.Generator) -> dict[str, Tensor]:
    """One episode, epsilon-greedy over the available actions, as the runners of the frameworks play it."""
    env.reset()
    rows: dict[str, list[Any]] = {name: [] for name in ("obs", "state", "legal", "action", "reward")}
    over = False
    while True:
        seen, legal = np.stack(env.get_obs()), np.array(env.get_avail_actions(), bool)
        for name, value in (("obs", seen), ("state", env.get_state()), ("legal", legal)):
            rows[name].append(value)
        if over:
            return {name: torch.from_numpy(np.array(values)) for name, values in rows.items()}
        with torch.no_grad():
            actions = learner.values(torch.from_numpy(seen), torch.from_numpy(legal)).argmax(-1).numpy()
        for agent in np.flatnonzero(rng.random(len(actions)) < epsilon):
            actions[agent] = rng.choice(np.flatnonzero(legal[agent]))
        reward, over, _ = env.step(actions)
        rows["action"].append(actions)
        rows["reward"].append(np.asarray(reward, np.float32))


def train(env: PyMARLEnv, learner: Learner, episodes: int, epsilon: float, rng: np.random.Generator) -> None:
    """Play and learn, with a new target network every fifty episodes; exploration ends at a tenth of its start."""
    buffer = deque[dict[str, Tensor]](maxlen=500)
    for episode in range(episodes):
        share = episode / episodes
        buffer.append(play(env, learner, epsilon * (1 - 0.9 * share), rng))
        drawn = [buffer[row] for row in rng.integers(len(buffer), size=32)]
        learner.learn({name: torch.stack([one[name] for one in drawn]) for name in drawn[0]})
        if episode % 50 == 0:
            learner.target.load_state_dict(learner.online.state_dict())


def random_fixed(env: PyMARLEnv) -> float:
    """Test accuracy of random routes that never change, with blocks trained on the same number of samples."""
    game = PyMARLEnv(scenario=env.settings.scenario, seed=env.settings.seed).game
    router = make_router("random-fixed", game.spec, seed=env.settings.seed)
    router.play(game, env.game.samples)
    return game.evaluate(router).overall_accuracy


def main(algorithm: str, scenario: str, episodes: int, seed: int, run_dir: Path) -> None:
    """Train, record, and print both test accuracies."""
    torch.set_num_threads(1)  # the networks are small: a second thread would only wait for the first
    torch.manual_seed(seed)
    env = PyMARLEnv(map_name=scenario, parts=PARTS, seed=seed, reward_scalarisation="sum")
    learner = Learner(env.get_env_info(), algorithm, rate=0.01)

    def greedy(state: State) -> Tensor:
        with torch.no_grad():
            seen = torch.from_numpy(env.lanes.format.vectors(state))
            return learner.values(seen, state.legal).argmax(-1)

    with Recording(env, f"{scenario}-pymarl-{algorithm.lower()}", greedy, run_dir=run_dir) as recording:
        train(env, learner, episodes, epsilon=0.1, rng=np.random.default_rng(seed))
    test, other = env.evaluate(greedy, batched=True).overall_accuracy, random_fixed(env)
    print(f"recorded in {recording.directory.path}")
    print(f"{algorithm}: test accuracy {test:.1%}; random-fixed router: {other:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=["QMIX", "VDN"], default="QMIX", help="(default: %(default)s)")
    parser.add_argument("--scenario", default="planted-3x4", help="(default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=4320, help="of a sample per task (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"), help="of the records (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.algorithm, arguments.scenario, arguments.episodes, arguments.seed, arguments.run_dir)
