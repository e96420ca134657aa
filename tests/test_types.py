"""Returns and averages worked out by hand."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from routing_env.evaluations import Evaluation
from routing_env.types import Decision, Outcome, State, Trace


def make_trace(rewards: Tensor, final_reward: Tensor) -> Trace:
    lanes, depth = rewards.shape
    task = torch.arange(lanes)
    states = tuple(State(torch.zeros(lanes, 1), task, i, torch.ones(lanes, 2, dtype=torch.bool)) for i in range(depth))
    decisions = tuple(Decision(torch.full((lanes,), i)) for i in range(depth))
    nothing = torch.zeros(lanes)
    outcome = Outcome(task, nothing[:, None], task, task, nothing, nothing > 0, nothing > 0)
    return Trace(states, decisions, rewards, final_reward, outcome)


def test_returns_discount_action_rewards_and_not_the_final_reward() -> None:
    """R_i = r_final + sum over j >= i of gamma^(j-i) r_j, with gamma = 1/2.

    Lane 0: R_2 = -1 + 4 = 3; R_1 = -1 + 2 + 4/2 = 3; R_0 = -1 + 1 + 2/2 + 4/4 = 2.
    """
    trace = make_trace(torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 8.0]]), torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(trace.returns(0.5), torch.tensor([[2.0, 3.0, 3.0], [3.0, 5.0, 9.0]]))
    torch.testing.assert_close(trace.returns(), torch.tensor([[6.0, 5.0, 3.0], [9.0, 9.0, 9.0]]))
    torch.testing.assert_close(trace.returns(0.0), torch.tensor([[0.0, 1.0, 3.0], [1.0, 1.0, 9.0]]))


def test_a_trace_gathers_its_columns() -> None:
    trace = make_trace(torch.zeros(2, 3), torch.tensor([-1.0, 1.0]))
    assert trace.actions.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert trace.task.tolist() == [0, 1]
    assert trace.final_reward.tolist() == [-1.0, 1.0]


def test_overall_figures_weigh_samples_and_balanced_accuracy_weighs_tasks() -> None:
    evaluation = Evaluation(
        split="test",
        task_names=("cats", "dogs"),
        samples=torch.tensor([30, 10]),
        accuracy=torch.tensor([0.5, 0.9], dtype=torch.float64),
        balanced_accuracy=torch.tensor([0.4, 0.8], dtype=torch.float64),
        majority=torch.tensor([0.5, 0.5], dtype=torch.float64),
        loss=torch.tensor([1.0, 2.0], dtype=torch.float64),
        routes=torch.zeros(2, 1, 1, dtype=torch.int64),
    )
    assert evaluation.overall_accuracy == pytest.approx(0.6)
    assert evaluation.overall_balanced_accuracy == pytest.approx(0.6)
    assert evaluation.overall_loss == pytest.approx(1.25)
    assert repr(evaluation) == (
        "Evaluation(test: 2 tasks, 40 samples, accuracy 60.00%, balanced 60.00%, loss 1.2500, worst task 'cats' 50.00%)"
    )
    plain = json.loads(json.dumps(evaluation.to_dict()))
    assert plain["accuracy"] == pytest.approx(0.6)
    assert plain["tasks"][1] == {
        "task": "dogs",
        "samples": 10,
        "accuracy": 0.9,
        "balanced_accuracy": 0.8,
        "majority": 0.5,
        "loss": 2.0,
        "routes": [[0]],
    }
