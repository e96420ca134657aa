"""Agents that share the tensors of a network learn as if each were alone, and not at all where they are absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from routing_env.agents import make_router
from routing_env.agents.base import PolicyRouter, acting_agent
from routing_env.agents.gradient import GradientRouter
from routing_env.agents.per_agent import AgentAdam
from routing_env.types import Decision, GameSpec, Outcome, State, Trace

AGENTS, DEPTH, ACTIONS, FEATURES = 4, 2, 3, 5
SPEC = GameSpec(
    tasks=AGENTS,
    depth=DEPTH,
    actions=ACTIONS,
    features=FEATURES,
    legal=torch.ones(DEPTH, ACTIONS, dtype=torch.bool),
    layers=((0, 1, 2),) * DEPTH,
    device=torch.device("cpu"),
)


class OwnHeads(nn.Module):
    """A user's network whose trunk is shared and whose heads are the agents' own."""

    def __init__(self, spec: GameSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = nn.Linear(spec.features, 4)
        self.heads = nn.Parameter(0.1 * torch.randn(spec.agents or spec.tasks, 4, outputs))

    def agent_parameters(self) -> Iterable[nn.Parameter]:
        """The heads."""
        return [self.heads]

    def forward(self, state: State) -> Tensor:
        """Each lane through the head of its agent."""
        heads = self.heads[acting_agent(state, self.spec)]
        return torch.einsum("bf,bfo->bo", self.trunk(state.v).tanh(), heads)


NETWORKS: list[Any] = ["mlps", "mlp", "table", OwnHeads]
ROUTERS = ["reinforce", "actor-critic", "wpl-approx", "q-learning-approx", "relax"]


def deal(task: Sequence[int], seed: int) -> Trace:
    """Random routes of some tasks, in which a lane has the same values whoever else is in the deal.

    Args:
        task: The task of each lane.
        seed: Seed of the values; the n-th lane of a task always has the same ones.
    """
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for lane, t in enumerate(task):
        generator = torch.Generator().manual_seed(1000 * seed + 10 * t + list(task[:lane]).count(t))
        v, rewards = torch.randn(DEPTH, FEATURES, generator=generator), torch.rand(DEPTH, generator=generator)
        rows.append((v, torch.randint(ACTIONS, (DEPTH,), generator=generator), rewards, v.sum()))
    v, action, rewards, final = (torch.stack(column) for column in zip(*rows, strict=True))
    tasks, nothing = torch.tensor(task), torch.zeros(len(task), dtype=torch.bool)
    legal = torch.ones(len(task), ACTIONS, dtype=torch.bool)
    states = tuple(State(v[:, i], tasks, i, legal) for i in range(DEPTH))
    decisions = tuple(Decision(action[:, i]) for i in range(DEPTH))
    return Trace(states, decisions, rewards, final, Outcome(tasks, v[:, 0], tasks, tasks, final, nothing, nothing))


def rows_of(router: GradientRouter, agent: int) -> list[Tensor]:
    """An agent's rows of all parameters."""
    return [parameter[agent].detach().clone() for parameter in router.networks.parameters() if len(parameter) == AGENTS]


def made(name: str, **options: Any) -> GradientRouter:
    router = make_router(name, SPEC, **options)
    assert isinstance(router, GradientRouter)
    return router


def policies(router: PolicyRouter, agent: int) -> Tensor:
    probe = deal([agent] * 3, seed=99)
    return torch.stack([router.probability(state).detach() for state in probe.states])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("network", ["mlps", "mlp", "table"])
@pytest.mark.parametrize("name", ROUTERS)
def test_an_agent_that_is_absent_stays_as_it_was_to_the_bit(name: str, network: str, optimizer: str) -> None:
    options: dict[str, Any] = {"epsilon": 0.1} if name == "q-learning-approx" else {}
    router = made(name, network=network, optimizer=optimizer, **options)
    for seed in range(5):
        router.learn(deal([0, 1, 1, 2, 3], seed))
    before, policy, others = rows_of(router, 1), policies(router, 1), rows_of(router, 0)
    for seed in range(20):
        router.learn(deal([0, 2, 3, 3], seed))
    assert all(map(torch.equal, before, rows_of(router, 1)))
    assert torch.equal(policy, policies(router, 1))
    assert not all(map(torch.equal, others, rows_of(router, 0)))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("network", ["mlps", "mlp", "table"])
@pytest.mark.parametrize("name", ["reinforce", "actor-critic", "wpl-approx", "q-learning-approx"])
def test_an_agent_in_company_moves_as_it_does_alone(name: str, network: str, optimizer: str) -> None:
    """Its lanes are the same in both; who else is in the deal, and for how often, differs from deal to deal."""
    mixed, alone = (made(name, network=network, optimizer=optimizer, learning_rate=0.01) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # gradients at the uniform policy are little more than rounding, which Adam would magnify
        for parameter, twin in zip(mixed.networks.parameters(), alone.networks.parameters(), strict=True):
            twin.copy_(parameter.normal_(std=0.5, generator=generator))
    start = rows_of(alone, 2)
    for seed, others in enumerate([[0], [1, 1, 3], [], [0, 0, 0, 1, 3, 3], [3]] * 3):
        if seed % 4 == 3:
            mixed.learn(deal([*others, 0], seed))  # a deal without the agent
        own = [2] * (1 + seed % 3)
        mixed.learn(deal([*others, *own], seed))
        alone.learn(deal(own, seed))
    assert not all(map(torch.equal, start, rows_of(alone, 2)))
    for together, separate in zip(rows_of(mixed, 2), rows_of(alone, 2), strict=True):
        torch.testing.assert_close(together, separate, rtol=1e-4, atol=1e-6)


def test_agents_picked_by_a_dispatcher_count_as_present() -> None:
    router = make_router("reinforce-approx", replace(SPEC, agents=AGENTS))
    assert isinstance(router, GradientRouter)
    before = [rows_of(router, agent) for agent in range(AGENTS)]
    trace = deal([0, 1, 2, 3], seed=0)
    picked = torch.tensor([3, 1, 3, 1])
    router.learn(replace(trace, states=tuple(replace(state, agent=picked) for state in trace.states)))
    moved = [not all(map(torch.equal, before[agent], rows_of(router, agent))) for agent in range(AGENTS)]
    assert moved == [False, True, False, True]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_parameters_without_an_axis_of_agents_follow_the_mean_over_all_lanes(optimizer: str) -> None:
    """The trunk steps as under the plain optimiser; the heads step by agent, and those of absent agents stay."""
    router = made("reinforce", network=OwnHeads, baseline=False, optimizer=optimizer, learning_rate=0.01)
    twin = made("reinforce", network=OwnHeads, baseline=False)
    plain = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)(twin.policy.trunk.parameters(), lr=0.01)  # pyright: ignore
    for seed, task in enumerate([[0, 1, 1], [0, 3], [3, 3, 3, 1]]):
        trace = deal(task, seed)
        plain.zero_grad()
        twin.loss(trace).mean().backward()
        plain.step()
        router.learn(trace)
        twin.policy.heads.data.copy_(router.policy.heads)  # pyright: ignore
        assert torch.equal(router.policy.trunk.weight, twin.policy.trunk.weight)  # pyright: ignore
    start = made("reinforce", network=OwnHeads, baseline=False).policy.heads  # pyright: ignore
    assert (router.policy.heads != start).flatten(1).any(1).tolist() == [True, True, False, True]  # pyright: ignore


def test_adam_by_hand() -> None:
    """Agent 0 takes two steps, agent 1 its first one in the second deal, and agent 2 none.

    With betas (0.9, 0.99), rate 0.1 and gradients 2, then -1: m = 0.2, then 0.08; s = 0.04, then 0.0496.
    """
    parameter = nn.Parameter(torch.tensor([[1.0], [1.0], [1.0]]))
    adam = AgentAdam([parameter], 3, parameter.device, betas=(0.9, 0.99))
    parameter.grad = torch.tensor([[2.0], [0.0], [0.0]])
    adam.step(torch.tensor([True, False, False]), 0.1)
    torch.testing.assert_close(parameter.detach()[:, 0], torch.tensor([0.9, 1.0, 1.0]))
    parameter.grad = torch.tensor([[-1.0], [-3.0], [0.0]])
    adam.step(torch.tensor([True, True, False]), 0.1)
    second = 0.9 - 0.1 * (0.08 / 0.19) / (0.0496 / 0.0199) ** 0.5
    torch.testing.assert_close(parameter.detach()[:, 0], torch.tensor([second, 1.1, 1.0]))
    assert adam.steps.tolist() == [2, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_an_agent_under_adam_is_torch_adam(seed: int) -> None:
    """Over 30 deals with random presence, each row is what torch's Adam makes of it alone."""
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.randn(3, 2, 4, generator=generator))
    rows = [nn.Parameter(row.detach().clone()) for row in parameter]
    adam, plain = AgentAdam([parameter], 3, parameter.device), [torch.optim.Adam([row], lr=0.02) for row in rows]
    for _ in range(30):
        present = torch.rand(3, generator=generator) < 0.5
        gradient = torch.randn(3, 2, 4, generator=generator) * 10
        parameter.grad = gradient * present[:, None, None]
        adam.step(present, 0.02)
        for agent, row in enumerate(rows):
            if present[agent]:
                row.grad = gradient[agent].clone()
                plain[agent].step()
    torch.testing.assert_close(parameter, torch.stack([row.detach() for row in rows]), rtol=1e-5, atol=1e-6)


class Misdeclared(OwnHeads):
    """Declares a parameter whose first axis is something else."""

    def agent_parameters(self) -> Iterable[nn.Parameter]:
        """The trunk's weight."""
        return [self.trunk.bias[:0].clone().requires_grad_()]  # pyright: ignore


def test_what_a_network_declares_must_have_an_axis_of_agents() -> None:
    with pytest.raises(ValueError, match=r"shape \[0\] for 4 agents; the first axis must be the agents"):
        made("reinforce", network=Misdeclared)


def resumed(make: Callable[[], GradientRouter], router: GradientRouter) -> GradientRouter:
    twin = make()
    twin.load_state_dict(router.state_dict())
    return twin


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("network", NETWORKS)
def test_resumption_keeps_the_steps_of_every_agent(network: Any, optimizer: str) -> None:
    def make() -> GradientRouter:
        return made("reinforce", network=network, optimizer=optimizer)

    router = make()
    for seed, task in enumerate([[0, 1, 1], [0, 3]]):
        router.learn(deal(task, seed))
    twin = resumed(make, router)
    for part in (router, twin):
        for seed, task in enumerate([[2, 1], [0, 3, 3]]):
            part.learn(deal(task, 10 + seed))
    assert all(map(torch.equal, router.networks.parameters(), twin.networks.parameters()))
