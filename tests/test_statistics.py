"""Statistics and measures of routing against scipy, scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import auc, mutual_info_score

from routing_env.benchmark.statistics import (
    Interval,
    area_under_curve,
    detectable_difference,
    holm,
    holm_corrected,
    interquartile_mean,
    interquartile_mean_interval,
    mean_interval,
    paired_comparison,
    performance_profile,
    probability_of_improvement,
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
    middle = np.sort(SCORES)[:, 2:6]
    assert interquartile_mean(SCORES) == pytest.approx(middle.mean(1), abs=1e-12)


def benchmarks(seeds: int, shared: float, generator: np.random.Generator, *, number: int = 1000) -> np.ndarray:
    """Scores of simulated entrants, [number, S, T]: 12 tasks of different difficulty, centred on 0.7.

    A seed shifts all tasks of its run by noise of deviation ``shared``; each task has noise of deviation 0.01 as well.
    """
    tasks = 0.7 + np.linspace(-0.1, 0.1, 12)
    effect = generator.normal(0, shared, (number, seeds, 1)) if shared else 0.0
    return tasks + effect + generator.normal(0, 0.01, (number, seeds, 12))


def covered(intervals: list[Interval], truth: float) -> float:
    """Share of the intervals that contain the truth."""
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


@pytest.mark.parametrize("shared", [0.03, 0.0])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_the_interquartile_mean_covers_it(seeds: int, shared: float) -> None:
    drawn = benchmarks(seeds, shared, np.random.default_rng(seeds))
    assert covered([interquartile_mean_interval(one) for one in drawn], 0.7) == pytest.approx(0.95, abs=0.02)


def test_a_bootstrap_stratified_by_task_does_not_cover_it() -> None:
    """The usual interval (Agarwal et al. 2021) assumes independent tasks: what the test above must tell apart."""
    generator = np.random.default_rng(1)
    intervals: list[Interval] = []
    for scores in benchmarks(3, 0.03, generator, number=200):
        rows = generator.integers(3, size=(300, 3, 12))
        resampled = np.take_along_axis(np.broadcast_to(scores, rows.shape), rows, axis=1).reshape(300, -1)
        value, (low, high) = (
            interquartile_mean(scores.ravel()),
            np.percentile(interquartile_mean(resampled), [2.5, 97.5]),
        )
        intervals.append(Interval(float(value), low, high))
    assert covered(intervals, 0.7) < 0.6


def test_the_interval_of_the_interquartile_mean_by_hand() -> None:
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=0.1 / math.sqrt(3))
    interval = interquartile_mean_interval([[0.4, 0.4, 0, 1], [0.5, 0.5, 0, 1], [0.6, 0.6, 0, 1]])
    assert (interval.value, interval.low, interval.high) == (
        pytest.approx(0.5),
        pytest.approx(low),
        pytest.approx(high),
    )
    assert math.isnan(interquartile_mean_interval(SCORES[:1]).low)


def test_performance_profile_by_hand() -> None:
    mean, half = performance_profile([[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.5, 0.5]], [0.0, 0.25, 0.3, 0.5])
    assert mean.tolist() == [1.0, 0.75, 0.375, 0.0]  # above, not at, the threshold
    assert half[[0, 3]].tolist() == [0, 0]
    assert half[1] == pytest.approx(stats.t.ppf(0.975, 1) * 0.25)  # seeds at 0.5 and 1.0
    assert np.isnan(performance_profile(SCORES[:1], [0.5])[1]).all()


def test_probability_of_improvement_is_the_mann_whitney_statistic() -> None:
    ours, theirs = RNG.normal(0.7, 0.05, (2, 5, 8)).round(2)  # rounded: with ties
    expected = [stats.mannwhitneyu(x, y).statistic / 25 for x, y in zip(ours.T, theirs.T, strict=True)]
    found, back = probability_of_improvement(ours, theirs), probability_of_improvement(theirs, ours)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert (back.value, back.low, back.high) == pytest.approx((1 - found.value, 1 - found.high, 1 - found.low))
    assert 0 < found.low < found.value < found.high < 1
    bound = 0.025 ** (1 / 5)  # a probability that is as low yields five wins of five in 2.5 % of all cases
    assert probability_of_improvement(ours + 1, theirs) == Interval(1, pytest.approx(bound), 1)  # pyright: ignore
    assert probability_of_improvement(ours, theirs + 1) == Interval(0, 0, pytest.approx(1 - bound))  # pyright: ignore
    alike = probability_of_improvement(np.ones((3, 2)), np.ones((3, 2)))
    assert (alike.value, math.isnan(alike.low)) == (0.5, True)
    alone = probability_of_improvement([[0.5]], [[0.4]])
    assert (alone.value, math.isnan(alone.low)) == (1, True)
    with pytest.raises(ValueError, match="are not pairs"):
        probability_of_improvement(ours, theirs[:, :3])


@pytest.mark.parametrize("shared", [0.03, 0.0])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_the_probability_of_improvement_covers_it(seeds: int, shared: float) -> None:
    generator = np.random.default_rng(seeds)
    drawn = zip(*(benchmarks(seeds, shared, generator, number=500) for _ in range(2)), strict=True)
    effect = math.hypot(shared, 0.01)
    truth = float(stats.norm.cdf(1 / math.sqrt(2)))
    found = [probability_of_improvement(ours + effect, theirs) for ours, theirs in drawn]
    assert covered(found, truth) >= 0.93


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
    """The best baseline is chosen by validation, which shares each run's luck: that favours the baseline, not a router.

    With several routers the p-values need Holm's correction, which is tested below.
    """
    generator = np.random.default_rng(4)
    better = 0
    for _ in range(200):
        quality = 0.7 + generator.normal(0, 0.01, (6, 3))  # a router and five baselines of equal worth, three seeds
        validation, test = (quality + generator.normal(0, 0.005, (6, 3)) for _ in range(2))
        best = 1 + int(validation[1:].mean(1).argmax())
        compared = paired_comparison(test[0], test[best])
        better += compared.p < 0.05 and compared.difference > 0
    assert better / 200 <= 0.025


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 3p, 1p raised to 2p, 2p, 4p
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert holm([]).tolist() == []
    family = [paired_comparison(SCORES[:, 0] + shift, SCORES[:, 1]) for shift in (0, 0.05, 0.1)]
    corrected = holm_corrected([*family, paired_comparison([0.5], [0.4])])
    assert [one.corrected_p for one in corrected[:3]] == pytest.approx(holm([one.p for one in family]))
    assert [one.p for one in corrected[:3]] == [one.p for one in family]
    assert {one.comparisons for one in corrected} == {3}
    assert math.isnan(corrected[3].corrected_p)


@pytest.mark.parametrize(("routers", "baselines"), [(20, 1), (1, 6)])
def test_no_entrant_is_called_different_if_all_are_equal(routers: int, baselines: int) -> None:
    """The family-wise error of a table, whose best baseline is chosen by validation and shares the luck of its runs."""
    generator = np.random.default_rng(20)
    entrants, seeds, number = routers + baselines, 3, 600
    single, corrected = np.zeros((2, number), dtype=bool)
    for trial in range(number):
        luck = 0.7 + generator.normal(0, 0.01, (entrants, seeds))
        validation, test = (luck + generator.normal(0, 0.005, luck.shape) for _ in range(2))
        best = int(validation[:baselines].mean(1).argmax())
        family = {(a, b): paired_comparison(test[a], test[b]) for b in range(baselines) for a in range(b + 1, entrants)}
        shown = [pair for pair in family if best in pair]
        single[trial] = any(family[pair].p < 0.05 for pair in shown)
        held = dict(zip(family, holm_corrected(list(family.values())), strict=True))
        corrected[trial] = any(held[pair].corrected_p < 0.05 for pair in shown)
    assert np.mean(corrected) <= 0.05
    assert np.mean(single) > 0.15, "without the correction"


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (10, 1), (10, 21)])
def test_the_detectable_difference_is_detected_with_80_percent_power(seeds: int, comparisons: int) -> None:
    difference = detectable_difference(0.02, seeds, comparisons=comparisons)
    drawn = np.random.default_rng(seeds).normal(difference, 0.02, (20_000, seeds))
    p = np.asarray(stats.ttest_1samp(drawn, 0, axis=1)[1])
    assert np.mean(p < 0.05 / comparisons) == pytest.approx(0.8, abs=0.01)


def test_detectable_differences() -> None:
    assert detectable_difference(1.0, 34) == pytest.approx(0.5, abs=0.005)  # 34 pairs, Cohen (1988), dz = 0.5
    assert detectable_difference(2.0, 5) == pytest.approx(2 * detectable_difference(1.0, 5))
    assert math.isnan(detectable_difference(1.0, 1))
    compared = paired_comparison(SCORES[:, 0], SCORES[:, 1])
    assert compared.spread == pytest.approx(np.std(SCORES[:, 0] - SCORES[:, 1], ddof=1))
    assert compared.detectable == pytest.approx(detectable_difference(compared.spread, 5))


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
