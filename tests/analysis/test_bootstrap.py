import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import statistics
from analysis.statistics import (
    MIN_PAIRS,
    Interval,
    difference_of_means,
    expanded_level,
    mean_interval,
    mean_intervals,
    pair,
    paired_difference,
    share_won,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_interval_agrees_with_scipy_under_another_generator(rng):
    values = rng.exponential(size=30)
    found = mean_interval(values)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, method="BCa", confidence_level=expanded_level(30), rng=1
    ).confidence_interval
    assert found.interval is Interval.BCA
    assert found.value == pytest.approx(values.mean())
    length = reference.high - reference.low
    assert [found.low, found.high] == pytest.approx([reference.low, reference.high], abs=0.03 * length)


def test_the_level_puts_normal_percentiles_where_student_t_has_them():
    for n in (6, 10, 20, 100):
        reach = stats.norm.ppf((1 + expanded_level(n)) / 2) * math.sqrt((n - 1) / n)
        assert reach == pytest.approx(stats.t.ppf(0.975, n - 1))


def test_an_interval_does_not_depend_on_the_company_it_is_computed_in(rng):
    samples = [rng.normal(size=n) for n in (20, 7, 20, 20)]
    together = mean_intervals(samples)
    assert together == [mean_interval(sample) for sample in samples]


def test_many_intervals_pass_the_block_boundary_in_order(rng):
    samples = rng.normal(size=(130, 8)) + np.arange(130)[:, None]
    assert [
        round(estimate.value - sample.mean(), 12)
        for estimate, sample in zip(mean_intervals(samples), samples, strict=True)
    ] == [0] * 130


def test_one_value_has_no_interval():
    estimate = mean_interval([0.5])
    assert (estimate.value, estimate.n, estimate.interval) == (0.5, 1, Interval.NONE)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_no_value_has_no_mean():
    estimate = mean_interval([float("nan")])
    assert (estimate.n, estimate.interval) == (0, Interval.NONE)
    assert math.isnan(estimate.value)


def test_equal_values_give_a_point():
    estimate = mean_interval([0.1 + 0.2] + 5 * [0.3])
    assert estimate.low == estimate.high == estimate.value == pytest.approx(0.3)
    assert estimate.interval is Interval.POINT


def test_few_equal_values_are_few_all_the_same():
    assert mean_interval(5 * [0.3]).interval is Interval.FEW
    assert difference_of_means(5 * [0.3], 6 * [0.1]).interval is Interval.FEW
    assert difference_of_means(6 * [0.3], 6 * [0.1]).interval is Interval.POINT


def test_few_values_give_no_more_than_their_range():
    estimate = mean_interval([1.0, 2.0, 4.0])
    assert (estimate.low, estimate.high, estimate.interval) == (1.0, 4.0, Interval.FEW)


def test_nearly_degenerate_values_still_give_a_finite_interval():
    estimate = mean_interval([0.0] * 19 + [1.0])
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0


def test_pairs_are_the_common_seeds_and_losses_are_counted():
    first = pd.Series([0.5, 0.6, 0.7], index=[3, 1, 2])
    second = pd.Series([0.1, 0.2, float("nan")], index=[1, 3, 2])
    pairs = pair(first, second)
    assert pairs.differences == pytest.approx([0.5, 0.3])
    assert pairs.lost == 1
    assert paired_difference(first, second).value == pytest.approx(0.4)


def test_pairing_removes_what_the_seeds_have_in_common(rng):
    seeds = rng.normal(0, 1, 20)
    first, second = pd.Series(seeds + 0.1 + rng.normal(0, 0.01, 20)), pd.Series(seeds)
    assert paired_difference(first, second).low > 0
    assert difference_of_means(first, second).low < 0


def test_ties_are_half_won():
    assert share_won([1.0, 0.0, -1.0, 2.0]) == pytest.approx(0.625)
    assert math.isnan(share_won([]))


def test_unpaired_difference_agrees_with_welch_on_normal_samples(rng):
    first, second = rng.normal(1, 1, 60), rng.normal(0, 2, 60)
    found = difference_of_means(first, second)
    welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([welch.low, welch.high], abs=0.1)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ([], [1.0], Interval.NONE),
        ([1.0], [1.0, 2.0], Interval.NONE),
        ([1.0] * 8, [0.5] * 8, Interval.POINT),
        ([1.0, 2.0], [0.0, 0.0], Interval.FEW),
    ],
)
def test_unpaired_differences_of_degenerate_samples_are_marked(first, second, kind):
    assert difference_of_means(first, second).interval is kind


@pytest.mark.parametrize("n", [10, 20])
def test_intervals_cover_at_their_nominal_rate(rng, n):
    estimates = mean_intervals(rng.normal(size=(400, n)))
    covered = sum(estimate.low <= 0 <= estimate.high for estimate in estimates)
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01


def test_a_null_effect_is_called_a_difference_in_one_case_of_twenty(rng):
    # Two arms of one quality: the seeds' common part cancels, and what remains is noise around zero.
    estimates = mean_intervals(rng.normal(size=(600, 20)) - rng.normal(size=(600, 20)))
    called = sum(estimate.low > 0 or estimate.high < 0 for estimate in estimates)
    assert stats.binomtest(called, 600, 0.05).pvalue > 0.01


def test_five_pairs_could_never_reach_significance_and_six_can():
    assert stats.binomtest(MIN_PAIRS - 1, MIN_PAIRS - 1).pvalue > 0.05 >= stats.binomtest(MIN_PAIRS, MIN_PAIRS).pvalue


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal"])
def test_intervals_of_many_values_by_formula_are_those_by_resampling(draw, monkeypatch):
    rows = [getattr(np.random.default_rng(seed), draw)(size=statistics.ANALYTIC_FROM) for seed in range(6)]
    formula = mean_intervals(rows)
    monkeypatch.setattr(statistics, "ANALYTIC_FROM", 10**9)
    for mine, theirs in zip(formula, mean_intervals(rows), strict=True):
        length = theirs.high - theirs.low
        assert (mine.value, mine.n, mine.interval) == (theirs.value, theirs.n, theirs.interval)
        assert abs(mine.low - theirs.low) < 0.04 * length
        assert abs(mine.high - theirs.high) < 0.04 * length
