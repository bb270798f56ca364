"""How an advantage goes on over sizes: what is kept of it, its slope per doubling, its mean over sizes.

All of it rests on one table of paired differences, seed by size.  The unit of repetition is the seed: what networks of
one seed share over sizes stays in the intervals of retention and slopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.statistics import CONFIDENCE, Estimate, Vector, mean_intervals

MIN_SIZES: Final = 3
"""Fewest sizes over which a mean with an interval is given: of two, the spread between sizes is all but unknown."""

_NAN: Final = float("nan")


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means with its interval, or why there is none.

    Attributes:
        value: the ratio; NaN if it is undefined.
        low: lower end of its interval; NaN if there is none.
        high: upper end of its interval.
        n: pairs that it rests on.
        words: why it is undefined; empty if it is not.
    """

    value: float
    low: float
    high: float
    n: int
    words: str = ""


@dataclass(frozen=True)
class OverSizes:
    """The mean over sizes, each size being one draw from all that might have been evaluated.

    Attributes:
        value: the mean; NaN if there are too few sizes.
        low: lower end of its interval.
        high: upper end of its interval.
        between: standard deviation of the true advantage from size to size.
        sizes: how many.
        words: why there is no number; empty if there is one.
    """

    value: float
    low: float
    high: float
    between: float
    sizes: int
    words: str = ""


def retentions(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> list[Ratio]:
    """Mean advantage at sizes divided by that where the set was learned, paired by seed, with Fieller's intervals.

    Fieller (1954) has the interval of a ratio of two correlated means.  It is bounded only if the denominator differs
    from zero; so if the interval of the learned advantage (Student's or the bootstrap's) holds zero, or that advantage
    is negative, the ratio is undefined, and the words say so.

    Args:
        pairs: of each size the differences there, shape (seeds,), and where the set was learned, for the same seeds.

    Raises:
        ValueError: the two have different lengths.
    """
    kept = [_both_finite(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)) for x, y in pairs]
    return [
        _fieller(x, y, interval) for (x, y), interval in zip(kept, mean_intervals([y for _, y in kept]), strict=True)
    ]


def _both_finite(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    if x.shape != y.shape:
        raise ValueError(f"Both differences must have the same seeds, but got {len(x)} and {len(y)} of them.")
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _fieller(x: Vector, y: Vector, learned: Estimate) -> Ratio:
    n = len(x)
    if n < 2:
        return Ratio(_NAN, _NAN, _NAN, n, f"{n} common seeds, at least 2 are needed")
    covariance = np.cov(x, y) / n
    square = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) ** 2
    a = float(y.mean() ** 2 - square * covariance[1, 1])
    if a <= 0 or not learned.low > 0:
        return Ratio(_NAN, _NAN, _NAN, n, "the learned advantage is not clearly above zero")
    b = float(x.mean() * y.mean() - square * covariance[0, 1])
    c = float(x.mean() ** 2 - square * covariance[0, 0])
    reach = float(np.sqrt(max(b * b - a * c, 0.0)))
    return Ratio(float(x.mean() / y.mean()), (b - reach) / a, (b + reach) / a, n)


def slopes_per_doubling(
    differences: Vector, widths: Sequence[int], depths: Sequence[int]
) -> tuple[Estimate | None, Estimate | None]:
    """Change of the advantage per doubling of width, and of depth, each the other held, with bootstrap intervals.

    A plane in the binary logarithms is fitted to each seed's differences by least squares; the mean of the seeds'
    slopes is the slope, and its interval is over seeds.  It tells about the sizes that were evaluated.

    Args:
        differences: shape (seeds, sizes); a seed that lacks a size is left out.
        widths: width of each size.
        depths: depth of each size.

    Returns:
        The slope for width and that for depth; None where it cannot be told: a single value, or width and depth change
        together.
    """
    complete = differences[np.isfinite(differences).all(axis=1)]
    columns = [np.ones(len(widths)), np.log2(np.asarray(widths, float)), np.log2(np.asarray(depths, float))]
    varies = [np.ptp(column) > 0 for column in columns[1:]]
    kept = [columns[0], *(column for column, does in zip(columns[1:], varies, strict=True) if does)]
    design = np.stack(kept, axis=1)
    if not any(varies) or np.linalg.matrix_rank(design) < design.shape[1] or not len(complete):
        return None, None
    slopes = complete @ np.linalg.pinv(design).T
    found = iter(mean_intervals(list(slopes.T[1:])))
    width, depth = (next(found) if does else None for does in varies)
    return width, depth


def mean_over_sizes(differences: Vector) -> OverSizes:
    """Random-effects mean: every size has its own true advantage, and all of them one mean and variance.

    That variance is Paule and Mandel's (1982), the standard error Hartung and Knapp's (2001), but never below what the
    variances themselves give.  The interval is Student's with one degree of freedom less than sizes, as sizes are what
    repeats here.

    Args:
        differences: shape (seeds, sizes), NaN where a seed lacks a size.
    """
    columns = [column[np.isfinite(column)] for column in differences.T]
    groups = [column for column in columns if len(column) >= 2]
    sizes = len(groups)
    if sizes < MIN_SIZES:
        words = f"{sizes} sizes with two seeds or more, at least {MIN_SIZES} are needed for a mean over sizes"
        return OverSizes(_NAN, _NAN, _NAN, _NAN, sizes, words)
    values = np.concatenate(groups)
    if values.std() <= 1e-12 * max(1.0, float(np.abs(values).max())):
        value = float(values.mean())
        return OverSizes(value, value, value, 0.0, sizes, "all differences are equal: nothing is known about a spread")
    from statsmodels.stats.meta_analysis import combine_effects

    seeds = np.array([len(group) for group in groups])
    means = np.array([group.mean() for group in groups])
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (len(values) - sizes)
    # Where seeds do not differ at all, a size would weigh infinitely much.
    within = max(within, 1e-9 * float(means.var()))
    fit = combine_effects(means, within / seeds, method_re="iterated")
    mean, error = float(fit.mean_effect_re), float(fit.sd_eff_w_re_hksj / min(1.0, np.sqrt(fit.scale_hksj_re)))
    reach = float(special.stdtrit(sizes - 1, (1 + CONFIDENCE) / 2)) * error
    return OverSizes(mean, mean - reach, mean + reach, float(np.sqrt(fit.tau2)), sizes)
