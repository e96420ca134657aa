"""One step of the blocks by hand, the schedule, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from routing_env.checkpoint import load_tree, save_tree
from routing_env.game.training import BlockTrainer, cross_entropy, squared_error


def test_losses_by_hand() -> None:
    torch.testing.assert_close(
        cross_entropy(torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([0, 1])),
        torch.tensor([math.log(2), math.log(4)]),
    )
    output, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 1.0]])
    torch.testing.assert_close(squared_error(output, target), torch.tensor([2.5, 0.5]))


def test_sgd_with_momentum_by_hand_touches_only_what_the_loss_reaches() -> None:
    used, unused = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(5.0))
    trainer = BlockTrainer([used, unused], learning_rate=0.1, momentum=0.5)
    trainer.step(used * torch.tensor([1.0, 3.0]))  # the mean's gradient is 2: 1 - 0.1 * 2
    assert used.item() == pytest.approx(0.8)
    trainer.step(used * torch.tensor([1.0, 3.0]))  # momentum 0.5 * 2 + 2 = 3: 0.8 - 0.1 * 3
    assert used.item() == pytest.approx(0.5)
    assert unused.item() == 5.0
    assert unused.grad is None


@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"momentum": 0.9}], ids=["adam", "momentum"])
def test_moments_from_a_file_belong_to_their_weights_in_any_memory_layout(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3, 2, 2), torch.randn(4, 4, 3, 2, 2)

    def trained(first: int, last: int, before: tuple[torch.Tensor, Any] | None = None) -> tuple[torch.Tensor, Any]:
        """The weights after some steps, and the trainer's state, as a file holds it."""
        values, state = (start, None) if before is None else before
        weight = nn.Parameter(values.clone().to(memory_format=torch.channels_last))
        trainer = BlockTrainer([weight], learning_rate=0.1, **settings)
        if state is not None:
            trainer.load_state_dict(state)
        for gradient in gradients[first:last]:
            trainer.step((weight * gradient).sum()[None])
        save_tree(tmp_path / "state", trainer.state_dict())
        return weight.detach(), load_tree(tmp_path / "state")

    torch.testing.assert_close(trained(2, 4, trained(0, 2))[0], trained(0, 4)[0], rtol=0, atol=0)


def test_plain_sgd_takes_the_steps_of_torchs_bit_for_bit() -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.empty(7, 5)), nn.Parameter(torch.empty(33))] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.data.normal_()
        other.data.copy_(one.data)
    trainer = BlockTrainer(ours, learning_rate=0.1)
    optimizer = torch.optim.SGD(theirs, lr=0.1)
    for step in range(5):
        used = 1 + step % 2  # now and then a parameter has no gradient
        losses = [torch.stack([one.exp().sum() for one in side[:used]]) for side in (ours, theirs)]
        trainer.step(losses[0])
        optimizer.zero_grad()
        losses[1].mean().backward()
        optimizer.step()
        assert all(map(torch.equal, ours, theirs))


def test_the_papers_schedule() -> None:
    """Divided by 10 every 20 epochs: after 20, 40 and 60, and not before."""
    trainer = BlockTrainer([nn.Parameter(torch.zeros(()))], learning_rate=1e-2)
    rates = [trainer.learning_rate]
    for _ in range(60):
        trainer.end_epoch()
        rates.append(trainer.learning_rate)
    assert rates == pytest.approx([1e-2] * 20 + [1e-3] * 20 + [1e-4] * 20 + [1e-5])


def test_a_schedule_that_never_decays() -> None:
    trainer = BlockTrainer([nn.Parameter(torch.zeros(()))], learning_rate=0.5, decay_every=0)
    for _ in range(100):
        trainer.end_epoch()
    assert trainer.learning_rate == 0.5


def test_the_schedule_continues_from_its_state() -> None:
    trainers = [BlockTrainer([nn.Parameter(torch.zeros(()))], learning_rate=1e-2) for _ in range(2)]
    for _ in range(19):
        trainers[0].end_epoch()
    trainers[1].load_state_dict(trainers[0].state_dict())
    trainers[1].end_epoch()
    assert trainers[1].learning_rate == pytest.approx(1e-3)


def test_an_optimiser_of_ones_own() -> None:
    parameter = nn.Parameter(torch.tensor(1.0))
    trainer = BlockTrainer([parameter], optimizer=lambda parameters: torch.optim.Adagrad(parameters, lr=0.25))
    trainer.step(parameter.expand(3))
    assert parameter.item() == pytest.approx(0.75)
    for _ in range(20):
        trainer.end_epoch()
    assert trainer.learning_rate == pytest.approx(0.025)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(bad: float) -> None:
    parameter = nn.Parameter(torch.tensor(2.0))
    trainer = BlockTrainer([parameter], learning_rate=0.1, momentum=0.9)
    with pytest.raises(FloatingPointError, match=r"training has diverged; lower learning_rate \(now 0.1\)"):
        trainer.step(parameter * torch.tensor([1.0, bad]))
    assert parameter.item() == 2.0
    assert not trainer.optimizer.state


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"momentum": -1.0}, "momentum is -1.0; it must be at least 0"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"decay_every": -1}, "decay_every is -1"),
        ({"decay_factor": 0.0}, "decay_factor 0.0"),
        ({"optimizer": "sdg"}, "optimizer is 'sdg'; it must be 'sgd', 'adam'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlockTrainer([nn.Parameter(torch.zeros(()))], **settings)
