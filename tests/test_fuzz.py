"""Right and wrong calls mixed at random: what is refused changes nothing, as a twin that gets only right ones shows.

``pytest tests/test_fuzz.py --fuzz-calls 100000`` plays a longer edition.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from worlds import bits, little_data
from zoo import RECURSIVE, same, small_data

from routing_env import Decision, RoutingGame, make_game, parallel_env
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.envs.single import RoutingEnv
from routing_env.types import State

SETTINGS: dict[str, Any] = {"rho": 0.3, "learning_rate": 0.1, "momentum": 0.9, **RECURSIVE}
REFUSALS = (ValueError, TypeError, RuntimeError, KeyError, IndexError)
NO_ACTIONS: tuple[Any, ...] = (-1, 10**6, 0.5, "0", None, True, np.nan, [0], {}, b"0", np.array([0, 1]))
NO_SEEDS: tuple[Any, ...] = (-1, 2**63, 1.5, "1", [], {}, np.nan, b"1")


class Player:
    """One environment, and what may be done with it: right calls return what they show, wrong ones must be refused."""

    env: Any

    def reset(self, seed: int | None) -> Any:
        """Start an episode."""
        return self.env.reset(seed=seed)

    def step(self, rng: np.random.Generator) -> Any:
        """A legal step, or a reset where the episode has ended."""
        raise NotImplementedError

    def wrong(self, rng: np.random.Generator) -> list[Callable[[], object]]:
        """Calls that must be refused in this state."""
        seed = NO_SEEDS[rng.integers(len(NO_SEEDS))]
        return [
            lambda: self.env.reset(seed=seed),
            lambda: self.env.evaluate("no policy", "test"),
            lambda: self.env.evaluate(lambda *_: 10**6, "test"),
            lambda: self.env.evaluate(lambda *_: 0, "no split"),
        ]


class ParallelPlayer(Player):
    """PettingZoo's parallel environment, in any topology."""

    def __init__(self, topology: dict[str, Any]) -> None:
        self.env = parallel_env(data=small_data(), **topology, **SETTINGS)
        self.observations: dict[str, Any] = {}

    def reset(self, seed: int | None) -> Any:
        """As the base."""
        shown = super().reset(seed)
        self.observations = shown[0]
        return shown

    def actions(self, rng: np.random.Generator) -> dict[str, Any]:
        """A legal action for everybody."""
        masks = {agent: self.observations[agent]["action_mask"] for agent in self.env.agents}
        return {agent: int(rng.choice(mask.nonzero()[0])) for agent, mask in masks.items()}

    def step(self, rng: np.random.Generator) -> Any:
        """As the base."""
        if not self.env.agents:
            return self.reset(None)
        shown = self.env.step(self.actions(rng))
        self.observations = shown[0]
        return shown

    def wrong(self, rng: np.random.Generator) -> list[Callable[[], object]]:
        """As the base."""
        calls = super().wrong(rng)
        if not self.env.agents:
            return [*calls, lambda: self.env.step({}), lambda: self.env.step({"task_0": 0})]
        actions, agent = self.actions(rng), self.env.agents[-1]  # of a dispatcher that has picked nothing is read
        bad = NO_ACTIONS[rng.integers(len(NO_ACTIONS))]
        missing = {name: action for name, action in actions.items() if name != agent}
        return [
            *calls,
            lambda: self.env.step({**actions, agent: bad}),
            lambda: self.env.step(missing),
            lambda: self.env.step({**actions, "nobody": 0}),
            lambda: self.env.step([0]),
            lambda: self.env.observation_space("nobody"),
        ]


class SinglePlayer(Player):
    """Gymnasium's environment."""

    def __init__(self) -> None:
        self.env = RoutingEnv(data=small_data(), **SETTINGS)
        self.over = True

    def reset(self, seed: int | None) -> Any:
        """As the base."""
        self.over = False
        return super().reset(seed)

    def step(self, rng: np.random.Generator) -> Any:
        """As the base."""
        if self.over:
            return self.reset(None)
        shown = self.env.step(int(rng.choice(self.env.action_masks().nonzero()[0])))
        self.over = shown[2]
        return shown

    def wrong(self, rng: np.random.Generator) -> list[Callable[[], object]]:
        """As the base."""
        bad = 0 if self.over else NO_ACTIONS[rng.integers(len(NO_ACTIONS))]
        return [*super().wrong(rng), lambda: self.env.step(bad)]


class ManyLanesPlayer(Player):
    """Environments whose lanes are stepped together."""

    def __init__(self, env: Any, lanes: int, masks: Callable[[], Any]) -> None:
        self.env, self.lanes, self.masks = env, lanes, masks

    def step(self, rng: np.random.Generator) -> Any:
        """As the base."""
        return self.env.step(np.array([rng.choice(mask.nonzero()[0]) for mask in self.masks()]))

    def wrong(self, rng: np.random.Generator) -> list[Callable[[], object]]:
        """As the base."""
        some = np.zeros(self.lanes, np.int64)
        wrong: list[Any] = [some[1:], some + 10**6, some - 1, some + 0.5, "0" * self.lanes, None, some[:, None], [None]]
        bad = wrong[rng.integers(len(wrong))]
        return [*super().wrong(rng)[1:], lambda: self.env.step(bad)]


class VecPlayer(ManyLanesPlayer):
    """Stable-Baselines3's vectorised environment, whose reset has no seed."""

    def __init__(self) -> None:
        env = RoutingVecEnv(data=small_data(), copies=2, **SETTINGS)
        super().__init__(env, 6, lambda: env.env_method("action_masks"))

    def reset(self, seed: int | None) -> Any:
        """As the base."""
        if seed is not None:
            self.env.seed(seed)
        return self.env.reset()

    def wrong(self, rng: np.random.Generator) -> list[Callable[[], object]]:
        """As the base."""
        return [*super().wrong(rng), lambda: self.env.seed(NO_SEEDS[rng.integers(len(NO_SEEDS))])]


def vector_player() -> ManyLanesPlayer:
    """Gymnasium's vector environment, which deals the next samples itself."""
    env: Any = gymnasium.make_vec(
        "routing_env:Routing-v0", num_envs=4, data=small_data(), autoreset_mode="SameStep", **SETTINGS
    )
    return ManyLanesPlayer(env, 4, env.action_masks)


class GamePlayer(Player):
    """The game itself."""

    def __init__(self) -> None:
        self.env: RoutingGame = make_game(data=little_data(), batch_size=5, **SETTINGS)
        self.state: State | None = None

    def reset(self, seed: int | None) -> Any:
        """A game has no seed after it was built."""
        self.state = self.env.reset()
        return self.state.v

    def step(self, rng: np.random.Generator) -> Any:
        """As the base."""
        if self.state is None:
            return self.reset(None)
        legal = self.state.legal.numpy()
        self.state = self.env.step(Decision(torch.tensor([rng.choice(row.nonzero()[0]) for row in legal])))
        return self.env.trace.final_reward if self.state is None else self.state.v

    def wrong(self, rng: np.random.Generator) -> list[Callable[[], object]]:
        """As the base."""
        lanes = 5 if self.state is None else len(self.state.task)
        zeros = torch.zeros(lanes, dtype=torch.int64)
        bad: list[Any] = [
            Decision(zeros[1:]),
            Decision(zeros.float()),
            Decision(zeros + 10**6),
            Decision(zeros - 1),
            Decision(zeros, probability=torch.zeros(lanes, 99)),
            Decision(zeros, gate=torch.ones(lanes + 1)),
        ]
        chosen = bad[rng.integers(len(bad))]
        return [*super().wrong(rng)[1:], lambda: self.env.step(chosen)]


PLAYERS: dict[str, Callable[[], Player]] = {
    "per_task": lambda: ParallelPlayer({}),
    "single": lambda: ParallelPlayer({"topology": "single"}),
    "dispatched": lambda: ParallelPlayer({"topology": "dispatched", "agents": 2}),
    "gymnasium": SinglePlayer,
    "vector": vector_player,
    "stable-baselines3": VecPlayer,
    "game": GamePlayer,
}


@pytest.mark.parametrize("name", PLAYERS)
def test_what_is_refused_changes_nothing(name: str, request: pytest.FixtureRequest) -> None:
    option: Any = request.config.getoption("--fuzz-calls")
    calls = int(option)
    rng, choices = np.random.default_rng(7), np.random.default_rng(8)
    player, twin = PLAYERS[name](), PLAYERS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(player.reset(3), twin.reset(3))
        refused = 0
        for call in range(calls):
            if choices.random() < 0.5:
                wrong = player.wrong(choices)
                with pytest.raises(REFUSALS):
                    wrong[choices.integers(len(wrong))]()
                refused += 1
                continue
            again = int(choices.integers(100)) if choices.random() < 0.02 else None
            bit_generator = rng.bit_generator.state
            shown = player.step(rng) if again is None else player.reset(again)
            rng.bit_generator.state = bit_generator
            assert same(shown, twin.step(rng) if again is None else twin.reset(again)), f"call {call}"
    games: list[RoutingGame] = [one.env if name == "game" else one.env.game for one in (player, twin)]
    assert bits(games[0].network.state_dict()) == bits(games[1].network.state_dict())
    assert repr(games[0].state_dict()) == repr(games[1].state_dict())
    assert refused > calls / 3
