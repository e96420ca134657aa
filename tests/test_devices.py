"""Games on a CUDA device against the same games on the CPU; skipped where there is no such device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_games import DATA, GAMES_AND_BATCH_NORM

from routing_env.agents import ROUTERS, make_router
from routing_env.baselines import BASELINES, baseline_class
from routing_env.baselines.gradient_methods import GradientMethod
from routing_env.data import MultiTaskData, Split, make_data
from routing_env.game.build import make_game
from routing_env.game.captured import captured_deals
from routing_env.game.routing_game import RoutingGame
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run
from routing_env.types import Decision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

SMALL: dict[str, Any] = {"data": "planted", "batch_size": 16, "rho": 0.3, "learning_rate": 0.1}
OPTIMIZERS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"weight_decay": 0.01},
    {"optimizer": "adam", "learning_rate": 0.01},
    {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.01},
    {"weight_average": 0.9},
    {"dropout": 0.3},
]


def play(game: RoutingGame, deals: int = 6) -> list[torch.Tensor]:
    """Deals on random routes that do not depend on the device: losses, rewards and at the end the weights."""
    generator = torch.Generator().manual_seed(0)
    seen: list[torch.Tensor] = []
    for _ in range(deals):
        state = game.reset()
        while state is not None:
            policy = state.legal.cpu() / state.legal.cpu().sum(1, keepdim=True)
            action = torch.multinomial(policy, 1, generator=generator).squeeze(1)
            state = game.step(Decision(action.to(state.task.device)))
        trace = game.trace
        seen += [trace.outcome.loss, trace.outcome.output, trace.final_reward, trace.action_rewards]
    return [one.detach().cpu() for one in [*seen, *game.network.state_dict().values()]]


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=str)
def test_training_is_that_of_the_cpu(settings: dict[str, Any]) -> None:
    one, other = (play(make_game(**{**SMALL, **settings}, device=device)) for device in ("cpu", "cuda"))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", GAMES_AND_BATCH_NORM)
def test_every_kind_of_network_trains_as_on_the_cpu(name: str) -> None:
    settings = {"batch_size": 16, "rho": 0.3, "learning_rate": 0.1, **GAMES_AND_BATCH_NORM[name]}
    one, other = (play(make_game(data=DATA, device=device, **settings)) for device in ("cpu", "cuda"))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(ROUTERS))
def test_every_router_plays_resumes_and_evaluates(name: str) -> None:
    game = make_game(**SMALL, device="cuda")
    router = make_router(name, game.spec)
    router.play(game, 64)
    state, kept = game.state_dict(), router.state_dict()
    router.play(game, 64)
    once = game.evaluate(router, "validation")
    again = make_game(**SMALL, device="cuda")
    again.load_state_dict(state)
    twin = make_router(name, again.spec)
    twin.load_state_dict(kept)
    twin.play(again, 64)
    twice = again.evaluate(twin, "validation")
    torch.testing.assert_close(once.loss, twice.loss, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_trains(name: str) -> None:
    if issubclass(baseline_class(name), GradientMethod):
        pytest.importorskip("torchjd")
    run = Run.of({"data": "planted", "router": name, "device": "cuda", "epochs": 1, "reference": False})
    run.learner.play(64, lambda *_: None)
    assert bool(run.evaluate("validation").accuracy.isfinite().all())


NAMES = ("wpl", "q-learning", "fixed", "random", "exp3", "hedge", "route-hedge")
CAPTURED: list[tuple[str, dict[str, Any]]] = [
    *((name, {"network": network}) for name in NAMES for network in ("mlp", "simple_convnet")),
    *(("wpl", settings) for settings in OPTIMIZERS),
    ("wpl", {"rho": 0.3, "pass_action": True, "recursive": True, "hidden": 192}),
    ("route-hedge", {"dropout": 0.3, "momentum": 0.5, "weight_average": 0.9}),
]


@pytest.mark.parametrize(("name", "settings"), CAPTURED, ids=str)
def test_captured_deals_are_the_plain_ones(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epsilon": (1.0, 0.1, 200)} if name == "q-learning" else {}
    data = little_images()
    ends: list[Any] = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    given = {"network": "mlp", "hidden": 16, "learning_rate": 0.05, "batch_size": 20, "decay_every": 2} | settings
    for captured in (False, True):
        game = make_game(data=data, device="cuda", **given)
        if not captured:
            game.make_graph = None
        router = make_router(name, game.spec, **options)
        losses: list[torch.Tensor] = []
        game.observers.append(lambda trace, losses=losses: losses.append(trace.outcome.loss.clone()))
        router.play(game, 400)
        assert (captured_deals(game, router, None) is not None) == captured
        evaluation = game.evaluate(router, "train")
        trained = [game.network.state_dict(), game.trainer.state_dict(), router.state_dict()]
        ends.append([torch.cat(losses), *trained, evaluation.accuracy])
    torch.testing.assert_close(*ends, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_captured_steps_of_a_baseline_are_the_plain_ones(optimizer: str) -> None:
    ends: list[Any] = []
    for captured in (False, True):
        given = {"data": "planted", "router": "task_specific_1_fc", "optimizer": optimizer, "learning_rate": 0.01}
        learner = Run.of({**given, "device": "cuda", "reference": False}).learner
        assert isinstance(learner, BaselineLearner)
        if not captured:
            learner.step.make_graph = None
        learner.play(2000, lambda: None)
        ends.append([learner.measures(), learner.state_dict()["network"]])
    torch.testing.assert_close(*ends, rtol=1e-2, atol=1e-3, equal_nan=True)


def little_images() -> MultiTaskData:
    """Noise with the shape of small images: 4 tasks of 3 classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (120, 3, 8, 8), dtype=torch.uint8, generator=generator)
    split = Split(torch.arange(120), torch.arange(120) % 4, torch.randint(3, (120,), generator=generator))
    return make_data("noise", inputs, split, split, ["a", "b", "c", "d"], [3] * 4, validation=0)
