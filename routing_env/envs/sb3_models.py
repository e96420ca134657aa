"""Stable-Baselines3 models on disk together with their game, and callbacks that save both.

    save("best.safetensors", model)
    model = PPO("MlpPolicy", RoutingVecEnv(...), ...)  # both built as they were
    load("best.safetensors", model)

    EvalCallback(env.evaluation_view("validation"), callback_on_new_best=SaveBest("best.safetensors"))

A deal and a rollout under way are not saved: a restored model deals anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch.nn.utils import parameters_to_vector

from routing_env.checkpoint import load_tree, save_tree
from routing_env.envs.sb3 import LanesVecEnv
from routing_env.game.routing_game import RoutingGame
from routing_env.names import reference
from routing_env.state_dicts import (
    ANYTHING,
    AnyLength,
    Exactly,
    check_state,
    like_optimizer,
    restore,
    restore_generator,
)

_COUNTERS = ("num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate")
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_MAY_DIFFER = {"seed", "device", "data_dir"}
"""Settings of a game that a file of another game's may come from."""


def save(path: str | Path, model: BaseAlgorithm) -> None:
    """Save a model, the statistics of its VecNormalize and the game of its environment in one safetensors file.

    Args:
        path: file, which is replaced in one step.
        model: a model on a :class:`~routing_env.envs.sb3.RoutingVecEnv`.

    Raises:
        TypeError: The model has another environment, or a replay buffer of an unknown class.
        OSError: The file cannot be written.
    """
    game = _environment(model).game
    state = {"model": SavedModel(model).state_dict(), "game": game.state_dict()}
    save_tree(Path(path), {**_about(game), "versions": _versions(), **state})


def load(path: str | Path, model: BaseAlgorithm) -> None:
    """Restore a model and the game of its environment from what :func:`save` saved.

    Both must be built with the same settings; seeds and devices may differ. Unlike the model's own ``load``, this
    unpickles nothing, and the seed of the model does not restart the world at the next reset.

    Args:
        path: the file.
        model: a model on a :class:`~routing_env.envs.sb3.RoutingVecEnv`.

    Raises:
        ValueError: The file is damaged, or does not fit the model or the game. Nothing has changed.
        FileNotFoundError: The file does not exist.
        TypeError: The model has another environment, or a replay buffer of an unknown class.
    """
    env, own, tree = _environment(model), SavedModel(model), load_tree(Path(path))
    try:
        about = {name: {key: Exactly(value) for key, value in part.items()} for name, part in _about(env.game).items()}
        check_state(tree, {**about, "versions": ANYTHING, "model": ANYTHING, "game": ANYTHING})
        restore({"model": own, "game": env.game}, {"model": tree["model"], "game": tree["game"]})
    except ValueError as error:
        versions: Any = tree.get("versions") if isinstance(tree, dict) else None
        by = f" (saved by {versions}, this is {_versions()})" if versions not in (None, _versions()) else ""
        raise ValueError(
            f"{path} does not fit this model and its game: {error}{by}; build both as they were"
        ) from error
    env.forget_seed()


class SaveBest(BaseCallback):
    """Saves model and game when an ``EvalCallback`` finds the best model so far.

    For example ``EvalCallback(view, callback_on_new_best=SaveBest("best.safetensors"))``.

    Args:
        path: file, replaced each time; see :func:`save`.

    Raises:
        TypeError: At the start of training: the model cannot be saved, see :func:`save`.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    def _init_callback(self) -> None:
        _environment(self.model)
        SavedModel(self.model)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def _on_step(self) -> bool:
        save(self.path, self.model)
        return True


class SaveEvery(SaveBest):
    """Saves model and game at regular intervals, and at the end of training.

    Args:
        path: file, replaced each time; see :func:`save`.
        every: steps between two saves, counted over all lanes as in ``model.num_timesteps``.

    Raises:
        ValueError: ``every`` is less than 1.
        TypeError: At the start of training: the model cannot be saved, see :func:`save`.
    """

    def __init__(self, path: str | Path, every: int) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1")
        super().__init__(path)
        self.every = every
        self._saved_at = 0

    def _on_training_start(self) -> None:
        self._saved_at = self.model.num_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps - self._saved_at >= self.every:
            self._saved_at = self.num_timesteps
            save(self.path, self.model)
        return True

    def _on_training_end(self) -> None:
        save(self.path, self.model)


class SavedModel:
    """A model as something with a state: parameters, optimisers, counters, replay buffer, statistics and generators.

    The generators of NumPy and PyTorch are those of the whole process, which Stable-Baselines3 draws from.

    Args:
        model: any model.

    Raises:
        TypeError: The model's replay buffer is of a class that is not part of Stable-Baselines3.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model
        self._replay: Any = getattr(model, "replay_buffer", None)
        kind = type(self._replay)
        if self._replay is not None and not (
            isinstance(self._replay, ReplayBuffer) and kind.__module__ == ReplayBuffer.__module__
        ):
            raise TypeError(
                f"a {kind.__name__} cannot be saved, because what it holds is not known; use a ReplayBuffer of "
                "Stable-Baselines3"
            )

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on, apart from a rollout under way."""
        model, replay = self._model, self._replay
        _, keys, place, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the generator that the models use)
        state: dict[str, Any] = {
            "kind": self._kind(),
            "parameters": deepcopy(model.get_parameters()),
            "counters": {counter: getattr(model, counter) for counter in _COUNTERS if hasattr(model, counter)},
            "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(place), int(has_gauss), float(cached)],
            "torch": torch.get_rng_state(),
            "actions": model.action_space.np_random.bit_generator.state,
            "normalise": {name: _moments(rms) for name, rms in self._running().items()},
        }
        if replay is not None:
            rows = _filled(replay.pos, replay.full, replay.buffer_size)
            arrays = {name: torch.from_numpy(getattr(replay, name)[:rows].copy()) for name in self._arrays()}
            state["replay"] = {"arrays": arrays, "pos": int(replay.pos), "full": bool(replay.full)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`; the next deal is a new one.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        self._check(state)
        model, replay = self._model, self._replay
        model.set_parameters(deepcopy(state["parameters"]), device=model.device)
        if hasattr(model, "weights"):  # ARS keeps its parameters twice
            model.weights = parameters_to_vector(model.policy.parameters()).detach()  # pyright: ignore[reportAttributeAccessIssue]
        for counter, value in state["counters"].items():
            setattr(model, counter, value)
        model._last_obs = None  # pyright: ignore[reportPrivateUsage]
        np.random.set_state(_numpy_state(state))  # noqa: NPY002
        torch.set_rng_state(state["torch"])
        model.action_space.np_random.bit_generator.state = state["actions"]
        for name, rms in self._running().items():
            mean, var, count = state["normalise"][name]
            rms.mean, rms.var, rms.count = mean.numpy().copy(), var.numpy().copy(), count
        if replay is not None:
            for name, array in state["replay"]["arrays"].items():
                target = getattr(replay, name)
                target[: len(array)], target[len(array) :] = array.numpy(), 0
            replay.pos, replay.full = state["replay"]["pos"], state["replay"]["full"]

    def _kind(self) -> dict[str, Any]:
        """What a model must be to take the state."""
        model, replay = self._model, self._replay
        traits = ("optimize_memory_usage", "handle_timeout_termination", "n_steps", "gamma")
        return {
            "algorithm": reference(type(model)),
            "policy": reference(type(model.policy)),
            "lanes": model.n_envs,
            "observation_space": str(model.observation_space),
            "action_space": str(model.action_space),
            "statistics of VecNormalize": list(self._running()),
            "replay_buffer": type(replay).__name__ if replay is not None else None,
            "buffer_size": replay.buffer_size * replay.n_envs if replay is not None else None,
            "buffer_traits": {name: getattr(replay, name) for name in traits if hasattr(replay, name)},
        }

    def _check(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that does not fit, by trial where a comparison does not tell."""
        own = self.state_dict()
        for name in own["parameters"]:
            part: Any = reduce(getattr, name.split("."), self._model)
            if isinstance(part, torch.optim.Optimizer):
                own["parameters"][name] = like_optimizer(part)
        if "replay" in own:
            own["replay"]["arrays"] = {name: AnyLength(array) for name, array in own["replay"]["arrays"].items()}
        kind = {name: Exactly(value) for name, value in own["kind"].items()}
        check_state(state, {**own, "kind": kind})
        if "replay" in own:
            replay = state["replay"]
            rows = _filled(replay["pos"], replay["full"], self._replay.buffer_size)
            if not 0 <= replay["pos"] < self._replay.buffer_size or {*map(len, replay["arrays"].values())} != {rows}:
                raise ValueError(f"the replay buffer stands at {replay['pos']}, which does not fit what it holds")
        restore_generator(torch.Generator(), state["torch"])
        keys, place, has_gauss, _ = state["numpy"]
        if not (0 <= place <= len(keys) and keys.min() >= 0 and keys.max() < 2**32 and has_gauss in (0, 1)):
            raise ValueError("numpy is not the state of a Mersenne Twister")
        try:
            type(self._model.action_space.np_random.bit_generator)().state = state["actions"]
        except (TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a NumPy generator: {error}") from error

    def _arrays(self) -> list[str]:
        """The arrays of the replay buffer; some have no next_observations."""
        return [name for name in _REPLAY if hasattr(self._replay, name)]

    def _running(self) -> dict[str, RunningMeanStd]:
        """The running statistics of the model's VecNormalize, if it has one."""
        normalise = self._model.get_vec_normalize_env()
        names = () if normalise is None else ("obs_rms", "ret_rms")
        return {name: getattr(normalise, name) for name in names if hasattr(normalise, name)}


def _environment(model: BaseAlgorithm) -> LanesVecEnv:
    env = model.get_env()
    inner = None if env is None else env.unwrapped
    if not isinstance(inner, LanesVecEnv):
        raise TypeError(f"the model's environment is a {type(inner).__name__}; only one on a RoutingVecEnv has a game")
    return inner


def _about(game: RoutingGame) -> dict[str, dict[str, Any]]:
    """The settings and data that make a game another one."""
    settings = game.settings
    names = [] if settings is None else [field.name for field in fields(settings) if field.name not in _MAY_DIFFER]
    values = {name: getattr(settings, name) for name in names}
    return {
        "settings": {name: reference(value) if callable(value) else value for name, value in values.items()},
        "data": game.data.fingerprint,
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("routing-env", "torch", "stable-baselines3")}


def _filled(place: int, full: bool, size: int) -> int:
    """Rows of a replay buffer in use; where observations are kept once, the last one lies behind the place."""
    return size if full else min(place + 1, size)


def _numpy_state(state: Mapping[str, Any]) -> tuple[str, Any, int, int, float]:
    keys, place, has_gauss, cached = state["numpy"]
    return "MT19937", keys.numpy().astype(np.uint32), place, has_gauss, cached


def _moments(rms: RunningMeanStd) -> list[Any]:
    """Mean, variance and count."""
    return [torch.from_numpy(np.array(rms.mean)), torch.from_numpy(np.array(rms.var)), float(rms.count)]
