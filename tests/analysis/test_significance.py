import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.significance import (
    EXACT,
    SignedRanks,
    against_best,
    chance_of_winning,
    detectable_difference,
    equivalence_margin,
    holm,
    needed_pairs,
    signed_rank_tests,
)
from analysis.statistics import Interval, mean_interval


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def signed_rank_test(differences):
    return signed_rank_tests([differences])[0]


def by_all_signs(differences):
    """Both p-values by listing every choice of signs."""
    ranks = np.where(differences == 0, 0, stats.rankdata(np.abs(differences)))
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))])
    observed = ranks[differences > 0].sum()
    return np.mean(sums >= observed - 1e-9), np.mean(sums <= observed + 1e-9)


@pytest.mark.parametrize("n", [6, 13, EXACT])
def test_signed_ranks_agree_with_scipy_where_nothing_is_tied(rng, n):
    differences = rng.normal(0.3, 1, n)
    found = signed_rank_test(differences)
    assert found.above == pytest.approx(stats.wilcoxon(differences, alternative="greater", method="exact").pvalue)
    assert found.below == pytest.approx(stats.wilcoxon(differences, alternative="less", method="exact").pvalue)
    assert found.two_sided == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_signed_ranks_of_ties_and_zeros_are_those_of_all_signs(rng):
    for _ in range(10):
        differences = rng.integers(-3, 5, 10).astype(float)
        found = signed_rank_test(differences)
        assert (found.above, found.below) == pytest.approx(by_all_signs(differences))


def test_many_pairs_use_the_normal_approximation_of_scipy(rng):
    differences = np.round(rng.normal(0.2, 1, 60), 1)
    reference = stats.wilcoxon(differences, zero_method="pratt", correction=True, alternative="greater")
    assert signed_rank_test(differences).above == pytest.approx(reference.pvalue)


def test_many_pairs_of_which_few_differ_are_exact():
    found = signed_rank_test([0.0] * 40 + [1.0, 2.0, 3.0])
    assert (found.above, found.below) == pytest.approx((1 / 8, 1.0))


def test_a_network_without_a_loss_has_the_highest_rank():
    finite = signed_rank_test([0.1, 0.2, 0.3, -9.0])
    assert signed_rank_test([0.1, 0.2, 0.3, -math.inf]) == finite


def test_equal_decimals_are_ties_and_equal_arms_are_no_difference():
    assert signed_rank_test([0.3 - 0.2, 0.1, 0.7 - 0.6]) == signed_rank_test([0.1, 0.1, 0.1])
    assert signed_rank_test([0.0] * 20) == SignedRanks(1.0, 1.0)
    assert signed_rank_test([]) == SignedRanks(1.0, 1.0)


def test_a_test_does_not_depend_on_its_company(rng):
    samples = [np.round(rng.normal(size=n), 1) for n in (8, 20, 8, 40, 20, 40)] * 60
    assert signed_rank_tests(samples) == [signed_rank_test(sample) for sample in samples]


def test_holm_agrees_with_statsmodels_and_passes_over_what_is_unknown(rng):
    p_values = rng.uniform(0, 0.2, 9)
    p_values[[0, 1]] = p_values[2], np.nan
    known = ~np.isnan(p_values)
    adjusted = holm(p_values)
    assert adjusted[known] == pytest.approx(multipletests(p_values[known], method="holm")[1])
    assert np.isnan(adjusted[1])
    assert len(holm([])) == 0


def test_the_best_of_several_is_beaten_by_beating_each_and_beats_by_one():
    found = against_best([SignedRanks(0.01, 0.99), SignedRanks(0.2, 0.8), SignedRanks(0.97, 0.03)])
    assert (found.above, found.below) == pytest.approx((0.97, 0.09))
    with pytest.raises(ValueError, match="needs at least one test"):
        against_best([])


def test_the_best_of_equal_arms_differs_in_no_more_than_one_case_of_twenty(rng):
    # Six arms of one quality; which one looks best is chance, and must not be held against the mix.
    data_sets = 400
    mix = rng.normal(size=(data_sets, 20))
    rivals = rng.normal(size=(data_sets, 6, 20))
    tests = iter(signed_rank_tests(list((mix[:, None] - rivals).reshape(-1, 20))))
    called = sum(against_best([next(tests) for _ in range(6)]).two_sided <= 0.05 for _ in range(data_sets))
    assert stats.binomtest(called, data_sets, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("comparisons", [1, 4, 10, 30])
def test_the_fewest_pairs_could_just_pass_the_correction(comparisons):
    n = needed_pairs(comparisons)
    others = [1.0] * (comparisons - 1)
    assert holm([signed_rank_test(np.arange(1.0, n + 1)).two_sided, *others])[0] <= 0.05
    if n > 6:
        assert holm([signed_rank_test(np.arange(1.0, n)).two_sided, *others])[0] > 0.05


def test_a_detectable_difference_is_detected_in_four_of_five_cases(rng):
    spread = np.tile([1.0, -1.0], 10)
    true = detectable_difference(spread)
    samples = rng.normal(true, spread.std(ddof=1), (1000, 20))
    found = np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=0.04)
    assert detectable_difference(spread, comparisons=5) > true
    assert math.isnan(detectable_difference([1.0, 2.0]))


def test_intervals_of_the_chance_of_winning_cover_at_their_nominal_rate(rng):
    covered = 0
    for wins in rng.binomial(20, 0.7, 200):
        estimate = chance_of_winning([1.0] * wins + [-1.0] * (20 - wins))
        covered += estimate.low <= 0.7 <= estimate.high
    assert stats.binomtest(covered, 200, 0.95).pvalue > 0.01


def test_the_chance_of_winning_counts_ties_half_and_needs_two_pairs():
    found = chance_of_winning([1.0, 0.0, -1.0, 2.0, 1.0, 1.0])
    reference = stats.binomtest(9, 12).proportion_ci(method="wilson")
    assert found.value == pytest.approx(reference.low + (9 / 12 - reference.low)) == 0.75
    assert found.interval is Interval.WILSON
    assert found.low < 0.75 < found.high
    assert math.isnan(chance_of_winning([1.0]).low)
    assert math.isnan(chance_of_winning([]).value)


def test_wilson_interval_agrees_with_scipy():
    found = chance_of_winning([1.0] * 15 + [-1.0] * 5)
    reference = stats.binomtest(15, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))


def test_arms_are_equivalent_within_the_further_end_of_the_interval():
    estimate = mean_interval([-0.02, 0.0, 0.01, 0.0, 0.005, -0.01, 0.0, 0.01])
    assert equivalence_margin(estimate) == max(-estimate.low, estimate.high)
    assert math.isnan(equivalence_margin(mean_interval([0.1])))
    assert math.isnan(equivalence_margin(mean_interval([0.1, 0.2])))
