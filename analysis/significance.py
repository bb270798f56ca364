"""Tests of paired differences: Wilcoxon's signed ranks, Holm's correction, what could have been seen, and how little.

**Signed ranks.**  Zeros are ranked and then have no sign (Pratt 1959); values as large as each other share their mean
rank.  Accuracies are multiples of one row, so both are the rule, and then scipy's exact distribution does not hold: up
to `EXACT` differences other than zero the distribution over all signs is computed here, for whatever ranks there are;
beyond it is scipy's normal approximation with continuity correction.  A difference may be infinite (one of the two
networks has no finite loss): it has the highest rank.

**The best of several.**  To be better than the best of several arms is to be better than each, so the largest of their
p-values holds without correction (Berger 1982).  To be worse than the best is to be worse than one at least, so the
smallest is multiplied by their number (Bonferroni).  Nothing has to be known about which one is the best, and nothing
is paid for having looked: that is why the passport tests this way, and not against the arm with the highest mean.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from analysis.statistics import CONFIDENCE, MIN_PAIRS, Estimate, Interval, Vector, share_won

LEVEL: Final = 1 - CONFIDENCE
"""Error rate of every family of tests."""

POWER: Final = 0.8
"""Share of repetitions in which a difference as large as the minimal detectable one would be found."""

EXACT: Final = 25
"""Most differences other than zero for which signed ranks have their exact distribution."""

_ROWS_AT_ONCE: Final = 256
_DECIMALS: Final = 12  # differences of equal decimals differ in their last bits, and are to be ties


@dataclass(frozen=True)
class SignedRanks:
    """One-sided p-values of a signed-rank test; their smaller one doubled is the two-sided one.

    Attributes:
        above: chance of signed ranks as high or higher if differences were symmetric about the tested value.
        below: chance of signed ranks as low or lower.
    """

    above: float
    below: float

    @property
    def two_sided(self) -> float:
        """Chance of signed ranks as far from the middle on either side."""
        return min(1.0, 2 * min(self.above, self.below))


def signed_rank_tests(samples: Sequence[ArrayLike]) -> list[SignedRanks]:
    """Test whether the differences of each sample lie above or below zero; samples of equal length go together.

    Args:
        samples: differences, each of shape (pairs,); NaN is left out, infinite ones count.
    """
    arrays = [_numbers(sample) for sample in samples]
    found = [SignedRanks(1.0, 1.0)] * len(arrays)
    by_length: dict[int, list[int]] = {}
    for index, array in enumerate(arrays):
        if len(array):
            by_length.setdefault(len(array), []).append(index)
    for indices in by_length.values():
        for start in range(0, len(indices), _ROWS_AT_ONCE):
            block = indices[start : start + _ROWS_AT_ONCE]
            rows: Vector = np.stack([arrays[i] for i in block])
            above, below = _signed_ranks(rows.round(_DECIMALS))
            for index, high, low in zip(block, above, below, strict=True):
                found[index] = SignedRanks(float(high), float(low))
    return found


def against_best(tests: Sequence[SignedRanks]) -> SignedRanks:
    """Against the best of several arms, whichever that is, from the tests against each.

    Raises:
        ValueError: there is no test.
    """
    if not tests:
        raise ValueError("The best of several needs at least one test, but got none.")
    return SignedRanks(
        max(test.above for test in tests),
        min(1.0, len(tests) * min(test.below for test in tests)),
    )


def holm(p_values: ArrayLike) -> Vector:
    """p-values of one family, adjusted so that the chance of any false claim stays at `LEVEL` (Holm 1979).

    NaN stays NaN and does not count as a member of the family.  (`statsmodels.stats.multitest.multipletests` gives the
    same; it also has Python collect its garbage, which takes a hundred times as long as the rest.)
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted: Vector = np.full_like(values, np.nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]  # NaN is sorted to the end
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def needed_pairs(comparisons: int = 1) -> int:
    """Fewest pairs with which one of so many comparisons can pass Holm's correction, if all pairs go one way.

    n pairs of one sign have a two-sided p-value of 2^(1 - n), which must be at most `LEVEL` / comparisons.
    """
    return max(MIN_PAIRS, math.ceil(1 + math.log2(max(comparisons, 1) / LEVEL)))


def detectable_difference(differences: ArrayLike, *, comparisons: int = 1) -> float:
    """Smallest true mean difference that so many pairs with this spread would show with a chance of `POWER`.

    By a two-sided paired t-test at `LEVEL` / comparisons; signed ranks need about 5 % more pairs.  NaN for fewer than
    three finite differences, whose spread says nothing.
    """
    values = _numbers(differences)
    values = values[np.isfinite(values)]
    if len(values) < 3:
        return float("nan")
    return float(values.std(ddof=1)) * _detectable_effect(len(values), comparisons)


def chance_of_winning(differences: ArrayLike) -> Estimate:
    """Probability that a pair is won, ties counted half, with Wilson's interval (Wilson 1927); none for one pair."""
    from statsmodels.stats.proportion import proportion_confint

    values = _numbers(differences)
    n = len(values)
    share = float(np.mean((values > 0) + 0.5 * (values == 0))) if n else share_won([])
    if n < 2:
        return Estimate(share, float("nan"), float("nan"), n, Interval.NONE)
    low, high = proportion_confint(share * n, n, alpha=LEVEL, method="wilson")
    return Estimate(share, float(low), float(high), n, Interval.FEW if n < MIN_PAIRS else Interval.WILSON)


def equivalence_margin(estimate: Estimate) -> float:
    """The m of "equivalent within ± m": the end of the interval that is further from zero; NaN without an interval.

    To call two arms equivalent if this is at most a margin is two one-sided tests (Schuirmann 1987) at half of `LEVEL`
    each, half of what is usual, because the interval is the one that is shown everywhere.  Fewer than `MIN_PAIRS` pairs
    have none: their interval covers too little.
    """
    if estimate.interval in (Interval.NONE, Interval.FEW):
        return float("nan")
    return max(abs(estimate.low), abs(estimate.high))


@lru_cache(maxsize=256)
def _detectable_effect(pairs: int, comparisons: int) -> float:
    """In units of the standard deviation of differences."""
    from statsmodels.stats.power import TTestPower

    found = TTestPower().solve_power(nobs=pairs, alpha=LEVEL / comparisons, power=POWER, alternative="two-sided")
    return float(np.squeeze(found))


def _numbers(values: ArrayLike) -> Vector:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def _signed_ranks(rows: Vector) -> tuple[Vector, Vector]:
    """One-sided p-values of each row; rows has shape (rows, n)."""
    signed = np.count_nonzero(rows, axis=1)
    above, below = np.ones(len(rows)), np.ones(len(rows))
    few = (signed <= EXACT) & (signed > 0)
    if few.any():
        above[few], below[few] = _exact(rows[few], int(signed[few].max()))
    many = signed > EXACT
    if many.any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # infinite differences have ranks like others
            for values, signs in ((above, 1.0), (below, -1.0)):
                values[many] = scipy.stats.wilcoxon(
                    signs * rows[many],
                    zero_method="pratt",
                    correction=True,
                    alternative="greater",
                    method="approx",
                    axis=-1,
                ).pvalue
    return above, below


def _exact(rows: Vector, signed: int) -> tuple[Vector, Vector]:
    """The distribution of the sum of ranks with positive sign over all signs, for the ranks of each row."""
    sizes = np.abs(rows)
    # Doubled, so that shared ranks are whole numbers; a zero moves the sum by nothing, whichever its sign.
    ranks = np.where(sizes > 0, np.rint(2 * scipy.stats.rankdata(sizes, axis=-1)), 0).astype(np.intp)
    observed = np.where(rows > 0, ranks, 0).sum(axis=1)
    places = np.arange(int(ranks.sum(axis=1).max()) + 1)
    chance = np.zeros((len(rows), len(places)))
    chance[:, 0] = 1.0
    for rank in -np.sort(-ranks, axis=1).T[:signed]:
        source: NDArray[np.intp] = places - rank[:, None]
        moved = np.take_along_axis(chance, np.maximum(source, 0), axis=1)
        chance = 0.5 * (chance + np.where(source >= 0, moved, 0.0))
    above = np.where(places >= observed[:, None], chance, 0.0).sum(axis=1)
    below = np.where(places <= observed[:, None], chance, 0.0).sum(axis=1)
    return np.minimum(above, 1.0), np.minimum(below, 1.0)
