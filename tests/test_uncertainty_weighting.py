"""Uncertainty weighting against its formulas."""

from __future__ import annotations

from math import log
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from routing_env.baselines import Plan
from routing_env.baselines.task_specific_1_fc import TaskSpecific1FC
from routing_env.baselines.uncertainty_weighting import UncertaintyWeighting
from routing_env.game.evaluation import Score
from routing_env.types import Batch

PLAN = Plan(nn.Flatten(), (5, 6, 2), 3, 2, hidden=6, parameters=100)


def score(output: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return output, (output - batch.target.view(len(batch), -1)).square().mean(1), batch.task == 0


def a_batch(*tasks: int, regression: bool) -> Batch:
    generator = torch.Generator().manual_seed(2)
    x, target = (torch.randn(len(tasks), width, generator=generator) for width in (5, 2))
    return Batch(x, torch.tensor(tasks), target if regression else target[:, 0].sign().long())


def gradients(network: TaskSpecific1FC, batch: Batch) -> dict[str, Tensor | None]:
    loss, _ = network.training_loss(batch, cast(Score, score))
    network.backward(loss, batch.task)
    return {key: parameter.grad for key, parameter in network.named_parameters()}


def network_with(*log_variances: float) -> UncertaintyWeighting:
    torch.manual_seed(0)
    network = UncertaintyWeighting(PLAN)
    with torch.no_grad():
        for block, value in zip(network.log_variances.parameters(), log_variances, strict=True):
            block.fill_(value)
    return network


@pytest.mark.parametrize(("regression", "factor"), [(True, 0.5), (False, 1.0)])
def test_gradients_are_those_of_the_formula(regression: bool, factor: float) -> None:
    network, batch = network_with(0.5, -1.0, 2.0), a_batch(0, 1, 1, 0, 1, regression=regression)
    found = gradients(network, batch)
    plain = TaskSpecific1FC(PLAN)
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if "log_variances" not in key})
    _, loss, _ = score(plain(batch.x, batch.task), batch)
    s = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    (factor * loss / s[batch.task].exp() + s[batch.task] / 2).mean().backward()
    for key, parameter in plain.named_parameters():
        torch.testing.assert_close(found[key], parameter.grad)
    assert s.grad is not None
    for task in (0, 1):
        torch.testing.assert_close(found[f"log_variances.blocks.{task}.value"], s.grad[task])
    assert found["log_variances.blocks.2.value"] is None, "a task without lanes"


def test_the_first_step_of_classification_is_that_of_the_mean_loss() -> None:
    network, batch = network_with(0, 0, 0), a_batch(0, 1, 2, 2, regression=False)
    found = gradients(network, batch)
    torch.manual_seed(0)
    for key, gradient in gradients(TaskSpecific1FC(PLAN), batch).items():
        torch.testing.assert_close(found[key], gradient)


def test_the_log_variance_rests_at_the_loss() -> None:
    """The derivative of L / exp(s) + s / 2 is zero where exp(s) = 2 L."""
    network, batch = network_with(0, 0, 0), a_batch(1, 1, 1, regression=False)
    loss, _ = network.training_loss(batch, cast(Score, score))
    network = network_with(0, log(2 * loss.mean().item()), 0)
    gradient = gradients(network, batch)["log_variances.blocks.1.value"]
    assert gradient is not None
    assert gradient.abs() < 1e-6
