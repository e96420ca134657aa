"""Every update rule by hand, and what the steps of the routers come to in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from routing_env.agents import make_router
from routing_env.agents.actor_critic import ActorCritic, AdvantageActorCritic, generalized_advantage
from routing_env.agents.advantage_learning import advantage_target
from routing_env.agents.exp3 import EXP3, exp3_policy, exp3_update
from routing_env.agents.giga_wolf import giga_wolf_update
from routing_env.agents.gumbel import GumbelSoftmax, straight_through
from routing_env.agents.hysteretic_q import hysteretic_update
from routing_env.agents.pga_app import pga_app_update
from routing_env.agents.policies import draw_action, draw_from_many
from routing_env.agents.q_learning import QLearning, QLearningApprox
from routing_env.agents.reinforce import Reinforce
from routing_env.agents.sarsa import Sarsa, SarsaApprox, sarsa_target
from routing_env.agents.wolf_phc import WoLFPHC, wolf_phc_update
from routing_env.agents.wpl_approx import wpl_loss
from routing_env.types import Decision, GameSpec, Outcome, State, Trace

ALL = torch.ones(3, dtype=torch.bool)
SPEC = GameSpec(
    tasks=2,
    depth=2,
    actions=3,
    features=2,
    legal=torch.ones(2, 3, dtype=torch.bool),
    layers=((0, 1, 2), (0, 1, 2)),
    device=torch.device("cpu"),
)
THIRD = torch.tensor([2.0, -1, -1]) / 3
"""One-hot of the first of three actions less the uniform policy."""


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def make_trace(task: list[int], actions: list[list[int]], rewards: list[list[float]], final: list[float]) -> Trace:
    lanes, tasks, nothing = len(task), torch.tensor(task), torch.zeros(len(task))
    states = tuple(State(torch.zeros(lanes, 2), tasks, i, SPEC.legal[i].expand(lanes, -1)) for i in range(2))
    decisions = tuple(Decision(torch.tensor(actions)[:, i], torch.full((lanes, 3), 1 / 3)) for i in range(2))
    outcome = Outcome(tasks, nothing[:, None], tasks, tasks, nothing, nothing > 0, nothing > 0)
    return Trace(states, decisions, torch.tensor(rewards), torch.tensor(final), outcome)


ROUTE = make_trace([1], [[0, 2]], [[0.5, 0.0]], [1.0])
"""Task 1 takes 0, which earns 0.5, then 2, and ends with 1: the returns are 1.5 and 1."""


def table(module: torch.nn.Module, agent: int = 1) -> Tensor:
    return next(module.parameters())[agent].detach()


def test_sarsa() -> None:
    """Its own next action's value, its reward, its discount, which spares r_final."""
    value = torch.tensor([[[9.0, 1.0], [2.0, 3.0], [4.0, -5.0]]])
    target = sarsa_target(value, torch.tensor([[0, 1, 1]]), row(0.1, 0.2, 0.4)[None], row(2.0), gamma=0.5)
    torch.testing.assert_close(target, torch.tensor([[0.1 + 1.5 + 1.0, 0.2 - 2.5 + 1.0, 0.4 + 2.0]]))
    router = Sarsa(SPEC, step=0.5, gamma=0.5)
    router.value[1, 1] = row(8, 0, 2)
    router.learn(ROUTE)
    # (0.5 + 0.5 * 2 + 0.5 * 1) / 2, not 0.5 * 8: the action taken next was 2. Then 2 + (1 - 2) / 2.
    torch.testing.assert_close(router.value[1], torch.tensor([[1.0, 0, 0], [8, 0, 1.5]]))


def test_advantage_learning() -> None:
    value, rewards, legal = torch.tensor([[[1.0, 3], [2, 0]]]), torch.tensor([[0.5, 0.25]]), torch.ones(1, 2, 2).bool()
    # V = (3, 2); Q-learning's targets are 0.5 + 2 / 2 + 1 / 2 and 0.25 + 1. 3 + (2 - 3) / 0.5; 2 + (1.25 - 2) / 0.5.
    target = advantage_target(value, rewards, row(1.0), legal, 0.5, 0.5)
    torch.testing.assert_close(target, torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(advantage_target(value, rewards, row(1.0), legal, 0.5, 1.0), torch.tensor([[2.0, 1.25]]))


def test_hysteretic_q() -> None:
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    updated = hysteretic_update(value, torch.tensor([1, 0]), row(4, -1), 0.5, 0.25)
    torch.testing.assert_close(updated, torch.tensor([[1.0, 3.0], [2.0, 4.0]]))


@pytest.mark.parametrize(("table_router", "network_router"), [(QLearning, QLearningApprox), (Sarsa, SarsaApprox)])
def test_approximated_values_step_as_tables_do(
    table_router: type[QLearning], network_router: type[QLearningApprox | SarsaApprox]
) -> None:
    """Squared TD error of a table, by SGD: the same numbers. Each agent has one lane, whose loss is its mean."""
    trace = make_trace([1, 0], [[0, 2], [1, 1]], [[0.5, 0.1], [0.2, 0.3]], [1.0, -1.0])
    tabular = table_router(SPEC, step=0.25, gamma=0.5)
    approximate = network_router(SPEC, network="table", optimizer="sgd", learning_rate=0.25, gamma=0.5)
    for _ in range(3):
        tabular.learn(trace)
        approximate.learn(trace)
    torch.testing.assert_close(tabular.value, next(approximate.value.parameters()).detach())


def test_reinforce() -> None:
    router = Reinforce(SPEC, baseline=False, optimizer="sgd", learning_rate=1.0)
    router.learn(ROUTE)
    torch.testing.assert_close(table(router.policy), torch.stack([1.5 * THIRD, THIRD.roll(2)]))
    discounted = Reinforce(SPEC, baseline=False, optimizer="sgd", learning_rate=1.0, gamma=0.5)
    discounted.learn(make_trace([1], [[0, 2]], [[0.5, 0.5]], [1.0]))
    torch.testing.assert_close(table(discounted.policy), torch.stack([1.75 * THIRD, 1.5 * THIRD.roll(2)]))


def test_reinforce_with_baseline() -> None:
    """The baseline goes to the returns in one step; then there is nothing left to learn from the same route."""
    router = Reinforce(SPEC, optimizer="sgd", learning_rate=1.0)
    router.learn(ROUTE)
    torch.testing.assert_close(table(router.networks["baseline"])[:, 0], row(1.5, 1.0))
    policy = table(router.policy).clone()
    torch.testing.assert_close(policy, torch.stack([1.5 * THIRD, THIRD.roll(2)]))
    router.learn(ROUTE)
    torch.testing.assert_close(table(router.policy), policy)


def test_entropy_pulls_towards_uniform() -> None:
    router = Reinforce(SPEC, baseline=False, entropy=1.0, optimizer="sgd", learning_rate=1.0)
    with torch.no_grad():
        next(router.policy.parameters())[1, 0] = row(log(2.0), 0, -torch.inf)
    before = router.policy(ROUTE.states[0])
    router.learn(make_trace([1], [[0, 2]], [[0.0, 0.0]], [0.0]))
    # d entropy / d logit(a) = -pi(a) (log pi(a) + entropy), pi = (2/3, 1/3, 0).
    h = -(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3))
    change = row(-2 / 3 * (log(2 / 3) + h), -1 / 3 * (log(1 / 3) + h))
    torch.testing.assert_close(router.policy(ROUTE.states[0])[0, :2], before[0, :2] + change)


def test_epsilon_greedy_policy_gradient() -> None:
    router = Reinforce(SPEC, epsilon=0.3)
    with torch.no_grad():
        next(router.policy.parameters())[1, 0] = row(0, 2, 1)
    torch.testing.assert_close(router.probability(ROUTE.states[0]), row(0.1, 0.8, 0.1)[None])


def test_actor_critic() -> None:
    """Q is 0 at first and moves nothing; then the actor follows it while it moves on."""
    router = ActorCritic(SPEC, optimizer="sgd", learning_rate=0.5)
    router.learn(ROUTE)
    assert not table(router.policy).any()
    torch.testing.assert_close(table(router.critic), torch.tensor([[0.25, 0, 0], [0, 0, 0.5]]))
    router.learn(ROUTE)
    torch.testing.assert_close(table(router.policy), torch.stack([0.125 * THIRD, 0.25 * THIRD.roll(2)]))
    # Targets 0.5 + Q_1(2) = 1 and 1.
    torch.testing.assert_close(table(router.critic), torch.tensor([[0.625, 0, 0], [0, 0, 0.75]]))


def test_generalized_advantage() -> None:
    value, rewards, final = row(1, 2, 3)[None], row(0.5, 0, 1)[None], row(2.0)
    # delta = (0.5 + 1 + 1 - 1, 1.5 + 1 - 2, 1 + 2 - 3); A = (1.5 + 0.25 * 0.5, 0.5, 0).
    torch.testing.assert_close(generalized_advantage(value, rewards, final, 0.5, 0.5), row(1.625, 0.5, 0)[None])
    torch.testing.assert_close(generalized_advantage(value, rewards, final, 1.0, 1.0), row(2.5, 1, 0)[None])


def test_advantage_actor_critic() -> None:
    router = AdvantageActorCritic(SPEC, optimizer="sgd", learning_rate=0.5)
    router.learn(ROUTE)
    # TD errors 0.5 and 1, both for the actor and for the critic.
    torch.testing.assert_close(table(router.policy), torch.stack([0.25 * THIRD, 0.5 * THIRD.roll(2)]))
    torch.testing.assert_close(table(router.critic)[:, 0], row(0.25, 0.5))


def test_wpl_approx() -> None:
    """By the logits the gradient is pi - pi', with pi' where the tabular rule goes from the same policy."""
    logits = row(0.5, 0.25, 0.25).log().requires_grad_()
    log_policy = logits.log_softmax(-1)
    # Q - mean = (1/2, -1/2, -1/2), weighed (1/4, -1/8, -1/8): pi' = (0.625, 0.1875, 0.1875).
    wpl_loss(log_policy, row(1, 0, 0), ALL, 0.5, 0.0).backward()
    torch.testing.assert_close(logits.grad, row(-0.125, 0.0625, 0.0625))
    still = torch.zeros(3, requires_grad=True)
    wpl_loss(still.log_softmax(-1), row(2, 2, 2), ALL, 0.5, 0.0).backward()
    torch.testing.assert_close(still.grad, torch.zeros(3))


def test_wolf_phc() -> None:
    policy, average, visits = row(0.5, 0.25, 0.25), row(0.3, 0.4, 0.3), row(2.0)
    # The average moves halfway, to (0.4, 0.325, 0.275). It is worth 0.4 and the policy 0.5: winning.
    moved, new_average = wolf_phc_update(policy, average, visits, row(1, 0, 0), ALL, 0.1, 0.4)
    torch.testing.assert_close(new_average, row(0.4, 0.325, 0.275))
    torch.testing.assert_close(moved, row(0.6, 0.2, 0.2))
    # 0.25 against 0.325: losing; the others give up 0.2 each.
    moved, _ = wolf_phc_update(policy, average, visits, row(0, 1, 0), ALL, 0.1, 0.4)
    torch.testing.assert_close(moved, row(0.3, 0.65, 0.05))
    # Nobody gives more than there is.
    moved, _ = wolf_phc_update(policy, average, visits, row(0, 1, 0), ALL, 0.1, 0.8)
    torch.testing.assert_close(moved, row(0.1, 0.9, 0.0))


def test_wolf_phc_learns_values_by_q_learning() -> None:
    router = WoLFPHC(SPEC, value_step=0.5, step=0.1, losing=4.0, gamma=0.5)
    router.value[1, 1] = row(8, 0, 2)
    router.learn(ROUTE)
    torch.testing.assert_close(router.value[1], torch.tensor([[2.5, 0, 0], [8, 0, 1.5]]))
    # Policy and average are both uniform, so neither wins: 0.4 / 2 from each other action.
    expected = row(1 / 3 + 0.4, 1 / 3 - 0.2, 1 / 3 - 0.2).expand(2, -1)
    torch.testing.assert_close(router.policy[1], expected)
    assert router.visits.flatten().tolist() == [0, 1]


def test_wolf_phc_goes_on_exploring() -> None:
    router = WoLFPHC(SPEC, exploration=(0.3, 0.0, 4))
    router.policy[1, 0] = row(1, 0, 0)
    state = ROUTE.states[0]
    torch.testing.assert_close(router.probability(state), row(0.8, 0.1, 0.1)[None])
    router.samples = 4
    torch.testing.assert_close(router.probability(state), row(1, 0, 0)[None])


@pytest.mark.parametrize("name", ["reinforce", "reinforce-approx", "actor-critic", "advantage-actor-critic", "relax"])
def test_a_learning_rate_of_zero_learns_nothing(name: str) -> None:
    router = make_router(name, SPEC, learning_rate=0.0)
    before = router.state_dict()["networks"]
    router.learn(ROUTE)
    assert all(value.equal(before[key]) for key, value in router.state_dict()["networks"].items())


@pytest.mark.parametrize(
    ("name", "options"), [("wolf-phc", {}), ("pga-app", {}), ("giga-wolf", {}), ("wpl", {"rule": "full-vector"})]
)
def test_what_one_shape_of_v_is_taught_leaves_the_other_alone(name: str, options: dict[str, Any]) -> None:
    """Rewards are negative: against the values 0 of actions that are never legal here, all that is legal loses."""
    spec = replace(SPEC, tasks=1, depth=1, actions=4, legal=torch.ones(1, 4, dtype=torch.bool), layers=((0, 1, 2, 3),))
    router = make_router(name, spec, **options)
    legal = torch.tensor([[True, True, False, False]])
    state = State(torch.zeros(1, 2), torch.tensor([0]), 0, legal)
    nothing = torch.zeros(1)
    for _ in range(1500):
        decision = router.act(state)
        final = torch.where(decision.action == 0, -0.2, -1.0)
        outcome = Outcome(state.task, nothing[:, None], state.task, state.task, nothing, nothing > 0, nothing > 0)
        router.learn(Trace((state,), (decision,), nothing[:, None], final, outcome))
    probability = router.act(state).probability
    assert probability is not None
    assert probability[0, 0] > 0.9
    other = router.act(replace(state, legal=~legal)).probability
    torch.testing.assert_close(other, row(0, 0, 0.5, 0.5)[None])


def test_greedy_choices_take_the_networks_in_evaluation_mode() -> None:
    def with_dropout(spec: GameSpec, outputs: int) -> torch.nn.Module:
        class Network(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.Sequential(
                    torch.nn.Linear(spec.features, 32),
                    torch.nn.BatchNorm1d(32),
                    torch.nn.Dropout(0.9),
                    torch.nn.Linear(32, outputs),
                )

            def forward(self, state: State) -> Tensor:
                return self.layers(state.v)

        return Network()

    router = make_router("reinforce", SPEC, network=with_dropout)
    state = State(torch.randn(64, 2), torch.zeros(64, dtype=torch.int64), 0, SPEC.legal[:1].expand(64, -1))
    before = router.state_dict()["networks"]
    choices = [router.act(state, greedy=True).action for _ in range(5)]
    assert all(choice.equal(choices[0]) for choice in choices)
    assert all(value.equal(before[key]) for key, value in router.state_dict()["networks"].items())
    router.act(state)
    after = router.state_dict()["networks"]
    assert not all(value.equal(before[key]) for key, value in after.items()), "exploring counts batches"


def test_giga_wolf() -> None:
    # x^ = P(0.8, 0.5), z' = P(0.6, 0.5), |z' - z| = 0.05 sqrt 2, |z' - x^| twice that.
    policy, slow = giga_wolf_update(row(0.5, 0.5), row(0.5, 0.5), row(1, 0), ALL[:2], 0.3)
    torch.testing.assert_close(slow, row(0.55, 0.45))
    torch.testing.assert_close(policy, row(0.6, 0.4))
    # Where the policies meet there is no direction to take.
    policy, slow = giga_wolf_update(row(0.5, 0.5), row(0.5, 0.5), row(1, 1), ALL[:2], 0.3)
    torch.testing.assert_close(policy, row(0.5, 0.5))


def test_pga_app() -> None:
    # V = 0.5; d = (0.5 / 0.5, -0.5 / 0.75, -0.5 / 0.75), less 0.5 |d| pi: (0.75, -0.75, -0.75).
    moved = pga_app_update(row(0.5, 0.25, 0.25), row(1, 0, 0), ALL, 0.1, 0.5)
    torch.testing.assert_close(moved, row(0.6, 0.2, 0.2))
    # A pure policy has no 1 - pi to divide by.
    torch.testing.assert_close(pga_app_update(row(1, 0, 0), row(1, 0, 0), ALL, 0.1, 0.5), row(1, 0, 0))


def test_exp3() -> None:
    weights = exp3_update(row(0, 0), torch.tensor(0), row(1.0)[0], row(0.5)[0], torch.tensor(2), 0.5)
    torch.testing.assert_close(weights, row(0.5, 0))
    share = 0.5 / (1 + exp(-0.5)) + 0.25
    torch.testing.assert_close(exp3_policy(weights, ALL[:2], 0.5), row(share, 1 - share))
    router = EXP3(SPEC, exploration=0.3, reward_range=(-1.0, 2.0))
    router.learn(ROUTE)
    # Returns 1.5 and 1 are 5/6 and 2/3 of the range, drawn with 1/3: 0.1 * 3 times that.
    torch.testing.assert_close(router.log_weight[1], torch.tensor([[0.25, 0, 0], [0, 0, 0.2]]))


def test_exp3_rescales_by_what_it_has_seen() -> None:
    router = EXP3(SPEC, exploration=0.3)
    router.learn(make_trace([0, 1], [[0, 0], [0, 0]], [[0.0, 0.0]] * 2, [-4.0, 4.0]))
    torch.testing.assert_close(router.log_weight[:, 0, 0], row(0.0, 0.3))


def test_gumbel_softmax() -> None:
    logits = row(0.2, 0.5, 0.3).log()[None].requires_grad_()
    noise = row(2, 0, 0)[None]
    gate = straight_through(logits, noise, (logits + noise).argmax(-1), temperature=0.5)
    assert (logits + noise).argmax(-1).tolist() == [0]
    assert gate.tolist() == [1.0]
    gate.sum().backward()
    # y = softmax(2 (log pi + noise)); d y(0) = y(0) (one-hot - y) / 0.5.
    weights = row(0.04 * exp(4.0), 0.25, 0.09)
    y = weights / weights.sum()
    torch.testing.assert_close(logits.grad, (2 * y[0] * (row(1, 0, 0) - y))[None])


@pytest.mark.parametrize("draw", [draw_action, draw_from_many])
def test_actions_are_drawn_by_their_probability(draw: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    lanes, generator = 20_000, torch.Generator().manual_seed(0)
    policy = torch.tensor([[0.0, 0.3, 0.0, 0.6, 0.1, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
    drawn = draw(policy.repeat(lanes, 1), generator).view(lanes, 2)
    share = torch.stack([torch.bincount(column, minlength=6) for column in drawn.unbind(1)]) / lanes
    torch.testing.assert_close(share, policy, atol=0.015, rtol=0)
    assert not share[policy == 0].any()
    generator.manual_seed(0)
    assert draw(policy.repeat(lanes, 1), generator).view(lanes, 2).equal(drawn)


def test_gumbel_softmax_draws_from_the_policy() -> None:
    router = GumbelSoftmax(SPEC, seed=0)
    with torch.no_grad():
        router.networks["policy"].get_parameter("mlps.0.bias2")[1] = row(0.5, 0.3, 0.2).log()
    lanes = 20_000
    state = State(torch.zeros(lanes, 2), torch.ones(lanes, dtype=torch.int64), 0, ALL.expand(lanes, -1))
    decision = router.act(state)
    drawn = torch.bincount(decision.action) / lanes
    torch.testing.assert_close(drawn, row(0.5, 0.3, 0.2), atol=0.015, rtol=0)


def test_the_rate_of_the_router_follows_its_own_schedule() -> None:
    router = Reinforce(SPEC, baseline=False, optimizer="sgd", learning_rate=(1.0, 0.0, 1))
    router.learn(ROUTE)
    first = table(router.policy).clone()
    router.learn(ROUTE)
    torch.testing.assert_close(table(router.policy), first)


@pytest.mark.parametrize(
    ("name", "rate", "at_start", "options"),
    [
        ("relax", "temperature", 2.0, {}),
        ("wpl-approx", "step", 2.0, {"network": "table"}),
    ],
)
def test_temperature_and_step_of_networks_follow_their_schedule(
    name: str, rate: str, at_start: float, options: dict[str, Any]
) -> None:
    """As the first number goes until the schedule begins, and as the second when it has ended."""
    rates: list[Any] = [(at_start, 0.3, len(ROUTE.task)), at_start, 0.3]
    scheduled, start, end = (make_router(name, SPEC, **options | {rate: value}) for value in rates)

    def parameters(router: Any) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in router.networks.parameters()]

    scheduled.learn(ROUTE)
    start.learn(ROUTE)
    assert all(map(torch.equal, parameters(scheduled), parameters(start)))
    end.load_state_dict(start.state_dict())
    scheduled.learn(ROUTE)
    start.learn(ROUTE)
    end.learn(ROUTE)
    assert all(map(torch.equal, parameters(scheduled), parameters(end)))
    assert not all(map(torch.equal, parameters(scheduled), parameters(start)))


def test_divergence_is_reported_before_it_spreads() -> None:
    router = Reinforce(SPEC)
    before = router.state_dict()
    with pytest.raises(FloatingPointError, match="lower its learning_rate"):
        router.learn(make_trace([1], [[0, 2]], [[0.0, 0.0]], [float("nan")]))
    assert torch.equal(before["networks"]["policy.table"], router.state_dict()["networks"]["policy.table"])
