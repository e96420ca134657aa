"""The figures of a split, compared with a plain loop and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional as F
from worlds import Blueprint, layered, little_data, little_game, play, snapshot

from routing_env.types import Decision, State

BLUEPRINT = Blueprint((3, 4, 4), (2, 3), depth=3, recursive=True, pass_action=True)
ROUTES = torch.tensor([[0, 5, 2], [5, 1, 3], [1, 5, 4]])
CLASSES = (2, 3, 4)


def own_route(state: State) -> Tensor:
    """Every task goes one way."""
    return ROUTES[state.task, state.depth]


@pytest.mark.parametrize("batch_size", [1, 5, 1024])
def test_evaluate_equals_a_plain_loop(batch_size: int) -> None:
    network = BLUEPRINT.network(stem=nn.BatchNorm1d(3))
    game = little_game(network, little_data(3, CLASSES, per_task=40))
    play(game, BLUEPRINT.routes)  # so that batch norm has statistics
    evaluation = game.evaluate(own_route, "test", batch_size=batch_size)

    network.eval()
    predictions: list[int] = []
    losses: list[float] = []
    batch = game.data.gather(game.data.test)
    for x, task, target in zip(batch.x, batch.task, batch.target, strict=True):
        output = BLUEPRINT.output(network, network.stem(x[None]), [ROUTES[task].tolist()])[:, : CLASSES[task]]
        predictions.append(int(output.argmax()))
        losses.append(float(F.cross_entropy(output, target[None]).detach()))
    predicted, loss, targets = np.array(predictions), np.array(losses), batch.target.numpy()

    assert evaluation.split == "test"
    for task in range(3):
        own = batch.task.numpy() == task
        truth = targets[own]
        assert evaluation.samples[task] == own.sum() == 20
        assert float(evaluation.accuracy[task]) == pytest.approx(accuracy_score(truth, predicted[own]))
        recall = balanced_accuracy_score(truth, predicted[own])
        assert float(evaluation.balanced_accuracy[task]) == pytest.approx(recall)
        assert float(evaluation.majority[task]) == pytest.approx(np.bincount(truth).max() / len(truth))
        assert float(evaluation.loss[task]) == pytest.approx(loss[own].mean(), rel=1e-5)
        for depth in range(3):
            counts = torch.zeros(6, dtype=torch.int64)
            counts[ROUTES[task, depth]] = 20
            assert torch.equal(evaluation.routes[task, depth], counts)
    assert evaluation.overall_accuracy == pytest.approx(accuracy_score(targets, predicted))
    assert evaluation.overall_loss == pytest.approx(loss.mean(), rel=1e-5)


def test_a_deal_on_its_way_is_not_disturbed() -> None:
    games = [little_game(BLUEPRINT.network(stem=nn.BatchNorm1d(3)), little_data(3, CLASSES), rho=0.5) for _ in range(2)]
    for evaluated, game in enumerate(games):
        play(game, BLUEPRINT.routes)
        state: State | None = game.reset()
        while state is not None:
            if evaluated:
                before = snapshot(game)
                for split in ("train", "validation", "test"):
                    game.evaluate(own_route, split)
                assert snapshot(game) == before
            state = game.step(Decision(own_route(state)))
    assert snapshot(games[0]) == snapshot(games[1])
    assert torch.equal(games[0].trace.outcome.output, games[1].trace.outcome.output)


def test_regression_has_a_loss_and_no_accuracy() -> None:
    blueprint = Blueprint((3, 2), (1,), depth=1)
    game = little_game(blueprint.network(), little_data(3, (2, 2), regression=2))
    evaluation = game.evaluate(lambda state: torch.zeros_like(state.task))
    batch = game.data.gather(game.data.test)
    with torch.no_grad():
        error = (layered(game.network).bank(0).blocks[0](batch.x) - batch.target).square().mean(1)
    for task in range(2):
        torch.testing.assert_close(float(evaluation.loss[task]), float(error[batch.task == task].mean()))
    for figure in (evaluation.accuracy, evaluation.balanced_accuracy, evaluation.majority):
        assert figure.isnan().all()


def test_what_cannot_be_evaluated() -> None:
    game = little_game(BLUEPRINT.network(), little_data(3, CLASSES, validation=0))
    before = snapshot(game)
    with pytest.raises(ValueError, match=r"action 9 of lane 0 \(task 0\) is illegal at depth 1"):
        game.evaluate(lambda state: torch.full_like(state.task, 9))
    with pytest.raises(ValueError, match="empty validation split"):
        game.evaluate(own_route, "validation")
    with pytest.raises(ValueError, match="split is 'tset'; it must be 'train', 'validation' or 'test'"):
        game.evaluate(own_route, "tset")  # pyright: ignore[reportArgumentType]
    assert snapshot(game) == before
