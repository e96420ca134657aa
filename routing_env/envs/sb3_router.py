"""Stable-Baselines3 models as entrants (``--router sb3:PPO``)."""

from __future__ import annotations

import inspect
import re
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
from routing_env.envs.sb3_algorithms import algorithm_class
from routing_env.envs.sb3_models import SavedModel
from routing_env.envs.sb3_policies import ModelPolicy
from routing_env.envs.world import World
from routing_env.game.routing_game import RoutingGame
from routing_env.names import option_docs, suggestion
from routing_env.types import Decision, Game, Router, State


class SB3Router(Router):
    """A Stable-Baselines3 model that plays a game with its own loop.

    Its seed is set for NumPy and torch as a whole, as Stable-Baselines3 does.

    Attributes:
        model: the model.
        remark: the settings of the model that are not the defaults of Stable-Baselines3.

    Args:
        game: the game, which has a constant number of lanes.
        lanes: number of lanes per deal.
        algorithm: a key of :data:`~routing_env.envs.sb3_algorithms.ALGORITHMS`.
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
        factory = algorithm_class(algorithm)
        known = _options(factory)
        for option in options:
            if option not in known:
                closest = suggestion(option, [*known, "parts", "decided"])
                raise ValueError(f"{algorithm} has no option {option!r}; {closest}")
        self._env = LanesVecEnv(Lanes(World(game, own=False), lanes, parts=parts))
        set_random_seed(seed)
        usual = defaults(algorithm, tasks=game.spec.tasks, depth=game.spec.depth, lanes=lanes)
        if set(parts) != {"task", "depth"}:
            del usual["policy_kwargs"]
        self.remark = _remark(algorithm, {"parts": list(parts), "decided": decided, **usual, **options})
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
    """Give each task a different preferred route at the start, by new logits or by quantiles that agree.

    Stable-Baselines3 begins with nearly uniform policies. Blocks that all tasks train alike predict the majority class,
    and then no route is better than another. DQN is left alone: its values differ enough, and it explores little. The
    quantiles of QRDQN cancel out in the mean, so those of an action begin with the same values here.

    Args:
        model: new, with the ``policy_kwargs`` of :func:`defaults`.
        deviation: standard deviation of the logits.
    """
    policy: Any = model.policy
    if hasattr(policy, "action_net"):
        torch.nn.init.normal_(policy.action_net.weight, std=deviation)
    elif hasattr(policy, "quantile_net"):
        table, quantiles = policy.quantile_net.quantile_net[0], policy.quantile_net.n_quantiles
        with torch.no_grad():
            for values in (table.weight, table.bias):  # quantile by quantile, each with one row for each action
                one = values[: len(values) // quantiles].clone()
                values.copy_(one.repeat(quantiles, *[1] * (values.dim() - 1)))
        policy.quantile_net_target.load_state_dict(policy.quantile_net.state_dict())


def described_options(algorithm: str, *, tasks: int, depth: int, lanes: int) -> list[tuple[str, str, str]]:
    """The options of an entrant, each with its default in such a game and what it means.

    Raises:
        ValueError: unknown algorithm, or one that cannot route.
    """
    factory, usual = algorithm_class(algorithm), defaults(algorithm, tasks=tasks, depth=depth, lanes=lanes)
    docs, own = option_docs(SB3Router), inspect.signature(SB3Router).parameters
    rows = [(name, _shown(own[name].default), docs[name]) for name in ("parts", "decided")]
    meanings: dict[str, str] = dict(re.findall(r":param (\w+): ((?:.|\n(?!\s*:))*)", factory.__doc__ or ""))
    parameters = inspect.signature(factory).parameters
    for name in _options(factory):
        theirs = parameters[name].default
        meaning = " ".join(meanings.get(name, "").split())
        if name in usual and name != "policy":
            meaning += f" (Stable-Baselines3: {_shown(theirs)})"
        rows.append((name, _shown(usual.get(name, theirs)), meaning))
    return rows


def _remark(algorithm: str, settings: Mapping[str, Any]) -> str:
    without_logits = {"decided"} if "DQN" in algorithm else set[str]()
    shown = (f"{name} {_shown(value)}" for name, value in settings.items() if name not in {"policy", *without_logits})
    return (
        f"settings of {algorithm} that are not the defaults of Stable-Baselines3: {', '.join(shown)}; all of them: "
        f"routing-env list sb3:{algorithm}"
    )


def _options(factory: Any) -> list[str]:
    """The options of an algorithm that an entrant takes."""
    return [name for name in inspect.signature(factory).parameters if name not in ("env", "seed") and name[0] != "_"]


def _shown(value: object) -> str:
    """A default as a person reads it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_shown(one)}" for name, one in value.items()) + "}"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value.__name__ if isinstance(value, type) else str(value)


def defaults(algorithm: str, *, tasks: int, depth: int, lanes: int) -> dict[str, Any]:
    """Settings for routing, with the parts "task" and "depth"; policies also need :func:`decide`.

    DQN and QRDQN explore little: a router that explores much teaches every block everything, and then no block is
    better than another.

    Args:
        algorithm: a key of :data:`~routing_env.envs.sb3_algorithms.ALGORITHMS`.
        tasks: T.
        depth: D.
        lanes: number of lanes per deal.
    """
    table: dict[str, Any] = {
        "features_extractor_class": TaskAndDepth,
        "features_extractor_kwargs": {"tasks": tasks},
        "net_arch": [],
    }
    whole_return: dict[str, Any] = {"policy": "MlpPolicy", "device": "cpu", "gamma": 1.0, "policy_kwargs": table}
    if algorithm == "QRDQN":
        table["n_quantiles"] = 25  # the work grows with their square
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
    steps = 5 * depth
    rollout = steps * lanes
    parts = next(parts for parts in (3, 4, 5, 1) if rollout % parts == 0 and rollout // parts > 1)
    whole_return |= {"learning_rate": 3e-3, "n_steps": steps, "batch_size": rollout // parts}
    return whole_return if algorithm == "TRPO" else whole_return | {"n_epochs": 4}
