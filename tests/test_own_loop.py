"""Routed models in your own training loop: every decision maker learns, and PyTorch's own tools work."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from worlds import bits

from routing_env.agents import make_router
from routing_env.data.planted import plant
from routing_env.game.network import RoutedNetwork, linear_layers, mlp
from routing_env.types import Router

DATA = plant(groups=2, tasks_per_group=2, samples=200, features=16)

DECISION_MAKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "REINFORCE": ("reinforce", {}),
    "REINFORCE, approximated": ("reinforce-approx", {}),
    "REINFORCE, epsilon-greedy": ("reinforce", {"epsilon": 0.1}),
    "Q-learning": ("q-learning", {"epsilon": 0.05}),
    "Q-learning, approximated": ("q-learning-approx", {"epsilon": 0.05}),
    "SARSA": ("sarsa", {"epsilon": 0.05}),
    "actor-critic": ("actor-critic", {}),
    "advantage actor-critic": ("advantage-actor-critic", {}),
    "advantage actor-critic, epsilon-greedy": ("advantage-actor-critic", {"epsilon": 0.1}),
    "advantage learning": ("advantage-learning", {"epsilon": 0.05}),
    "WPL": ("wpl", {"rule": "full-vector"}),
    "WPL, approximated": ("wpl-approx", {}),
    "Gumbel": ("gumbel-softmax", {}),
    "RELAX": ("relax", {}),
    "per-task assignment": ("fixed", {}),
    "pass-through": ("all-shared", {}),
    "dispatched": ("wpl", {"topology": "dispatched"}),
    "per layer": ("per-layer", {"routers": ["wpl", "q-learning"]}),
}


def new_model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return mlp(DATA.input_shape, DATA.outputs, blocks=4, hidden=16, layers=2)


def train(model: Any, router: Router, epochs: int) -> float:
    """An ordinary loop; returns the loss of the test samples."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(epochs):
        for rows in torch.randperm(len(DATA.train)).split(24):
            batch = DATA.gather(DATA.train[rows])
            output, route = model(batch.x, batch.task, router)
            loss = cross_entropy(output, batch.target, reduction="none")
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            router.learn(route.score(loss=loss))
    return loss_on_test(model, router)


@torch.no_grad()
def loss_on_test(model: Any, router: Router) -> float:
    test = DATA.gather(DATA.test)
    output, _ = model.eval()(test.x, test.task, router)
    model.train()
    return float(cross_entropy(output, test.target))


@pytest.mark.parametrize("name", DECISION_MAKERS)
def test_every_decision_maker_learns_in_ones_own_loop(name: str) -> None:
    router_name, options = DECISION_MAKERS[name]
    model = new_model()
    router = make_router(router_name, model.spec(DATA.tasks), seed=0, **options)
    before, state = loss_on_test(model, router), router.state_dict()
    assert train(model, router, 6) < before - 0.1
    if router_name not in ("fixed", "all-shared"):
        assert str(router.state_dict()) != str(state)


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    rows, actions = torch.arange(24), torch.randint(4, (24, 2), generator=torch.Generator().manual_seed(0))
    models = [new_model().double() for _ in range(2)]
    for model, parts in zip(models, (1, 4), strict=True):
        for chunk, taken in zip(rows.chunk(parts), actions.chunk(parts), strict=True):
            batch = DATA.gather(DATA.train[chunk])
            output, _ = model(batch.x.double(), batch.task, lambda state, taken=taken: taken[:, state.depth])
            (cross_entropy(output, batch.target, reduction="sum") / len(rows)).backward()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


def test_groups_of_parameters_have_their_own_rates() -> None:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Flatten(), nn.Linear(16, 16))
    model = RoutedNetwork(stem, linear_layers([16, 8, DATA.outputs], 3), DATA.input_shape)
    groups = model.parameter_groups()
    assert {id(parameter) for parameter in groups["rest"]} == {id(parameter) for parameter in stem.parameters()}
    assert len(groups["blocks"]) + len(groups["rest"]) == len(list(model.parameters()))
    rates = {"blocks": 0.1, "rest": 0.0}
    optimizer = torch.optim.SGD([{"params": groups[name], "lr": rate} for name, rate in rates.items()])
    before = bits(stem.state_dict()), bits(model.banks.state_dict())
    batch = DATA.gather(DATA.train[torch.arange(12)])
    output, _ = model(batch.x, batch.task, make_router("random", model.spec(DATA.tasks)))
    cross_entropy(output, batch.target).backward()
    optimizer.step()
    assert bits(stem.state_dict()) == before[0]
    assert bits(model.banks.state_dict()) != before[1]


def test_mixed_precision_computes_in_bfloat16_and_stays_near() -> None:
    model = new_model()
    rows, actions = torch.arange(24), torch.randint(4, (24, 2), generator=torch.Generator().manual_seed(0))
    batch = DATA.gather(DATA.train[rows])
    gradients: list[list[torch.Tensor | None]] = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output, _ = model(batch.x, batch.task, lambda state: actions[:, state.depth])
        assert output.dtype == (torch.bfloat16 if enabled else torch.float32)
        cross_entropy(output.float(), batch.target).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for exact, near in zip(*gradients, strict=True):
        assert (exact is None) == (near is None)
        if exact is not None and near is not None:
            torch.testing.assert_close(near, exact, rtol=0.1, atol=0.02)


def test_a_data_loader_and_compiled_parts() -> None:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Tanh())
    model = RoutedNetwork(stem, linear_layers([16, 8, DATA.outputs], 3), DATA.input_shape)
    train = DATA.gather(DATA.train)
    router = make_router("wpl", model.spec(DATA.tasks), seed=0)
    plain: list[torch.Tensor] = []
    for x, task, _ in DataLoader(TensorDataset(train.x, train.task, train.target), batch_size=100):
        plain.append(model.eval()(x, task, router)[0])
    model.stem = torch.compile(stem, backend="aot_eager")  # pyright: ignore[reportAttributeAccessIssue]
    for (x, task, _), output in zip(
        DataLoader(TensorDataset(train.x, train.task, train.target), batch_size=100), plain, strict=True
    ):
        torch.testing.assert_close(model(x, task, router)[0], output)


ROUTES = [  # by step, process and depth: in every step some block is chosen by one process only, and some by none
    [[0, 1], [1, 1]],
    [[2, 0], [2, 3]],
    [[0, 2], [3, 0]],
]


def train_on(model: nn.Module, rows: list[torch.Tensor], routes: list[list[int]], optimizer: Any) -> None:
    """One step on the mean loss of several parts of a batch, each with a route for all of its lanes."""
    optimizer.zero_grad()
    for own, route in zip(rows, routes, strict=True):
        batch = DATA.gather(DATA.train[own])
        output, _ = model(batch.x, batch.task, lambda state, own=route: torch.full_like(state.task, own[state.depth]))
        (cross_entropy(output, batch.target) / len(rows)).backward()
    optimizer.step()


def new_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def one_of_two_processes(rank: int, folder: Path) -> None:
    """What each process does: it saves its weights after every step."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = new_model()
    together = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = new_optimizer(model)
    for step, routes in enumerate(ROUTES):
        train_on(together, [torch.arange(48).chunk(2)[rank]], [routes[rank]], optimizer)
        torch.save(model.state_dict(), folder / f"{rank}-{step}.pt")
    del together  # it holds the group, whose threads must end before the process does
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """DistributedDataParallel; blocks that no process chose are bitwise untouched, momentum or not."""
    spawn(one_of_two_processes, (tmp_path,), nprocs=2)
    model = new_model()
    optimizer = new_optimizer(model)
    before = deepcopy(model.state_dict())
    for step, routes in enumerate(ROUTES):
        train_on(model, list(torch.arange(48).chunk(2)), routes, optimizer)
        after = [torch.load(tmp_path / f"{rank}-{step}.pt", weights_only=True) for rank in range(2)]
        assert bits(after[0]) == bits(after[1])
        torch.testing.assert_close(after[0], dict(model.state_dict()))
        chosen = {f"banks.{depth}.blocks.{route[depth]}" for route in routes for depth in range(2)}
        for name, value in after[0].items():
            assert value.equal(before[name]) != (".".join(name.split(".")[:4]) in chosen)
        before = after[0]


def test_what_an_own_loop_scores_is_checked_for_every_lane() -> None:
    batch = DATA.gather(DATA.train[torch.arange(6)])
    output, route = new_model()(batch.x, batch.task, make_router("wpl", new_model().spec(DATA.tasks)))
    loss = cross_entropy(output, batch.target, reduction="none")
    for given, message in (
        ({}, r"needs a reward or a loss per lane, float \[6\]; got nothing"),
        ({"loss": loss.mean()}, r"loss must be a float tensor of shape \[6\], lanes first; got torch.float32 \[\]"),
        ({"loss": loss[:, None]}, r"loss must .* \[6, 1\]"),
        ({"reward": batch.target == 0}, "reward must be .* torch.bool"),
        ({"reward": -loss, "loss": loss[:3]}, r"loss must .* \[3\]"),
        ({"loss": loss, "action_rewards": loss}, r"action_rewards must be a float tensor of shape \[6, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            route.score(**given)
    trace = route.score(reward=-loss.double(), action_rewards=torch.zeros(6, 2, dtype=torch.float64))
    assert (trace.final_reward.dtype, trace.action_rewards.dtype) == (torch.float32, torch.float32)
