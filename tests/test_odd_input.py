"""One reading of actions and seeds: every environment takes the same ones, and refuses the others in the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from zoo import small_data

from routing_env import parallel_env, routing_v0
from routing_env.envs.independent import independent_envs
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.single import RoutingEnv
from routing_env.envs.vector import RoutingVectorEnv

WORLD: dict[str, Any] = {"data": small_data(), "network": "mlp", "hidden": 4, "blocks": 2, "layers": 2}
NO_ACTIONS: list[Any] = [
    *(1.5, 1.0, "0", b"0", True, np.True_, None, [0], {}, np.nan, 1j, -1, 10**6, np.float64(1), 10**400),
    *(np.array([1]), np.array(True), np.array(1.0), torch.tensor([1]), torch.tensor(True), torch.tensor(1.0)),
]
ACTIONS: list[Any] = [1, np.int64(1), np.uint8(1), np.array(1), torch.tensor(1)]
NO_SEEDS: list[Any] = [
    -1,
    2**63,
    2**64,
    1.5,
    "1",
    b"1",
    True,
    np.True_,
    {},
    np.nan,
    np.array([1]),
    torch.tensor([1]),
    [[1]],
]


def _parallel(**topology: Any) -> tuple[Any, Callable[[Any], object]]:
    env = parallel_env(**WORLD, **topology)
    return env, lambda action: env.step(dict.fromkeys(env.agents, 0) | {env.agents[-1]: action})


def _turn_based(make: Callable[..., Any]) -> tuple[Any, Callable[[Any], object]]:
    env = make(**WORLD)
    return env, lambda action: env.step(action)


def _gymnasium() -> tuple[Any, Callable[[Any], object]]:
    env = RoutingEnv(**WORLD)
    return env, env.step


def _vector() -> tuple[Any, Callable[[Any], object]]:
    env = RoutingVectorEnv(3, **WORLD)
    return env, lambda action: env.step([0, action, 0])


def _stable_baselines3() -> tuple[Any, Callable[[Any], object]]:
    env = RoutingVecEnv(**WORLD)
    return env, lambda action: env.step([0, action, 0])  # pyright: ignore[reportArgumentType]


SHELLS: dict[str, Callable[[], tuple[Any, Callable[[Any], object]]]] = {
    "per_task": _parallel,
    "single topology": lambda: _parallel(topology="single"),
    "dispatched": lambda: _parallel(topology="dispatched", agents=2),
    "arriving": lambda: _parallel(arrivals="2+1"),
    "turn-based": lambda: _turn_based(routing_v0.env),
    "raw turn-based": lambda: _turn_based(routing_v0.raw_env),
    "Gymnasium": _gymnasium,
    "Gymnasium vector": _vector,
    "Stable-Baselines3": _stable_baselines3,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_environment_reads_actions_alike(shell: str) -> None:
    for action in ACTIONS:
        env, act = SHELLS[shell]()
        env.reset()
        act(action)
    env, act = SHELLS[shell]()
    env.reset()
    for action in NO_ACTIONS:
        with pytest.raises(
            ValueError, match=r"must be (an integer|\d integers) from 0 to 1; got|; it must be an integer"
        ):
            act(action)
    act(1)  # the refused ones have ended nothing


@pytest.mark.parametrize("shell", SHELLS)
def test_every_environment_reads_what_a_policy_returns_alike(shell: str) -> None:
    env, _ = SHELLS[shell]()
    evaluate = env.unwrapped.evaluate if "turn" in shell else env.evaluate
    for action in NO_ACTIONS:
        with pytest.raises(ValueError, match="it must be an integer from 0 to 1"):
            evaluate(lambda agent, observation, action=action: action)


def test_independent_agents_read_actions_alike() -> None:
    for action in ACTIONS + NO_ACTIONS:
        envs = independent_envs(**WORLD)

        def first(env: Any = envs[0], action: Any = action) -> None:
            env.reset()
            env.step(action)

        loops = [first, *(lambda: None for _ in envs[1:])]
        play = lambda envs=envs, loops=loops: envs[0].turns.run(loops, [lambda: 0 for _ in envs])  # noqa: E731
        if any(action is known for known in ACTIONS):
            play()
            continue
        with pytest.raises(ValueError, match=r"action of task_0 is .*; it must be an integer from 0 to 1"):
            play()


@pytest.mark.parametrize("shell", [*SHELLS, "independent"])
def test_every_environment_reads_seeds_alike(shell: str) -> None:
    env: Any = independent_envs(**WORLD)[0] if shell == "independent" else SHELLS[shell]()[0]
    reset = env.seed if shell == "Stable-Baselines3" else lambda seed: env.reset(seed=seed)
    for seed in [[], *NO_SEEDS]:
        with pytest.raises(ValueError, match=r"seed is .*; it must be an integer from 0 to 2\*\*63 - 1"):
            reset(seed)
    if shell != "independent":  # which is seeded where it is made
        for seed in (3, np.int64(3), np.array(3), torch.tensor(3)):
            reset(seed)


def test_a_vector_environment_takes_one_seed_for_each_lane() -> None:
    env, _ = _vector()
    env.reset(seed=[3, None, 4])
    weights = [parameter.tolist() for parameter in env.game.network.parameters()]
    env.reset(seed=3)
    assert [parameter.tolist() for parameter in env.game.network.parameters()] == weights
    for seed in ([3], [3, -1, 4], [3, "4", 5]):
        with pytest.raises(ValueError, match="it must be an integer from 0"):
            env.reset(seed=seed)


@pytest.mark.parametrize("shell", ["Gymnasium", "Gymnasium vector", "Stable-Baselines3", "independent"])
def test_there_is_no_action_mask_before_the_first_reset(shell: str) -> None:
    env: Any = independent_envs(**WORLD)[0] if shell == "independent" else SHELLS[shell]()[0]
    ask = (lambda: env.env_method("action_masks")) if shell == "Stable-Baselines3" else env.action_masks
    with pytest.raises(RuntimeError, match="there is no action mask before the first reset; call reset"):
        ask()
