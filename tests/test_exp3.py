"""The range to which EXP3 scales its returns: outliers do not stretch it, and two-valued returns keep it exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from routing_env.agents.exp3 import EXP3, follow_range
from routing_env.maintenance.matrix_games import matrix_spec, matrix_state, one_round

UNSEEN = torch.tensor([torch.inf, -torch.inf])
TABLES, ROUNDS = 50, 600


def share_of_the_best(outliers: tuple[int, ...], reward_range: tuple[float, float] | None = None) -> float:
    """The mean probability of the best of four arms, whose losses are 0.5 and three times 1, with noise of 0.2.

    Args:
        outliers: Rounds in which one of the 100 bandits loses 1,000.
        reward_range: As the option.
    """
    router = EXP3(matrix_spec(TABLES, 4), reward_range=reward_range)
    seen, generator = matrix_state(TABLES, 4), torch.Generator().manual_seed(3)
    loss = torch.tensor([0.5, 1, 1, 1])
    for played in range(ROUNDS):
        decision = router.act(seen)
        reward = 0.2 * torch.randn(2 * TABLES, generator=generator) - loss[decision.action]
        if played in outliers:
            reward[0] = -1000.0
        router.learn(one_round(seen, decision, reward))
    return router.probability(seen)[:, 0].mean().item()


@pytest.mark.parametrize("outliers", [(), (0,), (20, 200, 400)])
def test_outliers_do_not_hide_the_best_arm(outliers: tuple[int, ...]) -> None:
    assert share_of_the_best(outliers) > 0.8


def test_a_range_that_holds_the_outlier_hides_the_best_arm() -> None:
    """The fault: by the range of all returns ever seen, all other rewards lie within 2 / 1000 of each other."""
    assert share_of_the_best((20,), reward_range=(-1000.0, 0.3)) < 0.35


@given(
    two=st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)),
    deals=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=5), min_size=1, max_size=30),
)
def test_two_valued_returns_keep_the_exact_range(two: tuple[float, float], deals: list[list[int]]) -> None:
    """With +1 / -1 the range is what the least and the greatest return were, to the bit."""
    seen, every = UNSEEN, list[float]()
    for deal in deals:
        returns = [two[which] for which in deal]
        every += returns
        seen = follow_range(seen, torch.tensor(returns))
        assert seen.tolist() == [min(every), max(every)]


def test_the_range_by_hand() -> None:
    def after(start: list[float], *returns: float) -> Tensor:
        return follow_range(torch.tensor(start), torch.tensor(returns))

    # Width 2. One return inside: both ends move in by half of 0.001 * 2.
    torch.testing.assert_close(after([-1.0, 1.0], 0.5), torch.tensor([-0.999, 0.999]))
    # One far below: that end moves out by 0.1 * 2; the other one stays.
    torch.testing.assert_close(after([-1.0, 1.0], -50.0), torch.tensor([-1.2, 1.0]))
    # One slightly above: that end moves to it, and no further.
    torch.testing.assert_close(after([-1.0, 1.0], 1.1), torch.tensor([-1.0, 1.1]))
    # Two below and one inside: twice 0.2, and the upper end in by 0.001.
    torch.testing.assert_close(after([-1.0, 1.0], -9.0, -8.0, 0.0), torch.tensor([-1.4, 0.999]))


def test_the_range_rests_where_few_returns_lie_beyond() -> None:
    generator, seen, beyond = torch.Generator().manual_seed(0), UNSEEN, 0.0
    for played in range(4000):
        returns = torch.randn(10, generator=generator)
        if played >= 2000:
            beyond += ((returns < seen[0]) | (returns > seen[1])).float().mean().item() / 2000
        seen = follow_range(seen, returns)
    assert 0.003 < beyond < 0.03
    assert seen[0] == pytest.approx(-2.5, abs=0.6)
    assert seen[1] == pytest.approx(2.5, abs=0.6)
