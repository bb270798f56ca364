"""How far apart learned functions are: root mean square differences under the standard normal density.

Pre-activations of a freshly initialised layer are about standard normal, so a difference counts where it is felt.
"""

from __future__ import annotations

from itertools import permutations
from typing import Final

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from analysis.statistics import Vector

TYPE: Final = ["method", "trial_id", "type_index"]
"""Columns that name one learned function within a run."""


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


def curve_distances(curves: pd.DataFrame) -> pd.DataFrame:
    """Distances of all pairs of functions, as a square frame whose rows and columns are labelled by `TYPE`.

    Args:
        curves: points ``x``, ``y`` of one curve for each `TYPE`, all on the same points.
    """
    by_type = list(curves.sort_values([*TYPE, "x"]).groupby(TYPE, sort=True))
    values = np.stack([own["y"].to_numpy(float) for _, own in by_type])
    x = by_type[0][1]["x"].to_numpy(float)
    weights = np.exp(-0.5 * x * x)
    squares = np.square(values[:, None] - values[None]) @ (weights / weights.sum())
    labels = pd.MultiIndex.from_tuples([key for key, _ in by_type], names=TYPE)
    return pd.DataFrame(np.sqrt(squares), index=labels, columns=labels)


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


def odd_share(x: Vector, y: Vector, limit: float) -> float:
    """Odd part of a curve's energy on [-limit, limit]: ∫ f_odd² / ∫ f², by trapezoids between interpolated points.

    With f_odd(x) = (f(x) - f(-x)) / 2 and the rest even the two energies add up, and a constant counts as even.  NaN
    for a curve that is zero there.

    Args:
        x: rising, beyond ``limit`` on both sides.
        y: the curve at x.
        limit: half the length of the interval.
    """
    grid = np.linspace(-limit, limit, 801)
    values = Akima1DInterpolator(x, y, method="makima")(grid)
    odd = (values - values[::-1]) / 2
    energy = float(np.trapezoid(np.square(values), grid))
    return float(np.trapezoid(np.square(odd), grid)) / energy if energy > 0 else float("nan")
