"""Long training and many environments leave nothing behind, and what one process bears can be measured."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest

from routing_env import MultiTaskData, make_game, parallel_env
from routing_env.agents import make_router
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.maintenance.scale import handles, measurements, own_data, play, sizes, states


def pettingzoo(data: MultiTaskData) -> Callable[[], None]:
    env, rng = parallel_env(data=data, hidden=4, rho=0.5), np.random.default_rng(0)
    return lambda: play(env, rng)


def single(data: MultiTaskData) -> Callable[[], None]:
    env = gymnasium.make("routing_env:Routing-v0", data=data, hidden=4)

    def episode() -> None:
        _, info = env.reset()
        ended = False
        while not ended:
            _, _, ended, _, info = env.step(env.action_space.sample(info["action_mask"]))

    return episode


def vectorised(data: MultiTaskData) -> Callable[[], None]:
    env = RoutingVecEnv(data=data, hidden=4)
    env.reset()

    def episode() -> None:
        for _ in range(env.lanes.spec.depth):
            env.step(env.lanes.legal().argmax(1))

    return episode


def routed(data: MultiTaskData) -> Callable[[], None]:
    game = make_game(data=data, hidden=4, batch_size=4)
    router = make_router("wpl", game.spec)
    return lambda: router.play(game, 4)


@pytest.mark.parametrize("shell", [pettingzoo, single, vectorised, routed])
def test_episodes_leave_nothing_behind(
    small: MultiTaskData, shell: Callable[[MultiTaskData], Callable[[], None]]
) -> None:
    episode = shell(small)

    def left(episodes: int) -> tuple[int, int]:
        for _ in range(episodes):
            episode()
        gc.collect()
        return len(gc.get_objects()), handles()

    left(60)
    objects, opened = left(10)
    more, still = left(100)
    assert more - objects < 100, "an object for each episode"
    assert still == opened


def test_an_environment_that_is_dropped_is_gone(small: MultiTaskData) -> None:
    env = parallel_env(data=small, hidden=4)
    play(env, np.random.default_rng(0))
    seen = weakref.ref(env.game)
    env.close()
    del env
    gc.collect()
    assert seen() is None


def test_every_measurement_can_be_taken() -> None:
    taken = {measure for measure, _ in measurements(1.0)}
    assert {sizes, own_data, states} <= taken
    assert len(sizes(4, 3, 2)) == 1
    assert len(own_data(2000, copy=False)) == 1
    features, tasks, depth = 128, 4, 1
    widths = [int(result.split()[0].replace(",", "")) for _, result in states(tasks)]
    assert widths == [tasks * (features + tasks + depth), tasks * (features + depth), tasks * features]
