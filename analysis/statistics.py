"""Means and differences with bootstrap intervals.

Intervals are 95 % BCa bootstrap intervals (Efron 1987) by `scipy.stats.bootstrap`, with a fixed generator: the same
data give the same interval in every process and in whatever company they are computed.  What data cannot say is
not invented: one value has no interval, equal values have an interval of no length, and both are marked as such.

Plain bootstrap intervals of a mean are too short for few values (they cover 91 % with 10 normal values): the spread
of n values is too small by sqrt((n - 1) / n) and is itself uncertain.  So the percentiles are taken further out, to
where a Student t would put them (Hesterberg 2015, "What teachers should know about the bootstrap": expanded
percentiles).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy import special

CONFIDENCE: Final = 0.95
"""Nominal coverage of every interval."""

RESAMPLES: Final = 9999
"""Bootstrap resamples: the ends of an interval repeat to about 2 % of its length under another generator."""

MIN_PAIRS: Final = 6
"""Fewest pairs on which a claim may rest: with 5, even winning all of them has a two-sided sign-test p of 0.0625."""

ANALYTIC_FROM: Final = 100
"""From how many values on the BCa interval of a mean is computed by formula instead of by resampling.

The ABC interval (DiCiccio and Efron 1992) is what BCa intervals tend to: for a mean it has closed form, in the values'
second and third moments.  Of 20 values on it already lies within 2 % of the length of the resampled one, which is how
far two resamplings differ.
"""

ENDS: Final = ("", "_low", "_high")
"""What is added to the name of a number: nothing for itself, and the ends of its interval."""

_SEED: Final = 20260101
_ROWS_AT_ONCE: Final = 64
_RESAMPLES_AT_ONCE: Final = 1111

Vector = NDArray[np.float64]


class Interval(StrEnum):
    """How an interval was obtained."""

    BCA = "bca"
    """Bias-corrected and accelerated bootstrap."""
    PERCENTILE = "percentile"
    """Plain bootstrap percentiles, where the BCa correction is undefined."""
    FEW = "few"
    """Fewer than `MIN_PAIRS` values: resampling cannot leave their range, so that it covers less (2 values: 50 %)."""
    POINT = "point"
    """All values are equal, and not few: both ends are that value, and nothing is known about the spread."""
    WILSON = "wilson"
    """Score interval of a share."""
    NONE = "none"
    """One value or none: there is no interval."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the mean, or the difference of means; NaN if there are no values.
        low: lower end of the interval; NaN if there is none.
        high: upper end of the interval; NaN if there is none.
        n: how many values it rests on (the smaller sample of an unpaired difference).
        interval: how the interval was obtained.
    """

    value: float
    low: float
    high: float
    n: int
    interval: Interval

    def columns(self, name: str) -> dict[str, float]:
        """As columns of a table: ``name``, ``name_low`` and ``name_high``."""
        values = (self.value, self.low, self.high)
        return {f"{name}{end}": value for end, value in zip(ENDS, values, strict=True)}


@dataclass(frozen=True)
class Pairs:
    """Two arms seed by seed.

    Attributes:
        differences: first minus second, in the order of the seeds, shape (pairs,).
        lost: seeds that only one of the two has, and that are therefore left out.
    """

    differences: Vector
    lost: int


def mean_intervals(samples: Sequence[ArrayLike]) -> list[Estimate]:
    """Mean and interval of each of many samples, resampled together where their lengths agree."""
    arrays = [_finite(sample) for sample in samples]
    estimates = [_without_resampling(array) for array in arrays]
    waiting: dict[int, list[int]] = {}
    for index, estimate in enumerate(estimates):
        if estimate is None:
            waiting.setdefault(len(arrays[index]), []).append(index)
    for indices in waiting.values():
        for start in range(0, len(indices), _ROWS_AT_ONCE):
            block = indices[start : start + _ROWS_AT_ONCE]
            rows = np.stack([arrays[i] for i in block])
            found = _by_formula(rows) if rows.shape[1] >= ANALYTIC_FROM else _bootstrap(rows)
            for index, estimate in zip(block, found, strict=True):
                estimates[index] = estimate
    return [estimate for estimate in estimates if estimate is not None]


def mean_interval(values: ArrayLike) -> Estimate:
    """Mean of one sample with its interval; values that are not finite are left out."""
    return mean_intervals([values])[0]


def pair(first: pd.Series[float], second: pd.Series[float]) -> Pairs:
    """Pair two arms by their index (the seed); seeds with a missing value on either side are lost."""
    first, second = first.dropna(), second.dropna()
    common = first.index.intersection(second.index).sort_values()
    differences = first.loc[common].to_numpy(float) - second.loc[common].to_numpy(float)
    return Pairs(differences, len(first.index.union(second.index)) - len(common))


def paired_difference(first: pd.Series[float], second: pd.Series[float]) -> Estimate:
    """Mean of first minus second over the seeds that both have, with its interval."""
    return mean_interval(pair(first, second).differences)


def share_won(differences: ArrayLike) -> float:
    """Share of pairs with a positive difference, ties counted half.

    Args:
        differences: one for each pair; those that are not finite are left out.

    Returns:
        between 0 and 1; NaN without pairs.
    """
    values = _finite(differences)
    return float(np.mean((values > 0) + 0.5 * (values == 0))) if len(values) else float("nan")


def difference_of_means(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Mean of the first minus mean of the second sample, unpaired, with its interval.

    A single value on either side leaves no interval, because its spread is unknown.
    """
    a, b = _finite(first), _finite(second)
    n = min(len(a), len(b))
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, Interval.NONE)
    value = float(a.mean() - b.mean())
    if n == 1:
        return Estimate(value, float("nan"), float("nan"), 1, Interval.NONE)
    if _all_equal(a) and _all_equal(b):
        return _point(value, n)
    (low,), (high,), (kind,) = _interval((a[None], b[None]), _mean_difference)
    return Estimate(value, float(low), float(high), n, kind)


def expanded_level(n: int) -> float:
    """Level of the percentiles to take of means of n >= 2 resampled values, so that they cover at `CONFIDENCE`."""
    t = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)
    return float(1 - 2 * special.ndtr(-np.sqrt(n / (n - 1)) * t))


def _finite(values: ArrayLike) -> Vector:
    array = np.asarray(values, dtype=np.float64).ravel()
    is_finite = np.isfinite(array)
    return array if is_finite.all() else array[is_finite]


def _all_equal(values: Vector) -> bool:
    # Differences of equal decimals differ in their last bits; accuracies are multiples of 1 / rows, far above this.
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def _without_resampling(values: Vector) -> Estimate | None:
    if len(values) < 2:
        value = float(values[0]) if len(values) else float("nan")
        return Estimate(value, float("nan"), float("nan"), len(values), Interval.NONE)
    if _all_equal(values):
        return _point(float(values[0]), len(values))
    return None


def _point(value: float, n: int) -> Estimate:
    return Estimate(value, value, value, n, Interval.FEW if n < MIN_PAIRS else Interval.POINT)


def _by_formula(rows: Vector) -> list[Estimate]:
    """Mean and ABC interval of every row; rows has shape (rows, n).

    Acceleration and bias correction are both a sixth of the skewness over √n: a mean is linear in the values' weights.
    """
    n = rows.shape[1]
    means = rows.mean(axis=1)
    away = rows - means[:, None]
    powers = away * away
    squares = powers.sum(axis=1)
    powers *= away
    scale, skew = np.sqrt(squares) / n, powers.sum(axis=1) / (6 * squares**1.5)
    z = special.ndtri((1 + expanded_level(n)) / 2)
    low, high = (means + scale * w / (1 - skew * w) ** 2 for w in (skew - z, skew + z))
    ends = zip(means, low, high, strict=True)
    return [Estimate(float(mean), float(one), float(other), n, Interval.BCA) for mean, one, other in ends]


def _bootstrap(rows: Vector) -> list[Estimate]:
    """Mean and interval of every row; rows has shape (rows, n)."""

    def means(places: NDArray[Any], axis: int) -> Vector:
        # Places are resampled instead of values, once for all rows; a mean is then a sum over how often each was drawn.
        draws = places.astype(np.intp).reshape(-1, places.shape[axis])
        offsets = rows.shape[1] * np.arange(len(draws))[:, None]
        counts = np.bincount((draws + offsets).ravel(), minlength=rows.shape[1] * len(draws))
        # Without BLAS: the sum of a row must not depend, in its last bits, on how many rows there are.
        sums = np.einsum("mn,rn->mr", rows, counts.reshape(len(draws), -1).astype(np.float64), optimize=False)
        return np.asarray(sums / draws.shape[1]).reshape(len(rows), *places.shape[:-1])

    lows, highs, kinds = _interval((np.arange(rows.shape[1]),), means)
    return [
        Estimate(float(row.mean()), float(low), float(high), rows.shape[1], kind)
        for row, low, high, kind in zip(rows, lows, highs, kinds, strict=True)
    ]


def _mean_difference(first: Vector, second: Vector, axis: int) -> Vector:
    return np.asarray(first.mean(axis=axis) - second.mean(axis=axis))


def _interval(
    samples: tuple[NDArray[Any], ...], statistic: Callable[..., Vector]
) -> tuple[Vector, Vector, list[Interval]]:
    """Ends of the BCa interval of every value of a statistic, and percentiles where BCa is undefined."""
    fewest = min(sample.shape[-1] for sample in samples)
    level = expanded_level(fewest)
    with warnings.catch_warnings():
        # An undefined correction arrives as NaN and is replaced below.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = scipy.stats.bootstrap(
            samples,
            statistic,
            n_resamples=RESAMPLES,
            batch=_RESAMPLES_AT_ONCE,
            vectorized=True,
            axis=-1,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(_SEED),
        )
    low, high = (np.array(end, dtype=np.float64) for end in result.confidence_interval)
    undefined = ~(np.isfinite(low) & np.isfinite(high))
    if undefined.any():
        tails = [(1 - level) / 2, (1 + level) / 2]
        low[undefined], high[undefined] = np.quantile(result.bootstrap_distribution[undefined], tails, axis=-1)
    if fewest < MIN_PAIRS:
        return low, high, [Interval.FEW] * len(low)
    return low, high, [Interval.PERCENTILE if flag else Interval.BCA for flag in undefined]
