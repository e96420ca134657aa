"""Stable-Baselines3 models as entrants (``--router sb3:PPO``)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from routing_env.envs.lanes import Lanes
from routing_env.envs.sb3 import LanesVecEnv
from routing_env.envs.sb3_models import SavedModel
from routing_env.envs.sb3_policies import ModelPolicy
from routing_env.envs.world import World
from routing_env.game.routing_game import RoutingGame
from routing_env.names import import_object, look_up, suggestion
from routing_env.types import Decision, Game, GameSpec, Router, State

ALGORITHMS = {
    "A2C": "stable_baselines3:A2C",
    "DQN": "stable_baselines3:DQN",
    "MaskablePPO": "sb3_contrib:MaskablePPO",
    "PPO": "stable_baselines3:PPO",
    "QRDQN": "sb3_contrib:QRDQN",
    "TRPO": "sb3_contrib:TRPO",
}

_CONTINUOUS = "its action space is continuous; routing is discrete"
_UNFIT = {
    "ARS": "it compares policies by evaluations in turn, between which the blocks change",
    "RecurrentPPO": "its policy has an LSTM, and a router is asked for one decision at a time",
    **dict.fromkeys(("CrossQ", "DDPG", "SAC", "TD3", "TQC"), _CONTINUOUS),
}
"""Other algorithms of Stable-Baselines3 and sb3-contrib, and why they are refused."""


class SB3Router(Router):
    """A Stable-Baselines3 model that plays a game with its own loop.

    Its seed is set for NumPy and torch as a whole, as Stable-Baselines3 does.

    Args:
        game: the game, which has a constant number of lanes.
        lanes: number of lanes per deal.
        algorithm: a key of ``ALGORITHMS``.
        seed: seed of the model.
        parts: what the model sees of "v", "task" and "depth". The meaning of v changes while the blocks learn; without
            it these algorithms learn sooner.
        decided: standard deviation of the logits that a policy begins with, see :func:`decide`. It has no effect on
            models with Q-values, nor with ``parts`` or ``policy_kwargs`` other than the default.
        options: options of the algorithm, in place of :func:`defaults`. With other ``parts`` than task and depth,
            ``policy_kwargs`` are those of Stable-Baselines3.

    Raises:
        ValueError: Unknown algorithm or option (the message suggests the closest match), or an algorithm that cannot
            route.
        TypeError: The model cannot be saved, see :class:`~routing_env.envs.sb3_models.SavedModel`.
    """

    def __init__(
        self,
        game: RoutingGame,
        lanes: int,
        algorithm: str,
        *,
        seed: int = 0,
        parts: Sequence[str] = ("task", "depth"),
        decided: float = 6.0,
        **options: Any,
    ) -> None:
        if algorithm in _UNFIT:
            raise ValueError(f"{algorithm} cannot route: {_UNFIT[algorithm]}; use {', '.join(ALGORITHMS)}")
        factory = import_object(look_up("Stable-Baselines3 algorithm", algorithm, ALGORITHMS))
        known = [name for name in inspect.signature(factory).parameters if name not in ("env", "seed")]
        for option in options:
            if option not in known:
                closest = suggestion(option, [*known, "parts", "decided"])
                raise ValueError(f"{algorithm} has no option {option!r}; {closest}")
        self._env = LanesVecEnv(Lanes(World(game, own=False), lanes, parts=parts))
        set_random_seed(seed)
        usual = {"policy": "MlpPolicy", "device": "cpu", **defaults(algorithm, game.spec, lanes)}
        if set(parts) != {"task", "depth"}:
            del usual["policy_kwargs"]
        self.model: BaseAlgorithm = factory(env=self._env, **(usual | options))
        self.model.action_space.seed(seed)
        if "policy_kwargs" in usual and "policy_kwargs" not in options:
            decide(self.model, decided)
        self._policy = ModelPolicy(self.model, self._env.lanes.format)
        self._saved = SavedModel(self.model)

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Draw from what the model explores with, or take the legal action that it values most."""
        if greedy:
            return Decision(self._policy(state))
        probability = self.probability(state)
        return Decision(torch.multinomial(probability, 1)[:, 0], probability)

    def probability(self, state: State) -> Tensor:
        """What the model explores with, over the legal actions, float32 [B, A]; for DQN it is epsilon-greedy."""
        return self._policy.exploring(state)

    def play(self, game: Game, samples: int) -> None:
        """Let the model learn on its game until ``samples`` more samples have been dealt, in whole rollouts.

        Each call deals anew; a deal that was under way when the last rollout ended is abandoned.
        """
        if samples > 0:
            self.model._last_obs = None  # pyright: ignore[reportPrivateUsage]
            self.model.learn(samples * game.spec.depth, reset_num_timesteps=False)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimiser, counters, replay buffer and generators."""
        return self._saved.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        self._saved.load_state_dict(state)


class TaskAndDepth(BaseFeaturesExtractor):
    """One feature for each pair of task and depth, from observations of these two parts; with ``net_arch=[]``, a table.

    A network that sees task and depth beside each other begins with much the same route for all tasks, because the
    depth is the same for all of them.

    Args:
        observation_space: of concat(one-hot task, one-hot depth).
        tasks: T.
    """

    def __init__(self, observation_space: spaces.Box, tasks: int) -> None:
        depth = observation_space.shape[0] - tasks
        super().__init__(observation_space, tasks * depth)
        self._tasks = tasks

    def forward(self, observations: Tensor) -> Tensor:
        """One-hot pairs float32 [B, T x D], from float32 [B, T + D]."""
        task, depth = observations[:, : self._tasks], observations[:, self._tasks :]
        return (task[:, :, None] * depth[:, None]).flatten(1)


def decide(model: BaseAlgorithm, deviation: float) -> None:
    """Draw a new table of logits, in which each task prefers a route of its own; models with Q-values are left alone.

    Stable-Baselines3 begins with nearly uniform policies. Blocks that all tasks train alike name the commonest class,
    and then no route is better than another. Models with Q-values explore little from the start instead.

    Args:
        model: new, with the ``policy_kwargs`` of :func:`defaults`.
        deviation: standard deviation of the logits.
    """
    logits: Any = getattr(model.policy, "action_net", None)
    if logits is not None:
        torch.nn.init.normal_(logits.weight, std=deviation)


def defaults(algorithm: str, spec: GameSpec, lanes: int) -> dict[str, Any]:
    """Settings for routing, with the parts "task" and "depth"; policies also need :func:`decide`.

    DQN and QRDQN explore little: a router that explores much teaches every block everything, and then no block is
    better than another.

    Args:
        algorithm: a key of ``ALGORITHMS``.
        spec: of the game.
        lanes: number of lanes per deal.
    """
    depth = spec.depth
    table = {
        "features_extractor_class": TaskAndDepth,
        "features_extractor_kwargs": {"tasks": spec.tasks},
        "net_arch": [],
    }
    whole_return: dict[str, Any] = {"gamma": 1.0, "policy_kwargs": table}
    if algorithm in ("DQN", "QRDQN"):
        return whole_return | {
            "learning_rate": 3e-4,
            "buffer_size": 200 * lanes,
            "learning_starts": 0,
            "train_freq": depth,
            "gradient_steps": 1,
            "batch_size": 256,
            "exploration_initial_eps": 0.02,
            "exploration_final_eps": 0.01,
            "target_update_interval": depth * lanes,
        }
    whole_return["gae_lambda"] = 1.0
    if algorithm == "A2C":
        return whole_return | {"learning_rate": 3e-3, "n_steps": depth}
    rollout = 5 * depth
    whole_return |= {"learning_rate": 3e-3, "n_steps": rollout, "batch_size": rollout * lanes // 3}
    return whole_return if algorithm == "TRPO" else whole_return | {"n_epochs": 4}
