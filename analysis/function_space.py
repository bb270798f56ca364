"""How far apart learned functions are, and how odd: root mean squares over pre-activations.

Pre-activations of a freshly initialised layer are about standard normal, so a difference counts where it is felt.
Those of trained networks are measured (column ``preactivation_density`` of evaluations), and a distance can be taken
under that density too: two types may differ where no unit ever is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Final

import numpy as np
import pandas as pd
import scipy

from analysis.statistics import Vector

TYPE: Final = ["method", "trial_id", "type_index"]
"""Columns that name one learned function within a run."""

DENSITY_ENDS: Final = (-8.0, 8.0)
"""Between which pre-activations a measured density lies, in equal bins."""

PARITY_ENDS: Final = (-2.0, 2.0)
"""Where odd and even energy are taken."""

_POINTS_PER_BIN: Final = 16
_POINTS_OF_PARITY: Final = 400


def curve_points(activations: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows of the table activations as one row per point: the given columns, ``x`` and ``y``."""
    parts = [
        pd.DataFrame({"x": np.linspace(row["x_min"], row["x_max"], len(row["curve"])), "y": row["curve"]}).assign(
            **{column: row[column] for column in columns}
        )
        for row in activations.to_dict("records")
    ]
    wanted = [*columns, "x", "y"]
    return pd.concat(parts, ignore_index=True)[wanted] if parts else pd.DataFrame(columns=wanted)


def smooth_curve(points: pd.DataFrame) -> scipy.interpolate.Akima1DInterpolator:
    """The curve through points x, y: between them a cubic that hardly overshoots at kinks, unlike other splines."""
    return scipy.interpolate.Akima1DInterpolator(
        points["x"].to_numpy(float), points["y"].to_numpy(float), method="makima"
    )


def curve_distances(curves: pd.DataFrame) -> pd.DataFrame:
    """Distances of all pairs of functions, as a square frame whose rows and columns are labelled by `TYPE`.

    Args:
        curves: points ``x``, ``y`` of one curve for each `TYPE`, all on the same points.
    """
    x = np.unique(curves["x"].to_numpy(float))
    weights = np.exp(-0.5 * x * x)
    return _distances(curves, x, weights / weights.sum())


def set_distance(distances: pd.DataFrame, one: str, other: str) -> float:
    """How far apart two sets of equally many types are: root mean square over types, matched as well as can be.

    Args:
        distances: of `curve_distances`.
        one: trial of the one set.
        other: trial of the other.

    Raises:
        ValueError: the sets have different numbers of types.
    """
    rows = distances.index.get_level_values("trial_id")
    table: Vector = distances.to_numpy()[np.ix_(rows == one, rows == other)]
    first, second = table.shape
    if first != second:
        raise ValueError(f"sets must have equally many types to be matched, but {one} has {first}, {other} {second}")
    matched = [np.square(table[range(first), order]).mean() for order in map(list, permutations(range(first)))]
    return float(np.sqrt(min(matched)))


def measured_distances(curves: pd.DataFrame, density: Sequence[float] | Vector) -> pd.DataFrame:
    """Distances of all pairs of functions under a measured density: root mean square differences.

    Between the points of a curve the function is a straight line.

    Args:
        curves: points ``x``, ``y`` of one curve for each `TYPE`.
        density: shares of pre-activations in equal bins of `DENSITY_ENDS`, e.g. of `mean_density`.

    Returns:
        a square frame whose rows and columns are labelled by `TYPE`, as of `curve_distances`.

    Raises:
        ValueError: the shares are no density.
    """
    shares = np.asarray(density, dtype=float)
    if shares.ndim != 1 or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError("a density must be shares >= 0 that are not all 0, and finite")
    low, high = DENSITY_ENDS
    places = low + (high - low) * _midpoints(len(shares) * _POINTS_PER_BIN)
    weights = np.repeat(shares / (shares.sum() * _POINTS_PER_BIN), _POINTS_PER_BIN)
    return _distances(curves, places, weights)


def mean_density(evaluations: pd.DataFrame) -> Vector | None:
    """The measured density of the pre-activations of networks, their mean; None where it was not measured.

    Args:
        evaluations: rows whose networks are meant, e.g. those of one arm at one size.
    """
    measured = [np.asarray(one, dtype=float) for one in evaluations["preactivation_density"] if one is not None]
    known = [one for one in measured if one.ndim == 1 and len(one)]  # a missing list can also be a NaN
    return np.mean(known, axis=0) if known else None


def parities(curves: pd.DataFrame) -> pd.DataFrame:
    """How odd and how even functions are on `PARITY_ENDS`: frame by `TYPE`, columns ``odd``, ``even``, ``odd_share``.

    The energies are the mean squares of (f(x) - f(-x)) / 2 and of (f(x) + f(-x)) / 2; together they are that of f.  The
    share is odd / (odd + even), NaN for a function that is zero there.

    Args:
        curves: points ``x``, ``y`` of one curve for each `TYPE`.
    """
    low, high = PARITY_ENDS
    places = low + (high - low) * _midpoints(_POINTS_OF_PARITY)
    labels, values = _values_at(curves, places)
    mirrored = values[:, ::-1]  # the places are symmetric
    odd = np.square((values - mirrored) / 2).mean(axis=1)
    even = np.square((values + mirrored) / 2).mean(axis=1)
    total = odd + even
    share = np.divide(odd, total, out=np.full_like(odd, np.nan), where=total > 0)
    return pd.DataFrame({"odd": odd, "even": even, "odd_share": share}, index=labels)


def _midpoints(count: int) -> Vector:
    middles: Vector = (np.arange(count) + 0.5) / count
    return middles


def _distances(curves: pd.DataFrame, places: Vector, weights: Vector) -> pd.DataFrame:
    """Root mean square differences of all pairs of functions; the weights of the places (places,) add to one."""
    labels, values = _values_at(curves, places)
    squares = np.square(values[:, None] - values[None]) @ weights
    return pd.DataFrame(np.sqrt(squares), index=labels, columns=labels)


def _values_at(curves: pd.DataFrame, places: Vector) -> tuple[pd.MultiIndex, Vector]:
    """Labels of the functions, and their values (functions, places) by straight lines between points."""
    by_type = list(curves.sort_values([*TYPE, "x"]).groupby(TYPE, sort=True))
    values = [np.interp(places, own["x"].to_numpy(float), own["y"].to_numpy(float)) for _, own in by_type]
    labels = pd.MultiIndex.from_tuples([key for key, _ in by_type], names=TYPE)
    return labels, np.stack(values)
