"""Any model with decisions in it: equal to the network composed by hand, in the game and in your own loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test
from rich.console import Console
from routed_models import KINDS, MODELS, Mixed, Unrolled, one_lane
from stable_baselines3 import PPO
from torch import Tensor, nn
from worlds import bits, little_data, noise

from routing_env import Decision, State, make_game, parallel_env
from routing_env.agents import ROUTERS, make_router
from routing_env.envs.sb3 import RoutingVecEnv
from routing_env.game.blocks import BlockBank
from routing_env.runs.directory import RunDirectory
from routing_env.runs.display import Display
from routing_env.runs.run import Run
from routing_env.state_dicts import same_state

DATA = little_data(features=4, classes=(2, 2, 2))
QUICK: dict[str, Any] = {"data": DATA, "learning_rate": 0.1}


def random_policy(seed: int) -> Callable[[State], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda state: torch.multinomial(state.legal.float(), 1, generator=generator)[:, 0]


@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=6),
    lanes=st.integers(1, 7),
    blocks=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_output_and_gradients_are_those_of_the_network_composed_by_hand(
    kinds: list[str], lanes: int, blocks: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = Mixed(4, 3, kinds, blocks, most=9 if "until" in kinds else None).double()
    x, task = noise(lanes, 4, seed=seed), torch.arange(lanes) % 3
    spec = model.spec(3, input_shape=(4,))
    output, route = model(x, task, random_policy(seed))
    assert route.actions.shape == (lanes, spec.depth)
    for state in route.states:
        assert state.v.shape == (lanes, spec.features)
        assert not (state.legal & ~spec.legal[state.depth]).any()
    output.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}

    model.zero_grad()
    plain = torch.cat([one_lane(model, x[b], task[b], route.actions[b].tolist()) for b in range(lanes)])
    torch.testing.assert_close(output, plain, rtol=1e-10, atol=1e-10)
    plain.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (gradients[name] is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-9, msg=name)


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.1, "learning_rate": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.1, "learning_rate": 0.1},
    "adamw": {"optimizer": adamw},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_blocks_that_no_lane_takes_stay_bitwise_the_same(name: str, optimizer: str) -> None:
    game = make_game(data=DATA, network=MODELS[name], batch_size=2, **OPTIMIZERS[optimizer])
    policy = random_policy(0)
    banks = [bank for bank in game.network.modules() if isinstance(bank, BlockBank)]
    called: set[nn.Module] = set()
    for bank in banks:
        for block in bank.blocks:
            block.register_forward_pre_hook(lambda block, _: called.add(block))
    moved = kept = 0
    for _ in range(12):
        before = [[bits(block.state_dict()) for block in bank.blocks] for bank in banks]
        called.clear()
        state: State | None = game.reset()
        while state is not None:
            state = game.step(Decision(policy(state)))
        for bank, old in zip(banks, before, strict=True):
            for block, was in zip(bank.blocks, old, strict=True):
                same = bits(block.state_dict()) == was
                kept, moved = kept + (block not in called), moved + (not same)
                assert same or block in called
    assert moved
    assert kept


@pytest.mark.parametrize("name", MODELS)
def test_models_pass_the_conformance_tests(name: str) -> None:
    network = MODELS[name]
    parallel_api_test(parallel_env(network=network, **QUICK), num_cycles=40)
    env = gymnasium.make("routing_env:Routing-v0", network=network, **QUICK)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*heed the action mask")  # random actions do not
        warnings.filterwarnings("ignore", message=".*discards what its blocks have learned")  # it resets with seeds
        warnings.filterwarnings("ignore", message=".*Box observation space")
        check_env(env.unwrapped, skip_render_check=True)
        lanes = RoutingVecEnv(network=network, copies=2, **QUICK)
        model = PPO("MlpPolicy", lanes, n_steps=6, batch_size=12, n_epochs=1, seed=0).learn(60)
    assert lanes.evaluate(model).samples.tolist() == [6, 6, 6]


@pytest.mark.parametrize("router", sorted(set(ROUTERS) - {"per-layer"}))
@pytest.mark.parametrize("name", ["ending", "mixed"])
def test_every_router_plays(name: str, router: str) -> None:
    data = replace(DATA, groups=(0, 0, 1))
    game = make_game(data=data, network=MODELS[name], learning_rate=0.1, rho=0.1)
    playing = make_router(router, game.spec, seed=0)
    playing.play(game, 60)
    assert game.evaluate(playing).samples.tolist() == [6, 6, 6]


@pytest.mark.parametrize("name", MODELS)
def test_runs_and_games_go_on_to_the_same_bits(name: str, tmp_path: Any) -> None:
    given = {"data": DATA, "network": f"routed_models:{name}", "router": "q-learning", "epochs": 3}
    quiet = Display(Console(quiet=True))
    whole, cut = (Run.of(given | {"router": "q-learning"}) for _ in range(2))
    directories = [RunDirectory(tmp_path / part) for part in ("whole", "cut")]
    for directory, run in zip(directories, (whole, cut), strict=True):
        directory.write_config(run.settings)
    whole.train(directories[0], quiet)

    class KilledError(Exception):
        """Stands for a signal."""

    def kill(trace: Any) -> None:
        if cut.learner.game.samples > 1.5 * len(DATA.train):  # pyright: ignore[reportAttributeAccessIssue]
            raise KilledError

    cut.learner.game.observers.append(kill)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KilledError):
        cut.train(directories[1], quiet)
    again = Run.of(given)
    again.restore(directories[1])
    again.train(directories[1], quiet)
    assert same_state(*((directory.load_checkpoint() or {})["learner"] for directory in directories))


def test_lanes_that_do_not_take_part_can_only_pass() -> None:
    model = Unrolled(4, 2)
    spec = model.spec(3, input_shape=(4,))
    assert (spec.depth, spec.actions, spec.pass_action) == (4, 4, 3)
    task = torch.arange(3)
    _, route = model(noise(3, 4).float(), task, random_policy(0))
    for state in route.states:
        takes_part = task >= state.depth
        assert state.legal[:, :3].all(1).tolist() == takes_part.tolist()
        assert state.legal[:, 3].tolist() == (~takes_part).tolist()
    assert (route.actions == 3).int().tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
