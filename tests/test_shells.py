"""One evaluate in all environments: the kinds of policies that it takes, and what it shows to them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from zoo import MASKS, same, small_data, weights

from routing_env import Decision, MultiTaskData, Router, RoutingParallelEnv, State, parallel_env
from routing_env.envs.dispatched import DispatchedParallelEnv
from routing_env.envs.epymarl import EPyMARLEnv, PyMARLEnv, TeamEnv
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.single import RoutingEnv
from routing_env.envs.vector import RoutingVectorEnv
from routing_env.game.network import RoutedNetwork, mlp

FEATURES, TASKS, SAMPLES, PASS = 4, 3, 36, 2
ROUTES = torch.tensor([[PASS, PASS, 0], [PASS, PASS, 1], [PASS, PASS, 0]])


def network(data: MultiTaskData) -> RoutedNetwork:
    """Two classifiers, and PASS for the decisions before the last: until then every sample looks as it did at first."""
    return mlp(data.input_shape, data.outputs, 2, layers=1, recursive=True, pass_action=True, depth=3)


# No block learns before a thousand samples have been routed.
WORLD: dict[str, Any] = {"data": small_data(), "network": network, "block_batch": 1000}
SHELLS: dict[str, Callable[..., Any]] = {
    "per_task": lambda **mask: parallel_env(**WORLD, **mask),
    "single topology": lambda **mask: parallel_env(topology="single", **WORLD, **mask),
    "dispatched": lambda **mask: parallel_env(topology="dispatched", agents=2, **WORLD, **mask),
    "Gymnasium": lambda **mask: RoutingEnv(**WORLD, **mask),
    "Gymnasium vector": lambda **_: RoutingVectorEnv(6, **WORLD),
    "Stable-Baselines3": lambda **_: RoutingVecEnv(copies=2, **WORLD),
}
ALSO_TEAMS: dict[str, Callable[..., Any]] = SHELLS | {
    "EPyMARL": lambda **_: EPyMARLEnv(**WORLD),
    "PyMARL2": lambda **_: PyMARLEnv(**WORLD),
}


class Watching:
    """A policy of agents that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[Any] = Counter()

    def __call__(self, agent: str, observation: Any) -> int:
        """PASS, PASS, and then block 1; the dispatcher picks by the task."""
        seen = observation if isinstance(observation, dict) else {"vector": observation}
        self.asked[agent, *((name, str(value.dtype), value.tobytes()) for name, value in seen.items())] += 1
        vector = next(iter(seen.values()))
        if agent == "dispatcher_0":
            return int(vector[FEATURES : FEATURES + TASKS].argmax()) % 2
        return PASS if vector[FEATURES + TASKS :].argmax() < 2 else 1


def play_a_pass(env: Any, policy: Watching) -> None:
    """Play until every training sample has been routed once."""
    seen: Any = env.reset()
    while env.game.samples < SAMPLES:
        if isinstance(env, RoutingParallelEnv):
            seen = seen[0]
            while env.agents:
                deciding = env.agents[1:] if len(env.agents) == 2 else env.agents  # a dispatcher that has picked waits
                seen = env.step({agent: policy(agent, seen[agent]) for agent in deciding})[0]
        elif isinstance(env, RoutingEnv):
            seen = seen[0]
            for _ in range(env.game.spec.depth):
                seen = env.step(policy("router_0", seen))[0]
        else:
            seen = seen[0] if isinstance(env, RoutingVectorEnv) else seen
            for _ in range(env.game.spec.depth):
                seen = env.step(np.array([policy("router_0", lane) for lane in seen]))[0]
        if not isinstance(env, RoutingVecEnv):  # which deals the next samples by itself
            seen = env.reset()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shell", SHELLS)
def test_evaluation_shows_agents_what_they_see_in_play(shell: str, mask: str) -> None:
    env = SHELLS[shell](mask=mask)
    in_play, in_evaluation = Watching(), Watching()
    play_a_pass(env, in_play)
    env.evaluate(in_evaluation, "train")
    assert in_evaluation.asked == in_play.asked
    assert sum(in_play.asked.values()) == SAMPLES * (4 if shell == "dispatched" else 3)


class Always(Router):
    """Every task takes its own route."""

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The task's action at this depth."""
        return Decision(ROUTES[state.task, state.depth])


@pytest.mark.parametrize("shell", SHELLS)
def test_every_kind_of_policy_is_told_apart(shell: str) -> None:
    env = SHELLS[shell]()
    router = Always()
    start = weights(env)

    def batched(state: State) -> torch.Tensor:
        return ROUTES[state.task, state.depth]

    def of_agents(agent: str, observation: Any) -> int:
        vector = observation["observation"] if isinstance(observation, dict) else observation
        task, depth = int(vector[FEATURES : FEATURES + TASKS].argmax()), int(vector[FEATURES + TASKS :].argmax())
        if agent == "dispatcher_0":
            return task % 2
        names = {"per_task": f"task_{task}", "dispatched": f"router_{task % 2}"}
        assert agent == names.get(shell, "router_0")
        return int(ROUTES[task, depth])

    setattr(of_agents, "act", None)  # noqa: B010 (an attribute of this name does not make a router)
    expected = env.game.evaluate(batched, "train")
    assert expected.routes.argmax(2).tolist() == ROUTES.tolist()
    for policy, options in ((router, {}), (batched, {"batched": True}), (of_agents, {})):
        assert same(vars(env.evaluate(policy, "train", **options)), vars(expected))
    assert same(vars(env.game.evaluate(router, "train")), vars(expected))
    assert same(weights(env), start)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_not_a_policy_is_refused(shell: str) -> None:
    class Similar:
        def act(self, state: State, *, greedy: bool = False) -> None: ...

    env = SHELLS[shell]()
    with pytest.raises(TypeError, match=r"policy is a Similar; it must be a routing_env\.Router or a function"):
        env.evaluate(Similar())
    with pytest.raises(ValueError, match="illegal at depth 3"):
        env.evaluate(lambda state: torch.full_like(state.task, PASS), batched=True)


def returned_by(env: Any) -> Iterator[Any]:
    """All that an environment returns in two episodes."""
    dispatched = isinstance(env, DispatchedParallelEnv)
    for _ in range(2):
        yield env.reset()
        for action in [0] * dispatched + [PASS, PASS, 1]:
            if isinstance(env, RoutingParallelEnv):
                yield env.step(dict.fromkeys(env.agents[-1:] if dispatched else env.agents, action))
            elif isinstance(env, RoutingEnv):
                yield env.step(action)
            elif isinstance(env, TeamEnv):
                yield env.step([action] * TASKS)
                for ask in (env.get_obs, env.get_state, env.get_avail_actions, env.get_obs):
                    yield ask()
            else:
                yield env.step(np.full(6, action))
            if not isinstance(env, RoutingParallelEnv | TeamEnv):
                yield env.env_method("action_masks") if isinstance(env, RoutingVecEnv) else env.action_masks()


def overwrite(returned: Any) -> None:
    """Change every array, which must lie in one piece, and every list and dict in what was returned."""
    if isinstance(returned, np.ndarray):
        assert returned.flags.c_contiguous
        returned[...] = ~returned if returned.dtype == np.bool_ else returned + 1
    elif isinstance(returned, dict | list | tuple):
        for part in returned.values() if isinstance(returned, dict) else returned:
            overwrite(part)
        if not isinstance(returned, tuple):
            returned.clear()


@pytest.mark.filterwarnings("ignore:a second world")
@pytest.mark.parametrize("shell", ALSO_TEAMS)
def test_what_an_environment_returns_is_the_callers_own(shell: str) -> None:
    """It stays as it was, and whoever overwrites it changes neither what comes later nor the game."""
    env, other = ALSO_TEAMS[shell](), ALSO_TEAMS[shell]()
    rewards: list[list[Any]] = [[], []]
    for each, earned in zip((env, other), rewards, strict=True):
        each.game.observers.append(lambda trace, earned=earned: earned.append(trace.action_rewards))
    kept: list[tuple[Any, Any]] = []
    for one, another in zip(returned_by(env), returned_by(other), strict=True):
        assert same(one, another)
        kept.append((one, copy.deepcopy(one)))
        overwrite(another)
    assert same(*map(list, zip(*kept, strict=True)))
    assert same(*rewards)
    assert same(env.game.state_dict(), other.game.state_dict())


def test_a_model_of_stable_baselines3_routes_greedily() -> None:
    env = SHELLS["Stable-Baselines3"]()
    model = PPO("MlpPolicy", env, n_steps=6, batch_size=12, seed=0).learn(72)
    assert same(vars(env.evaluate(model)), vars(env.game.evaluate(env.policy(model))))
    other = SHELLS["per_task"]()
    with pytest.warns(UserWarning, match="the blocks of this environment have not trained"):
        assert same(vars(other.evaluate(model)), vars(other.game.evaluate(other.policy(model))))


def test_wrappers_that_cannot_work_end_in_an_error() -> None:
    supersuit = pytest.importorskip("supersuit")
    immortal = supersuit.black_death_v3(RoutingParallelEnv(**WORLD, mask="none"))
    immortal.reset()
    actions = dict.fromkeys(immortal.agents, 0)
    for _ in range(immortal.unwrapped.game.spec.depth):
        immortal.step(actions)
    assert immortal.agents
    with pytest.raises(RuntimeError, match="no episode is under way; call reset"):
        immortal.step(actions)


def test_the_topology_picks_the_class() -> None:
    kinds = {shell: type(SHELLS[shell]()) for shell in ("per_task", "single topology", "dispatched")}
    assert list(kinds.values()) == [RoutingParallelEnv, RoutingParallelEnv, DispatchedParallelEnv]
    with pytest.raises(ValueError, match="topology is 'dispatched'; "):
        RoutingParallelEnv(topology="dispatched", **WORLD)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shallow_copy_leaves_the_original_alone(shell: str) -> None:
    """The copy plays its own game, also in the middle of an episode of the original."""
    env = SHELLS[shell]()
    env.reset()
    before, samples, start = env.lanes.vectors.copy(), env.game.samples, weights(env)
    other = copy.copy(env)
    play_a_pass(other, Watching())
    assert other.game is not env.game
    assert other.game.samples == SAMPLES
    assert same((env.lanes.vectors, env.game.samples, weights(env)), (before, samples, start))
    assert env.lanes.under_way
    if isinstance(env, RoutingParallelEnv):
        assert env.agents
        env.step(dict.fromkeys(env.agents, 0))
