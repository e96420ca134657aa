"""Helpers of the tests that play the PettingZoo environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from routing_env import MultiTaskData, RoutingParallelEnv
from routing_env.data import Split, make_data

MASKS = ("obs", "info", "both", "none")
TOPOLOGIES: list[dict[str, Any]] = [
    {"topology": "per_task"},
    {"topology": "single"},
    {"topology": "dispatched", "agents": 2},
]
GAMES = [
    {"recursive": recursive, "pass_action": pass_action} for recursive in (False, True) for pass_action in (False, True)
]
RECURSIVE: dict[str, Any] = {"recursive": True, "pass_action": True, "hidden": 8, "blocks": 3}


def small_data() -> MultiTaskData:
    """Three tasks on twelve inputs of four features."""
    generator = torch.Generator().manual_seed(0)
    task = torch.arange(3).repeat_interleave(12)
    split = Split(torch.arange(12).repeat(3), task, torch.randint(0, 2, (36,), generator=generator))
    inputs = torch.randn(12, 4, generator=generator)
    return make_data("small", inputs, split, split, ("a", "b", "c"), (2, 2, 2), validation=0.0)


def legal_actions(env: RoutingParallelEnv, observations: dict[str, Any], rng: np.random.Generator) -> dict[str, int]:
    return {agent: int(rng.choice(observations[agent]["action_mask"].nonzero()[0])) for agent in env.agents}


def play(env: RoutingParallelEnv, rng: np.random.Generator, *, seed: int | None = None) -> list[Any]:
    """One episode of legal random actions: everything that the environment returned."""
    observations, infos = env.reset(seed=seed)
    returned: list[Any] = [(observations, infos)]
    while env.agents:
        returned.append(env.step(legal_actions(env, returned[-1][0], rng)))
    return returned


def weights(env: RoutingParallelEnv) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in env.game.network.parameters()]


def same(a: Any, b: Any) -> bool:
    """Bitwise sameness of nested containers of arrays, tensors and numbers."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b
