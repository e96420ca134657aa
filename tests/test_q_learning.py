"""Targets and updates by hand, and the best way through a game of coordination."""

from __future__ import annotations

import pytest
import torch
from worlds import Blueprint

from routing_env.agents.actor_critic import generalized_advantage
from routing_env.agents.base import move_taken
from routing_env.agents.q_learning import QLearning, td_target
from routing_env.agents.sarsa import sarsa_target
from routing_env.types import Decision, Outcome, State, Trace

SPEC = Blueprint((2, 2, 2), (3, 3), depth=2).network().spec(tasks=2, device=torch.device("cpu"))


def make_trace(task: list[int], actions: list[list[int]], rewards: list[list[float]], final: list[float]) -> Trace:
    lanes, tasks, nothing = len(task), torch.tensor(task), torch.zeros(len(task))
    states = tuple(State(torch.zeros(lanes, 2), tasks, i, SPEC.legal[i].expand(lanes, -1)) for i in range(2))
    decisions = tuple(Decision(torch.tensor(actions)[:, i]) for i in range(2))
    outcome = Outcome(tasks, nothing[:, None], tasks, tasks, nothing, nothing > 0, nothing > 0)
    return Trace(states, decisions, torch.tensor(rewards), torch.tensor(final), outcome)


def test_the_target_by_hand() -> None:
    """The reward of an action and what its successor is worth; the last action's reward counts beside r_final."""
    value = torch.tensor([[[9.0, 9.0, 9.0], [1.0, 3.0, 8.0], [-5.0, -4.0, -6.0]]])
    legal = torch.tensor([[[True, True, True], [True, True, False], [True, False, True]]])
    target = td_target(value, torch.tensor([[0.1, 0.2, 0.4]]), torch.tensor([2.0]), legal, gamma=0.5)
    # 0.1 + max(1, 3) / 2, where 8 is illegal; 0.2 + max(-5, -6) / 2, where -4 is; to both the half of r_final that has
    # been discounted with what follows, but must not be; 0.4 + 2.
    torch.testing.assert_close(target, torch.tensor([[2.6, -1.3, 2.4]]))


def test_the_update_by_hand() -> None:
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    updated = move_taken(value, torch.tensor([1, 0]), torch.tensor([4.0, -1.0]), 0.25)
    torch.testing.assert_close(updated, torch.tensor([[1.0, 2.5], [2.0, 4.0]]))


def test_two_samples_of_one_task_are_learned_one_after_the_other() -> None:
    router = QLearning(SPEC, step=0.5, gamma=0.5)
    router.learn(make_trace([1, 1], [[0, 2], [0, 1]], [[1.0, 0.5], [0.0, 0.0]], [1.0, -1.0]))
    # First: Q_0(0) = (1 + 0 + 0.5 * 1) / 2 = 0.75 and Q_1(2) = (0.5 + 1) / 2 = 0.75.
    # Then: Q_0(0) = 0.75 + (0 + 0.5 * 0.75 + 0.5 * -1 - 0.75) / 2 = 0.3125 and Q_1(1) = -0.5.
    torch.testing.assert_close(router.value[1], torch.tensor([[0.3125, 0, 0], [0, -0.5, 0.75]]))
    assert not router.value[0].any(), "the other task's agent has learned nothing"


def test_values_of_exact_returns_are_their_own_targets() -> None:
    """The paper's R_i, in which gamma discounts the action rewards and not r_final, is what all of them estimate."""
    trace = make_trace([0], [[0, 2]], [[0.5, 0.25]], [3.0])
    returns = trace.returns(0.5)
    value = torch.full((1, 2, 3), -9.0).scatter(2, trace.actions.unsqueeze(-1), returns.unsqueeze(-1))
    given = trace.action_rewards, trace.final_reward
    legal = torch.ones(1, 2, 3, dtype=torch.bool)
    torch.testing.assert_close(td_target(value, *given, legal, 0.5), returns)
    torch.testing.assert_close(sarsa_target(value, trace.actions, *given, 0.5), returns)
    torch.testing.assert_close(generalized_advantage(returns, *given, 0.5, 0.7), torch.zeros(1, 2))


def test_epsilon_falls_with_the_samples_and_spares_illegal_actions() -> None:
    router = QLearning(SPEC, epsilon=(1.0, 0.2, 4))
    router.value[:, 0] = torch.tensor([0.0, 1.0, 5.0])
    legal = torch.tensor([[True, True, False], [True, True, True]])
    state = State(torch.zeros(2, 2), torch.tensor([0, 1]), 0, legal)
    torch.testing.assert_close(router.probability(state), torch.tensor([[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]))
    router.learn(make_trace([0, 1], [[0, 0], [0, 0]], [[0.0, 0.0]] * 2, [0.0, 0.0]))
    torch.testing.assert_close(router.probability(state), torch.tensor([[0.3, 0.7, 0], [0.2, 0.2, 0.6]]))
    router.learn(make_trace([0, 1, 0], [[0, 0]] * 3, [[0.0, 0.0]] * 3, [0.0] * 3))
    torch.testing.assert_close(router.probability(state)[0], torch.tensor([0.1, 0.9, 0]))
    assert router.act(state, greedy=True).action.tolist() == [1, 2]


@pytest.mark.parametrize("best", [(0, 0), (1, 2), (2, 1)])
def test_it_finds_the_actions_that_pay(best: tuple[int, int]) -> None:
    """The first decision pays at once, the second by +1 or -1 at the end; the other task wants the mirror image."""
    router = QLearning(SPEC, seed=0, step=0.1, epsilon=(1.0, 0.1, 1500))
    wanted = torch.tensor([best, best[::-1]])
    task = torch.tensor([0, 1] * 5)
    for _ in range(200):
        states = [State(torch.zeros(10, 2), task, i, SPEC.legal[i].expand(10, -1)) for i in range(2)]
        actions = torch.stack([router.act(state).action for state in states], dim=1)
        right = actions == wanted[task]
        rewards = [[0.3 * float(first), 0.0] for first in right[:, 0]]
        router.learn(make_trace(task.tolist(), actions.tolist(), rewards, torch.where(right[:, 1], 1.0, -1.0).tolist()))
    assert torch.equal(router.value.argmax(-1), wanted)
    torch.testing.assert_close(router.value.max(-1).values, torch.tensor([[1.3, 1.0]] * 2), rtol=0, atol=0.05)
