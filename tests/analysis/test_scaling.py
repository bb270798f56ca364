import math

import numpy as np
import pytest
from scipy import stats

from analysis.scaling import mean_over_sizes, retentions, slopes_per_doubling


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def fieller_by_search(here, learned):
    """The ratios that a t-test of here - ratio * learned does not reject, on a fine grid."""
    grid = np.linspace(-3, 4, 7001)
    p_values = stats.ttest_1samp(here[:, None] - grid * learned[:, None], 0.0).pvalue
    kept = grid[p_values > 0.05]
    return kept[0], kept[-1]


def test_retention_is_the_ratio_with_the_interval_of_the_tests_that_it_inverts(rng):
    learned = rng.normal(0.03, 0.01, 20)
    here = 0.5 * learned + rng.normal(0, 0.005, 20)
    found = retentions([(here, learned)])[0]
    assert found.value == pytest.approx(here.mean() / learned.mean())
    assert (found.low, found.high) == pytest.approx(fieller_by_search(here, learned), abs=0.002)


def test_retention_where_it_was_learned_is_one(rng):
    learned = rng.normal(0.03, 0.01, 20)
    found = retentions([(learned, learned)])[0]
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_retention_covers_at_its_nominal_rate(rng):
    covered = 0
    for _ in range(200):
        seeds = rng.normal(0, 0.01, 20)
        found = retentions([(0.02 + seeds + rng.normal(0, 0.01, 20), 0.04 + seeds + rng.normal(0, 0.01, 20))])[0]
        covered += found.low <= 0.5 <= found.high
    assert stats.binomtest(covered, 200, 0.95).pvalue > 0.01


@pytest.mark.parametrize("mean", [0.0, -0.03])
def test_retention_of_no_learned_advantage_is_undefined_and_says_so(rng, mean):
    found = retentions([(rng.normal(0.03, 0.01, 20), rng.normal(mean, 0.01, 20))])[0]
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert found.words == "the learned advantage is not clearly above zero"


def test_retention_needs_two_common_seeds_of_equal_number():
    found = retentions([([0.1, np.nan, np.inf], [0.1, 0.2, 0.2])])[0]
    assert (found.n, found.words) == (1, "1 common seeds, at least 2 are needed")
    with pytest.raises(ValueError, match="must have the same seeds, but got 1 and 2"):
        retentions([([0.1], [0.1, 0.2])])[0]


WIDTHS = [20, 40, 80, 20, 40, 80]
DEPTHS = [1, 1, 1, 2, 2, 2]


def planes(rng, noise=0.0):
    plane = 0.05 - 0.01 * np.log2(np.array(WIDTHS) / 20) + 0.004 * np.log2(DEPTHS)
    return plane + rng.normal(0, noise, (20, 1)) + rng.normal(0, noise, (20, 6))


def test_slopes_are_those_put_in(rng):
    width, depth = slopes_per_doubling(planes(rng), WIDTHS, DEPTHS)
    assert (width.value, depth.value) == pytest.approx((-0.01, 0.004))


def test_slopes_cover_at_their_nominal_rate_though_seeds_have_a_part_in_common(rng):
    covered = 0
    for _ in range(200):
        width, depth = slopes_per_doubling(planes(rng, 0.01), WIDTHS, DEPTHS)
        covered += width.low <= -0.01 <= width.high
        covered += depth.low <= 0.004 <= depth.high
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01


def test_slopes_that_cannot_be_told_are_not_given(rng):
    one_width = slopes_per_doubling(rng.normal(size=(8, 2)), [50, 50], [1, 2])
    assert one_width[0] is None
    assert one_width[1] is not None
    assert slopes_per_doubling(rng.normal(size=(8, 3)), [20, 40, 80], [1, 2, 4]) == (None, None)
    assert slopes_per_doubling(rng.normal(size=(8, 1)), [20], [1]) == (None, None)
    assert slopes_per_doubling(np.full((8, 2), np.nan), [20, 40], [1, 1]) == (None, None)


def test_a_seed_that_lacks_a_size_is_left_out_of_the_slope():
    differences = np.array([[0.0, 0.1], [0.0, 0.1], [5.0, np.nan]])
    width, _ = slopes_per_doubling(differences, [20, 40], [1, 1])
    assert (width.value, width.n) == (pytest.approx(0.1), 2)


def test_the_mean_over_sizes_of_balanced_data_is_the_one_of_the_size_means(rng):
    # The variance between sizes has this closed form where every size has the same seeds.
    differences = rng.normal(0, 0.01, (20, 6)) + np.array([0.05, 0.03, 0.0, -0.02, 0.01, 0.04])
    means = differences.mean(axis=0)
    within = differences.var(axis=0, ddof=1).mean()
    found = mean_over_sizes(differences)
    reach = stats.t.ppf(0.975, 5) * means.std(ddof=1) / math.sqrt(6)
    assert (found.value, found.sizes, found.words) == (pytest.approx(means.mean()), 6, "")
    assert found.high - found.value == pytest.approx(reach, rel=1e-3)
    assert found.between == pytest.approx(math.sqrt(means.var(ddof=1) - within / 20), rel=1e-3)


def test_sizes_that_do_not_differ_have_no_variance_between_them(rng):
    for _ in range(20):
        found = mean_over_sizes(rng.normal(0.02, 0.01, (20, 4)))
        assert found.words == ""
        assert found.between < 0.01
        assert found.low < found.value < found.high


def test_the_mean_over_sizes_of_unequal_seeds_solves_the_equation_of_paule_and_mandel(rng):
    differences = rng.normal(0, 0.01, (20, 5)) + np.array([0.05, 0.03, 0.0, -0.02, 0.01])
    differences[5:, 0] = differences[12:, 3] = np.nan
    groups = [column[~np.isnan(column)] for column in differences.T]
    found = mean_over_sizes(differences)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (sum(map(len, groups)) - len(groups))
    weights = 1 / (found.between**2 + within / np.array([len(group) for group in groups]))
    means = np.array([group.mean() for group in groups])
    assert found.value == pytest.approx((weights * means).sum() / weights.sum())
    assert (weights * (means - found.value) ** 2).sum() == pytest.approx(len(groups) - 1, rel=1e-4)


def test_sizes_within_which_seeds_do_not_differ_have_a_mean():
    means = np.array([0.01, 0.03, 0.02, 0.06])
    found = mean_over_sizes(np.tile(means, (8, 1)))
    reach = stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2
    assert (found.value, found.high - found.value, found.words) == (
        pytest.approx(0.03),
        pytest.approx(reach, rel=1e-3),
        "",
    )


def test_the_mean_over_sizes_covers_at_its_nominal_rate(rng):
    covered = 0
    for _ in range(200):
        sizes = rng.normal(0.02, 0.01, 5)
        found = mean_over_sizes(sizes + rng.normal(0, 0.01, (20, 5)))
        assert found.words == ""
        covered += found.low <= 0.02 <= found.high
    assert stats.binomtest(covered, 200, 0.95).pvalue > 0.01


def test_what_cannot_be_averaged_is_said():
    two = mean_over_sizes(np.ones((5, 2)))
    assert "2 sizes with two seeds or more, at least 3 are needed" in two.words
    assert math.isnan(two.value)
    equal = mean_over_sizes(np.full((5, 3), 0.25))
    assert (equal.value, equal.words[:24]) == (0.25, "all differences are equa")
    assert "0 sizes" in mean_over_sizes(np.full((5, 3), np.nan)).words
