"""Statistics and measures of routing against scipy, scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import auc, mutual_info_score

from routing_env.benchmark.statistics import (
    area_under_curve,
    bootstrap_interquartile_mean,
    interquartile_mean,
    mean_interval,
    paired_comparison,
    worst_task,
)
from routing_env.runs import behaviour

RNG = np.random.default_rng(5)
SCORES = RNG.normal(0.7, 0.05, (5, 8))


def test_scores_of_runs() -> None:
    assert worst_task([[0.9, 0.4, 0.5], [0.3, 0.2, 0.8]]).tolist() == [0.4, 0.2]
    epochs, curve = [1, 2, 5], [0.2, 0.6, 0.9]
    assert area_under_curve(epochs, curve) == pytest.approx(auc(epochs, curve) / 4, abs=1e-12)
    assert area_under_curve([3], [0.4]) == 0.4
    assert interquartile_mean([1, 2, 3, 4, 5, 6, 7, 100]) == pytest.approx(4.5)
    middle = np.sort(SCORES.ravel())[10:30]
    assert interquartile_mean(SCORES) == pytest.approx(middle.mean(), abs=1e-12)


def test_bootstrap_is_a_plain_stratified_resampling() -> None:
    interval = bootstrap_interquartile_mean(SCORES, resamples=4000)
    draws = np.random.default_rng(1)
    rows = draws.integers(5, size=(4000, 5, 8))
    drawn = np.sort(np.take_along_axis(np.broadcast_to(SCORES, rows.shape), rows, axis=1).reshape(4000, -1))
    low, high = np.percentile(drawn[:, 10:30].mean(1), [2.5, 97.5])
    assert interval.value == interquartile_mean(SCORES)
    assert interval.low == pytest.approx(low, abs=0.001)
    assert interval.high == pytest.approx(high, abs=0.001)
    assert bootstrap_interquartile_mean(SCORES) == bootstrap_interquartile_mean(SCORES)
    assert math.isnan(bootstrap_interquartile_mean(SCORES[:1]).low)


def test_intervals_and_paired_comparison_are_scipys() -> None:
    ours, theirs = RNG.normal(0.8, 0.02, 6), RNG.normal(0.78, 0.02, 6)
    compared = paired_comparison(ours, theirs)
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval()  # pyright: ignore
    assert compared.p == pytest.approx(float(expected[1]), abs=1e-12)
    assert compared.low == pytest.approx(interval.low, abs=1e-12)
    assert compared.high == pytest.approx(interval.high, abs=1e-12)
    assert compared.difference == pytest.approx((ours - theirs).mean())
    assert compared.seeds == 6
    mean, half = mean_interval(ours)
    low, high = stats.t.interval(0.95, 5, loc=ours.mean(), scale=stats.sem(ours))
    assert float(mean - half) == pytest.approx(low)
    assert float(mean + half) == pytest.approx(high)
    assert math.isnan(paired_comparison([0.5], [0.4]).p)
    assert paired_comparison([0.5, 0.6], [0.5, 0.6]).p == 1.0
    alike = paired_comparison([0.5, 0.6], [0.499, 0.599])  # two seeds that agree by chance are no proof
    assert alike.difference == pytest.approx(0.001)
    assert math.isnan(alike.p)
    assert math.isnan(alike.low)
    with pytest.raises(ValueError, match="are not pairs"):
        paired_comparison([0.5, 0.6], [0.5])


def simulated(seeds: int, effect: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A benchmark of two entrants: some seeds are easier for both, each run has its own luck."""
    easy = generator.normal(0, 0.05, seeds)
    ours, theirs = (0.7 + easy + generator.normal(0, 0.01, seeds) for _ in range(2))
    return ours + effect, theirs


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_null_difference_is_found_in_five_percent_of_benchmarks(seeds: int) -> None:
    generator = np.random.default_rng(2018)
    found = [paired_comparison(*simulated(seeds, 0.0, generator)).p < 0.05 for _ in range(200)]
    assert 0.03 <= np.mean(found) <= 0.07


def test_choosing_the_best_of_several_baselines_makes_no_router_look_better() -> None:
    """The best baseline is chosen by validation, which shares each run's luck: that favours the baseline, never us."""
    generator = np.random.default_rng(4)
    better = 0
    for _ in range(200):
        quality = 0.7 + generator.normal(0, 0.01, (6, 3))  # a router and five baselines of equal worth, three seeds
        validation, test = (quality + generator.normal(0, 0.005, (6, 3)) for _ in range(2))
        best = 1 + int(validation[1:].mean(1).argmax())
        compared = paired_comparison(test[0], test[best])
        better += compared.p < 0.05 and compared.difference > 0
    assert better / 200 <= 0.025


def test_a_planted_difference_is_found() -> None:
    generator = np.random.default_rng(1)
    compared = [paired_comparison(*simulated(5, 0.05, generator)) for _ in range(200)]
    assert np.mean([one.p < 0.05 for one in compared]) > 0.95
    assert np.mean([one.low <= 0.05 <= one.high for one in compared]) == pytest.approx(0.95, abs=0.04)


ROUTES = RNG.integers(0, 30, (4, 3, 5))
ROUTES[:, 1, 2] = 0
LEGAL = np.ones((3, 5), dtype=bool)


def test_measures_of_routes_agree_with_scikit_learn_and_scipy() -> None:
    for depth in range(3):
        table = ROUTES[:, depth]
        expected = mutual_info_score(None, None, contingency=table)
        assert behaviour.mutual_information(ROUTES)[depth] == pytest.approx(expected, abs=1e-6)
        entropy = float(stats.entropy(table.sum(0)))
        assert behaviour.effective_blocks(ROUTES)[depth] == pytest.approx(math.exp(entropy), abs=1e-6)
    policy = RNG.dirichlet(np.ones(5), 7)
    assert behaviour.policy_entropy(policy) == pytest.approx(stats.entropy(policy, axis=1), abs=1e-6)
    counts = ROUTES.sum(0)
    share = [1 - stats.entropy(counts[depth]) / math.log(5) for depth in range(3)]
    found = behaviour.collapse(ROUTES, LEGAL)
    assert (found.worst, found.average) == pytest.approx((max(share), np.mean(share)), abs=1e-6)


def test_measures_of_routes_by_hand() -> None:
    own = np.eye(3, dtype=int)[:, None, :] * 10  # task t takes block t, in one depth
    same = np.tile([[10, 0, 0]], (3, 1, 1))
    legal = np.ones((1, 3), dtype=bool)
    assert behaviour.mutual_information(own) == pytest.approx([math.log(3)])
    assert behaviour.mutual_information(same) == pytest.approx([0])
    assert behaviour.effective_blocks(own) == pytest.approx([3])
    assert behaviour.effective_blocks(same) == pytest.approx([1])
    assert behaviour.collapse(own, legal).worst == pytest.approx(0)
    assert behaviour.collapse(same, legal).average == pytest.approx(1)
    assert behaviour.dead_blocks(same, legal).tolist() == [2]
    assert behaviour.dead_blocks(same, [[True, True, False]]).tolist() == [1]
    assert behaviour.route_overlap(own) == pytest.approx(np.eye(3))
    half = np.array([[[5, 5, 0]], [[0, 5, 5]]])
    assert behaviour.route_overlap(half) == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))
    policies = np.array([[[[0.9, 0.1]], [[0.2, 0.8]]], [[[0.6, 0.4]], [[0.7, 0.3]]], [[[0.6, 0.4]], [[0.7, 0.3]]]])
    assert behaviour.switch_rate(policies).tolist() == [0.5, 0.0]
    described = behaviour.routing_measures(same, legal)
    assert described["route_overlap"] == 1
    assert described["dead_blocks"] == 2
