"""Rational functions through points, by the AAA algorithm (Nakatsukasa, Sète & Trefethen 2018), with derivatives."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Rational:
    """A rational function in barycentric form.

    Attributes:
        at: support points.
        values: of the function there.
        weights: of the barycentric form.
    """

    at: Reals
    values: Reals
    weights: Reals

    @staticmethod
    def near(x: Reals, y: Reals, slopes: Reals) -> Rational:
        """The function of the lowest degree that AAA finds within 1e-13 of the points; the slopes are not used."""
        from scipy.interpolate import AAA

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # too few points to get so near: its errors will say it
            found = AAA(x, y, rtol=1e-13)
        return Rational(*(np.asarray(one) for one in (found.support_points, found.support_values, found.weights)))

    @property
    def degree(self) -> int:
        """Of numerator and denominator."""
        return len(self.at) - 1

    def __call__(self, x: Reals, order: int = 0) -> Reals:
        """The derivative of an order from 0 to 2, from divided differences (Schneider & Werner 1986).

        No point may be a support point.
        """
        away = x[:, None] - self.at
        cauchy = self.weights / away
        found = cauchy @ self.values / cauchy.sum(1)
        differences = np.broadcast_to(self.values, away.shape)
        for d in range(order):
            differences = (found[:, None] - differences) / away
            found = (d + 1) * (cauchy * differences).sum(1) / cauchy.sum(1)
        return np.asarray(found)
