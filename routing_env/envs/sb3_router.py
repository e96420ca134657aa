"""Stable-Baselines3 models as entrants (``--router sb3:PPO``), and models on disk together with their game."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from routing_env.checkpoint import load_tree, save_tree
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import check_choice
from routing_env.envs.sb3 import LanesVecEnv, ModelPolicy
from routing_env.game.routing_game import RoutingGame
from routing_env.names import import_object, look_up, suggestion
from routing_env.types import Decision, Game, Router, State

ALGORITHMS = {
    "A2C": "stable_baselines3:A2C",
    "DQN": "stable_baselines3:DQN",
    "MaskablePPO": "sb3_contrib:MaskablePPO",
    "PPO": "stable_baselines3:PPO",
}

_COUNTERS = ("num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate")
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class SB3Router(Router):
    """A Stable-Baselines3 model that plays a game with its own loop.

    Its seed is set for NumPy and torch as a whole, as Stable-Baselines3 does.

    Args:
        game: with a constant number of lanes.
        lanes: that number.
        algorithm: a key of ``ALGORITHMS``.
        seed: of the model.
        parts: what the model sees of "v", "task" and "depth". v changes its meaning while the blocks learn; without it
            these algorithms learn sooner.
        options: of the algorithm, in place of :func:`defaults`.

    Raises:
        ValueError: an unknown algorithm or option, with the nearest known one.
    """

    def __init__(
        self,
        game: RoutingGame,
        lanes: int,
        algorithm: str,
        *,
        seed: int = 0,
        parts: Sequence[str] = ("task", "depth"),
        **options: Any,
    ) -> None:
        factory = import_object(look_up("Stable-Baselines3 algorithm", algorithm, ALGORITHMS))
        known = [name for name in inspect.signature(factory).parameters if name not in ("env", "seed")]
        for option in options:
            if option not in known:
                raise ValueError(f"{algorithm} has no option {option!r}; {suggestion(option, [*known, 'parts'])}")
        self._env = LanesVecEnv(Lanes(game, lanes, parts=parts, owned=False))
        set_random_seed(seed)
        usual: dict[str, Any] = {"policy": "MlpPolicy", "device": "cpu"}
        self.model: BaseAlgorithm = factory(
            env=self._env, **(usual | defaults(algorithm, game.spec.depth, lanes) | options)
        )
        self.model.action_space.seed(seed)
        self._policy = ModelPolicy(self.model, self._env.lanes.format)

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The most valued legal action, or one from the policy's distribution where the model has one."""
        probability = self.probability(state)
        if greedy or probability is None:
            return Decision(self._policy(state))
        return Decision(torch.multinomial(probability, 1)[:, 0], probability)

    def probability(self, state: State) -> Tensor | None:
        """The model's distribution over the legal actions, float32 [B, A]; None for DQN."""
        return self._policy.probability(state)

    def play(self, game: Game, samples: int) -> None:
        """Let the model learn on its game until so many more samples have been dealt, in whole rollouts.

        Each call deals anew: what was on its way when the last rollout ended is given up.
        """
        if samples > 0:
            self.model._last_obs = None  # pyright: ignore[reportPrivateUsage]
            self.model.learn(samples * game.spec.depth, reset_num_timesteps=False)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimiser, counters, replay buffer and generators."""
        return _state(self.model)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        _load_state(self.model, state)


def defaults(algorithm: str, depth: int, lanes: int) -> dict[str, Any]:
    """Settings that learned on digits.

    DQN explores little: who routes at random teaches every block everything, and then no block is better than another.
    """
    whole_return: dict[str, Any] = {"gamma": 1.0}
    if algorithm == "DQN":
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
            "policy_kwargs": {"net_arch": []},
        }
    whole_return["gae_lambda"] = 1.0
    if algorithm == "A2C":
        return whole_return | {"learning_rate": 3e-3, "n_steps": depth}
    rollout = 5 * depth
    return whole_return | {"learning_rate": 3e-3, "n_steps": rollout, "batch_size": rollout * lanes // 3, "n_epochs": 4}


def save(path: str | Path, model: BaseAlgorithm) -> None:
    """Save a model, the statistics of its VecNormalize and the game of its environment in one safetensors file.

    Args:
        path: of the file; replaced in one step.
        model: on a RoutingVecEnv.

    Raises:
        TypeError: the model's environment is another, or it has something that is no tensor, number or string.
        OSError: the file cannot be written.
    """
    save_tree(Path(path), {"model": _state(model), "game": _environment(model).game.state_dict()})


def load(path: str | Path, model: BaseAlgorithm) -> None:
    """Put what :func:`save` saved into a model built with the same settings, and into the game of its environment.

    Unlike the model's own ``load`` it unpickles nothing, and the seed that the model was built with does not start
    the world over any more.

    Raises:
        ValueError: the file is damaged, or does not fit the model or the game.
        FileNotFoundError: there is none.
    """
    env, tree = _environment(model), load_tree(Path(path))
    try:
        env.load_game(tree["game"])
        _load_state(model, tree["model"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit this model and its game: {error}; build both as they were") from error


def _environment(model: BaseAlgorithm) -> LanesVecEnv:
    env = model.get_env()
    inner = None if env is None else env.unwrapped
    if not isinstance(inner, LanesVecEnv):
        raise TypeError(f"the model's environment is a {type(inner).__name__}; only one on a RoutingVecEnv has a game")
    return inner


def _state(model: BaseAlgorithm) -> dict[str, Any]:
    name, keys, place, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the generator that the models use)
    check_choice("NumPy's generator", str(name), ["MT19937"])
    state: dict[str, Any] = {
        "parameters": model.get_parameters(),
        "counters": {counter: getattr(model, counter) for counter in _COUNTERS if hasattr(model, counter)},
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(place), int(has_gauss), float(cached)],
        "actions": model.action_space.np_random.bit_generator.state,
    }
    if running := _running(model):
        state["normalise"] = {name: _moments(rms) for name, rms in running.items()}
    replay: Any = getattr(model, "replay_buffer", None)
    if replay is not None:
        filled = replay.buffer_size if replay.full else replay.pos
        arrays = {name: torch.from_numpy(getattr(replay, name)[:filled]) for name in _REPLAY}
        state["replay"] = {"arrays": arrays, "pos": replay.pos, "full": replay.full}
    return state


def _load_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    model.set_parameters(state["parameters"], device=model.device)
    for counter, value in state["counters"].items():
        setattr(model, counter, value)
    keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), place, has_gauss, cached))  # noqa: NPY002
    model.action_space.np_random.bit_generator.state = state["actions"]
    running, stored = _running(model), state.get("normalise", {})
    if running.keys() != stored.keys():
        raise ValueError(f"it has the statistics {list(stored)} of VecNormalize, the model {list(running)}")
    for name, rms in running.items():
        mean, var, count = stored[name]
        rms.mean, rms.var, rms.count = mean.numpy(), var.numpy(), count
    if "replay" in state:
        replay: Any = model.replay_buffer  # pyright: ignore[reportAttributeAccessIssue]
        for name, array in state["replay"]["arrays"].items():
            getattr(replay, name)[: len(array)] = array.numpy()
        replay.pos, replay.full = int(state["replay"]["pos"]), bool(state["replay"]["full"])


def _running(model: BaseAlgorithm) -> dict[str, RunningMeanStd]:
    """The running statistics of the model's VecNormalize; none where it has none."""
    normalise = model.get_vec_normalize_env()
    names = () if normalise is None else ("obs_rms", "ret_rms")
    return {name: getattr(normalise, name) for name in names if hasattr(normalise, name)}


def _moments(rms: RunningMeanStd) -> list[Any]:
    """Mean, variance and count."""
    return [torch.from_numpy(np.asarray(rms.mean)), torch.from_numpy(np.asarray(rms.var)), float(rms.count)]
