"""Reading a Stable-Baselines3 model: its values of the actions, its greedy policy, and what it explores with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium import wrappers as gym_wrappers
from numpy.typing import NDArray
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecCheckNan, VecEnvWrapper, VecMonitor, VecNormalize
from torch import Tensor

from routing_env.envs.observation import ObservationFormat
from routing_env.game.routing_game import RoutingGame
from routing_env.types import State

_READABLE = "use DQN, QRDQN, PPO, A2C, TRPO, MaskablePPO, RecurrentPPO or ARS"

_KNOWN_WRAPPERS = (
    *(VecCheckNan, VecMonitor, VecNormalize, Monitor, ActionMasker),
    *(gym_wrappers.OrderEnforcing, gym_wrappers.PassiveEnvChecker),
    *(gym_wrappers.RecordEpisodeStatistics, gym_wrappers.TimeLimit),
)
"""Wrappers that leave observations alone, and VecNormalize, which is applied here."""

_TOLD: WeakSet[RoutingGame] = WeakSet()
"""Games whose blocks :func:`warn_of_untrained_blocks` has spoken of."""


class ModelPolicy:
    """Takes a model's highest-valued legal action, whether or not the model itself uses masks.

    A model with an LSTM (RecurrentPPO) remembers each route from its first decision on, so it must be given the states
    of a batch in order of depth.

    Args:
        model: has Q-values (DQN, QRDQN, there the mean over quantiles), a policy distribution (PPO, A2C, TRPO,
            MaskablePPO, RecurrentPPO) or scores (ARS).
        seen: format of the environment's observations; if the model has a VecNormalize, it is applied.

    Raises:
        TypeError: The model has none of these, has continuous actions, or was trained on other observations, such as
            stacked ones.
    """

    def __init__(self, model: BaseAlgorithm, seen: ObservationFormat) -> None:
        self._model = model
        self._values = values_of(model)
        _check_observations(model, seen)
        self._has_distribution = hasattr(model.policy, "get_distribution")
        self._seen = seen

    def __call__(self, state: State) -> Tensor:
        """The greedy legal actions, int64 [B]."""
        return self.values(state).argmax(1)

    def probability(self, state: State) -> Tensor | None:
        """The model's distribution over the legal actions, float32 [B, A]; None for a model with Q-values."""
        return self.values(state).softmax(1) if self._has_distribution else None

    def exploring(self, state: State) -> Tensor:
        """What the model explores with, float32 [B, A]: its distribution, or epsilon-greedy at its present rate.

        Restricted to the legal actions.
        """
        values = self.values(state)
        if self._has_distribution:
            return values.softmax(1)
        epsilon = float(getattr(self._model, "exploration_rate", 0.0))
        if self._model.num_timesteps < getattr(self._model, "learning_starts", 0):
            epsilon = 1.0
        best = torch.nn.functional.one_hot(values.argmax(1), values.shape[1])
        return (1 - epsilon) * best + epsilon * state.legal / state.legal.sum(1, keepdim=True)

    def values(self, state: State) -> Tensor:
        """Log-probabilities, Q-values or scores of the legal actions, float32 [B, A]; -inf for the others.

        Raises:
            ValueError: The model has an LSTM, and the states of this batch are not given in order of depth.
        """
        values = self._values(self._seen.vectors(state), state.depth).to(state.legal.device)
        return values.masked_fill(~state.legal, -torch.inf)


def values_of(model: BaseAlgorithm) -> Callable[[NDArray[np.float32], int], Tensor]:
    """A function from observation vectors float32 [B, n] and their depth to what a model values actions by.

    That is log-probabilities, Q-values or scores, float32 [B, A]. An LSTM's memory begins empty at depth 0, or where
    the first vectors are given.

    Raises:
        TypeError: The model has none of these, or has continuous actions.
    """
    policy: Any = model.policy
    name = type(model).__name__
    if not isinstance(model.action_space, spaces.Discrete):
        raise TypeError(f"the action space of {name} is {model.action_space}; routing is discrete: {_READABLE}")
    if hasattr(policy, "lstm_actor"):
        rate = _Remembering(policy)
    elif hasattr(policy, "q_net"):

        def rate(observation: Tensor, depth: int) -> Tensor:
            return policy.q_net(observation)
    elif hasattr(policy, "quantile_net"):

        def rate(observation: Tensor, depth: int) -> Tensor:
            return policy.quantile_net(observation).mean(1)
    elif hasattr(policy, "get_distribution"):

        def rate(observation: Tensor, depth: int) -> Tensor:
            return policy.get_distribution(observation).distribution.logits
    elif hasattr(policy, "action_net"):

        def rate(observation: Tensor, depth: int) -> Tensor:
            return policy.action_net(policy.extract_features(observation, policy.features_extractor))
    else:
        raise TypeError(f"{name} has neither Q-values nor a policy distribution; {_READABLE}")

    def values(vectors: NDArray[np.float32], depth: int) -> Tensor:
        normalise = model.get_vec_normalize_env()
        given = vectors if normalise is None else normalise.normalize_obs(vectors)
        policy.set_training_mode(False)
        with torch.no_grad():
            return rate(policy.obs_to_tensor(given)[0], depth)

    return values


class _Remembering:
    """The logits of a policy with an LSTM, whose memory of a batch's routes is kept from one depth to the next.

    Giving the same depth again repeats the answer.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # hidden and cell states [layers, B, H] before each depth

    def __call__(self, observation: Tensor, depth: int) -> Tensor:
        """Logits float32 [B, A]."""
        lanes, lstm = len(observation), self._policy.lstm_actor
        if depth == 0 or not self._before:
            empty = observation.new_zeros(lstm.num_layers, lanes, lstm.hidden_size)
            self._before = {depth: (empty, empty)}
        memory = self._before.get(depth)
        if memory is None or memory[0].shape[1] != lanes:
            raise ValueError(
                f"{lanes} lanes at depth {depth} do not go on from those given before; a policy with an LSTM must be "
                "given the states of one batch in order, from depth 0 on"
            )
        distribution, self._before[depth + 1] = self._policy.get_distribution(
            observation, memory, observation.new_zeros(lanes)
        )
        return distribution.distribution.logits


def warn_of_untrained_blocks(model: BaseAlgorithm, game: RoutingGame, *, stacklevel: int) -> None:
    """Warn, once per game, when a trained model meets blocks that have learned nothing."""
    if not model.num_timesteps or game.samples or game in _TOLD:
        return
    _TOLD.add(game)
    warnings.warn(
        f"this {type(model).__name__} has trained for {model.num_timesteps:,} steps, but the blocks of this "
        "environment have not trained on any sample. A zip file of Stable-Baselines3 holds the policy without the "
        "blocks: save by routing_env.envs.sb3_models.save, SaveBest or SaveEvery and restore by load, which keep both. "
        "A seed that restarts the world discards the blocks, too.",
        stacklevel=stacklevel + 1,
    )


def _check_observations(model: BaseAlgorithm, seen: ObservationFormat) -> None:
    """Refuse a model that was trained on observations other than the environment's own."""
    env: Any = model.get_env()
    wrappers: list[Any] = []
    while isinstance(env, VecEnvWrapper):
        wrappers.append(env)
        env = env.venv
    for inner in getattr(env, "envs", [])[:1]:
        while isinstance(inner, gymnasium.Wrapper):
            wrappers.append(inner)
            inner = inner.env  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    strange = [type(wrapper).__name__ for wrapper in wrappers if not isinstance(wrapper, _KNOWN_WRAPPERS)]
    if strange:
        raise TypeError(
            f"the model is trained through the wrapper {', '.join(strange)}, which is not applied here; evaluate it by "
            "Stable-Baselines3's evaluate_policy on env.evaluation_view(split) in the same wrappers"
        )
    if model.observation_space.shape != seen.low.shape:
        raise TypeError(
            f"the model is trained on observations of shape {model.observation_space.shape}; those of this environment "
            f"have {seen.low.shape}: use the same parts, and no wrapper that stacks or changes observations"
        )
