"""Final and collaboration rewards, worked out by hand."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from routing_env.game.rewards import Collaboration, collaboration_reward, correct_or_not, negative_loss, team_reward
from routing_env.types import Outcome


def an_outcome(
    *, correct: list[bool], loss: list[float], forfeited: list[bool] | None = None, regression: bool = False
) -> Outcome:
    """Routes of task 0 that led to the given results."""
    lanes = torch.zeros(len(loss), dtype=torch.int64)
    prediction = torch.zeros(len(loss), 1) if regression else lanes
    lost = torch.tensor(forfeited or [False] * len(loss))
    return Outcome(lanes, prediction, prediction, lanes, torch.tensor(loss), torch.tensor(correct), lost)


def test_final_rewards() -> None:
    outcome = an_outcome(correct=[True, False], loss=[0.25, 3.0])
    assert correct_or_not(outcome).tolist() == [1.0, -1.0]
    assert negative_loss(outcome).tolist() == [-0.25, -3.0]


def test_a_team_earns_its_mean_and_a_forfeited_route_counts_as_wrong() -> None:
    wins = [True, True, True, False]
    assert team_reward(an_outcome(correct=wins, loss=[0.1] * 4)).tolist() == [0.5] * 4
    lost = an_outcome(correct=[True, True, False, False], loss=[0.1] * 4, forfeited=[False, False, True, False])
    assert team_reward(lost).tolist() == [0.0] * 4
    values = an_outcome(correct=[False] * 2, loss=[1.0, 2.0], regression=True)
    assert team_reward(values).tolist() == [-1.5] * 2
    broken = an_outcome(correct=[False] * 2, loss=[2.0, torch.nan], forfeited=[False, True], regression=True)
    assert team_reward(broken).tolist() == [-1.5] * 2


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_rho_acts_once(rho: float) -> None:
    """The same history, with and without rho, differs by the factor rho, not by its square."""
    reward = collaboration_reward(torch.tensor([0.5, 0.25]), torch.tensor([1, 0, 1]), rho)
    torch.testing.assert_close(reward, torch.tensor([0.25, 0.5, 0.25]) * rho)


def test_probability_by_hand_over_several_deals() -> None:
    history = Collaboration(depth=2, actions=3, rho=0.5)
    assert history.reward(0, torch.tensor([0, 1])).tolist() == [0.0, 0.0], "there is no history before the first deal"

    history.record(0, torch.tensor([0, 1]), torch.tensor([[0.6, 0.4, 0.0], [0.2, 0.4, 0.4]]))
    torch.testing.assert_close(history.average[0], torch.tensor([0.4, 0.4, 0.2]))
    torch.testing.assert_close(history.reward(0, torch.tensor([0, 2])), torch.tensor([0.2, 0.1]))
    assert history.reward(1, torch.tensor([0, 2])).tolist() == [0.0, 0.0], "every depth has its own history"

    # One lane more: the averages are over all three lanes seen so far, not over deals.
    history.record(0, torch.tensor([2]), torch.tensor([[0.1, 0.1, 0.8]]))
    torch.testing.assert_close(history.average[0], torch.tensor([0.3, 0.3, 0.4]))

    # A router that does not say how likely its action was chose it with probability 1.
    history.record(0, torch.tensor([1]), None)
    torch.testing.assert_close(history.average[0], torch.tensor([0.9, 1.9, 1.2]) / 4)


def test_count_by_hand_over_several_deals() -> None:
    history = Collaboration(depth=1, actions=3, rho=1.0, kind="count")
    history.record(0, torch.tensor([0, 0, 2, 0]), torch.full((4, 3), 1 / 3))
    torch.testing.assert_close(history.reward(0, torch.tensor([0, 1, 2])), torch.tensor([0.75, 0.0, 0.25]))
    history.record(0, torch.tensor([1]), torch.full((1, 3), 1 / 3))
    torch.testing.assert_close(history.reward(0, torch.tensor([0, 1, 2])), torch.tensor([0.6, 0.2, 0.2]))


@pytest.mark.parametrize("kind", ["probability", "count"])
def test_pass_earns_nothing(kind: Literal["probability", "count"]) -> None:
    history = Collaboration(depth=1, actions=3, rho=1.0, kind=kind, pass_action=2)
    history.record(0, torch.tensor([2, 2, 0, 0]), None)
    assert history.reward(0, torch.tensor([2, 0])).tolist() == [0.0, 0.5]


def test_without_rho_nothing_is_earned_or_kept() -> None:
    history = Collaboration(depth=1, actions=2, rho=0.0)
    history.record(0, torch.tensor([0]), None)
    assert not history.average.any()
    assert history.reward(0, torch.tensor([0])).tolist() == [0.0]


def test_history_continues_from_its_state() -> None:
    histories = [Collaboration(depth=1, actions=2, rho=1.0) for _ in range(2)]
    histories[0].record(0, torch.tensor([0, 1, 1]), None)
    histories[1].load_state_dict(histories[0].state_dict())
    for history in histories:
        history.record(0, torch.tensor([0]), None)
    assert torch.equal(histories[0].average, histories[1].average)
    assert histories[0].average.tolist() == [[0.5, 0.5]]


def test_settings_out_of_range() -> None:
    for rho in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"rho is .*; it must be in \[0, 1\]"):
            Collaboration(1, 1, rho=rho)
    with pytest.raises(ValueError, match="must be 'probability' or 'count'"):
        Collaboration(1, 1, kind="counts")  # pyright: ignore[reportArgumentType]
