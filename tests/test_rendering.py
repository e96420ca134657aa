"""Pictures of routes as text, routing map and window, from the PettingZoo environment and from a VecEnv."""

from __future__ import annotations

import copy
import itertools
import re
import sys
from typing import Any

import numpy as np
import pytest
from worlds import little_data
from zoo import RECURSIVE, legal_actions, play, small_data

from routing_env import MultiTaskData, parallel_env
from routing_env.drawing.deal import mark
from routing_env.drawing.map_layout import blocks_at, columns, edges_of, lost_routes, shares_of
from routing_env.drawing.routing_map import routing_map
from routing_env.envs.sb3 import RoutingVecEnv

DISPATCHED: dict[str, Any] = {"topology": "dispatched", "agents": 4}


def test_rendering_shows_the_routes_of_this_episode(small: MultiTaskData) -> None:
    env = parallel_env(data=small, render_mode="rgb_array", **RECURSIVE)
    text = parallel_env(data=small, render_mode="ansi", **RECURSIVE)
    images: list[Any] = [env.render()]
    (observations, _), (_, infos) = env.reset(), text.reset()
    rng = np.random.default_rng(0)
    while env.agents:
        actions = legal_actions(env, observations, rng)
        observations, *_ = env.step(actions)
        infos = text.step(actions)[-1]
        images.append(env.render())
    for image in images:
        assert isinstance(image, np.ndarray)
        assert image.dtype == np.uint8
        assert image.shape == images[0].shape
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(images))

    lines = str(text.render()).splitlines()
    assert lines[0] == "routing_v0 · episode 1 · step 3 of 3"
    for line, (agent, info) in zip(lines[1:], infos.items(), strict=True):
        route = ["PASS" if action == text.game.spec.pass_action else str(action) for action in info["route"]]
        assert re.findall(r"PASS|\d+", line.partition(")")[2]) == route
        assert line.startswith(agent)
        assert line.endswith("✓" if info["correct"] else "✗")


def test_the_lines_of_the_map_carry_every_sample(small: MultiTaskData) -> None:
    spec = parallel_env(data=small, **RECURSIVE).game.spec
    blocks = [blocks_at(spec, depth) for depth in range(spec.depth)]
    counts = np.zeros((3, spec.depth, spec.actions), dtype=np.int64)
    counts[:, :, 0], counts[:, 1, 4], counts[:, 1, 9], counts[:, 2, 6] = 6, 2, 2, 4
    counts[:, 2, 0] = 0
    assert spec.pass_action == 9
    edges = edges_of(shares_of(counts, spec.actions), blocks)
    for task, row in itertools.product(range(3), range(spec.depth)):
        assert sum(share for t, source, _, share in edges if (t, source[0]) == (task, row)) == pytest.approx(1)
    into_pass = [share for _, _, (row, x), share in edges if row == 2 and x not in columns(len(blocks[1]))]
    assert into_pass == pytest.approx([0.2] * 3)
    lost = np.array([[0, 4, 6], [0, -1, -1], [-1, -1, -1]])
    shares = shares_of(lost, spec.actions)
    assert lost_routes(shares, edges_of(shares, blocks)) == [((1, columns(3)[0]), 1), ((0, columns(3)[2]), 2)]


@pytest.mark.usefixtures("window")
def test_the_window_shows_the_image(small: MultiTaskData) -> None:
    import pygame

    window, image = (parallel_env(data=small, render_mode=mode, hidden=4) for mode in ("human", "rgb_array"))
    for env in (window, image):
        play(env, np.random.default_rng(0), seed=1)
    surface = pygame.display.get_surface()
    assert surface is not None
    np.testing.assert_array_equal(pygame.surfarray.array3d(surface).swapaxes(0, 1), image.render())
    copy.deepcopy(window).close()
    window.close()
    assert not pygame.display.get_init()


def test_a_missing_pygame_names_the_remedy(small: MultiTaskData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'routing-env[render]'")):
        parallel_env(data=small, render_mode="human")


def test_rendering_names_who_decides_and_shows_the_one_route() -> None:
    data = little_data()
    env = parallel_env(data=data, render_mode="ansi", **DISPATCHED, **RECURSIVE)
    assert env.render() == "routing_v0 · episode 0 · step 0 of 3"
    observations, _ = env.reset()
    features = env.game.spec.features
    name = data.task_names[observations["dispatcher_0"]["observation"][features : features + 3].argmax()]
    head, line = str(env.render()).splitlines()
    assert (head, line) == ("routing_v0 · episode 1 · step 0 of 3 · dispatcher_0", f"dispatcher_0 ({name})")
    rng = np.random.default_rng(0)
    observations, _, _, _, infos = env.step({"dispatcher_0": 2})
    while env.agents:
        observations, _, _, _, infos = env.step(legal_actions(env, observations, rng))
    head, line = str(env.render()).splitlines()
    assert head == "routing_v0 · episode 1 · step 3 of 3 · router_2"
    assert line.startswith(f"router_2 ({name})")
    assert line.endswith("✓" if infos["router_2"]["correct"] else "✗")


def test_a_map_shows_the_routes_of_the_tasks_that_it_is_given() -> None:
    data = little_data()
    spec = parallel_env(data=data, **RECURSIVE).game.spec
    routes = np.array([[0, 4, 6], [1, -1, -1], [2, 3, 8]])
    names = data.task_names
    order = [2, 0, 1]
    whole = routing_map(routes, spec, names)
    np.testing.assert_array_equal(routing_map(routes[order], spec, names, tasks=order), whole)
    one, lost = (routing_map(routes[[task]], spec, names, tasks=[task]) for task in (0, 1))
    nothing = routing_map(routes[:0], spec, names, tasks=[])
    assert one.shape == lost.shape == nothing.shape == whole.shape
    assert not np.array_equal(one, nothing)
    red_cross = np.array([0xCF, 0x22, 0x2E])
    assert [bool((image == red_cross).all(2).any()) for image in (one, lost, nothing)] == [False, True, False]


def test_the_lanes_of_a_vec_env_are_one_picture() -> None:
    settings: dict[str, Any] = {"data": small_data(), "seed": 3, **RECURSIVE}
    lanes, zoo = RoutingVecEnv(render_mode="rgb_array", **settings), parallel_env(render_mode="rgb_array", **settings)
    lanes.reset()
    observations, _ = zoo.reset()
    rng = np.random.default_rng(0)
    while zoo.agents:
        actions = legal_actions(zoo, observations, rng)
        observations, *_ = zoo.step(actions)
        lanes.step(np.array(list(actions.values())))
        ours, theirs = lanes.render(), zoo.render()  # also after the end, where the next samples are dealt already
        assert ours is not None
        below_the_title = slice(30, None)
        np.testing.assert_array_equal(ours[below_the_title], np.asarray(theirs)[below_the_title])
    assert lanes.metadata == {"render_modes": ["human", "rgb_array"], "render_fps": 4}


def test_the_picture_of_several_lanes_counts_what_was_right() -> None:
    data = small_data()
    env = RoutingVecEnv(data=data, hidden=4, copies=4, render_mode="rgb_array")
    view = env.evaluation_view()
    shapes = {np.asarray(each.render()).shape for each in (env, view)}
    assert len(shapes) == 1
    env.reset()
    before = np.asarray(env.render())
    for _ in range(3):
        env.step(np.zeros(12, np.int64))
    assert not np.array_equal(np.asarray(env.render()), before)
    assert [mark(right, 4) for right in (0, 3, 4)] == ["✗", "3/4", "✓"]
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        RoutingVecEnv(data=data, render_mode="human")
