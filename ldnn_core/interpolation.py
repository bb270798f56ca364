"""Ways to hold a function that is known at n equally spaced points, with their first two derivatives.

These are the choices of the paper's supplement (VII.D).  What the engine uses is the cubic Hermite table, which needs
slopes at the points as well (`ldnn_core.hermite`); the others need values alone.  An interpolant is made by a `Maker`
from points x (n,), values y (n,) and slopes (n,), and answers at any points of [x[0], x[-1]].  All is NumPy in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import torch
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

from ldnn_core import hermite_arithmetic as arithmetic
from ldnn_core.hermite import Grid

Reals = NDArray[np.float64]


class Interpolant(Protocol):
    """A function on an interval."""

    def __call__(self, x: Reals, order: int = 0) -> Reals:
        """Its derivative of an order from 0 to 2 at the points x."""
        ...


Maker = Callable[[Reals, Reals, Reals], Interpolant]


@dataclass(frozen=True)
class Spline:
    """A polynomial spline of a degree from B-splines (de Boor 1978).

    Attributes:
        knots: (n + degree + 1,), in rising order.
        weights: of the n B-splines.
        degree: of the pieces.
    """

    knots: Reals
    weights: Reals
    degree: int

    @staticmethod
    def through(x: Reals, y: Reals, slopes: Reals, *, degree: int) -> Spline:
        """The spline of degree 1 to 3 through the points; the slopes are not used.

        Its knots are those of the points, of degree 2 the middles between them; of degrees 2 and 3 the first and last
        knots inside are left out, so that there are as many B-splines as points (not-a-knot).

        Raises:
            ValueError: another degree, or not more points than the degree.
        """
        if degree not in (1, 2, 3) or len(x) <= degree:
            raise ValueError(f"1 <= degree <= 3 and degree < points must hold, but got ({degree=}, points={len(x)})")
        middle = (x[1:] + x[:-1]) / 2
        inside = {1: x[1:-1], 2: middle[1:-1], 3: x[2:-2]}[degree]
        ends = np.ones(degree + 1)
        knots = np.concatenate([x[0] * ends, inside, x[-1] * ends])
        cell, basis = _basis(knots, degree, x)
        collocation = np.zeros((len(x), len(x)))
        for j in range(degree + 1):
            collocation[np.arange(len(x)), cell - degree + j] = basis[:, j]
        return Spline(knots, np.asarray(np.linalg.solve(collocation, y), np.float64), degree)

    def __call__(self, x: Reals, order: int = 0) -> Reals:
        """The derivative; of a degree below the order zero, at a knot the one to the right."""
        if order > self.degree:
            return np.zeros_like(x)
        if order:
            return self._derivative()(x, order - 1)
        cell, basis = _basis(self.knots, self.degree, x)
        used = self.weights[cell[:, None] - self.degree + np.arange(self.degree + 1)]
        return np.asarray((used * basis).sum(axis=1))

    def _derivative(self) -> Spline:
        k, t = self.degree, self.knots
        return Spline(t[1:-1], k * np.diff(self.weights) / (t[k + 1 : -1] - t[1 : -k - 1]), k - 1)


def _basis(knots: Reals, degree: int, x: Reals) -> tuple[NDArray[np.int64], Reals]:
    """The knot left of each point, and its degree + 1 B-splines that are not zero there, (points, degree + 1)."""
    cell = np.clip(np.searchsorted(knots, x, side="right") - 1, degree, len(knots) - degree - 2).astype(np.int64)
    basis = np.ones((len(x), 1))
    for k in range(1, degree + 1):
        j = np.arange(k)
        left, right = knots[cell[:, None] + 1 - k + j], knots[cell[:, None] + 1 + j]
        share = basis / (right - left)
        grown = np.zeros((len(x), k + 1))
        grown[:, :-1] = share * (right - x[:, None])
        grown[:, 1:] += share * (x[:, None] - left)
        basis = grown
    return cell, basis


@dataclass(frozen=True)
class Hermite:
    """The engine's table: on each cell the cubic with the values and slopes of its ends.

    Attributes:
        low: the first point.
        step: between points.
        coefficients: (1, n - 1, 4), see `ldnn_core.hermite`; in units of the step.
    """

    low: float
    step: float
    coefficients: torch.Tensor

    @staticmethod
    def through(x: Reals, y: Reals, slopes: Reals) -> Hermite:
        """The table through points at equal steps."""
        step = float(x[-1] - x[0]) / (len(x) - 1)
        values, rises = (torch.from_numpy(one).unsqueeze(0) for one in (y, slopes * step))
        return Hermite(float(x[0]), step, Grid(1, 0, len(x) - 1).coefficients(values, rises))

    def __call__(self, x: Reals, order: int = 0) -> Reals:
        """The derivative; at a point where cells meet the one to the right."""
        a = torch.from_numpy((x - self.low) / self.step)
        found = arithmetic.derivative(a, self.coefficients, 0, 1, 0, self.coefficients.shape[1], order)
        return np.asarray(found.numpy() / self.step**order)


@dataclass(frozen=True)
class Polynomial:
    """One polynomial for the whole interval, in Chebyshev's basis.

    Attributes:
        series: on the interval.
    """

    series: Chebyshev

    @staticmethod
    def near(x: Reals, y: Reals, slopes: Reals, *, degree: int) -> Polynomial:
        """The polynomial that is nearest to the points by least squares; the slopes are not used.

        Raises:
            ValueError: not more points than the degree, so that many polynomials are equally near.
        """
        if not 0 <= degree < len(x):
            raise ValueError(f"0 <= degree < points must hold, but got ({degree=}, points={len(x)})")
        return Polynomial(Chebyshev.fit(x, y, degree))

    def __call__(self, x: Reals, order: int = 0) -> Reals:
        """The derivative."""
        series = self.series.deriv(order) if order else self.series
        return np.asarray(series(x), dtype=np.float64)


INTERPOLANTS: Final[dict[str, Maker]] = {
    "linear": partial(Spline.through, degree=1),
    "quadratic spline": partial(Spline.through, degree=2),
    "cubic spline": partial(Spline.through, degree=3),
    "cubic Hermite": Hermite.through,
}
"""By name, those whose error falls as points are added."""

DEGREES: Final = (5, 10, 20, 40)
"""Of polynomials that are compared with them."""


def polynomial_maker(degree: int) -> Maker:
    """Polynomials of a degree by least squares."""
    return partial(Polynomial.near, degree=degree)


@dataclass(frozen=True)
class Worst:
    """The largest errors of an interpolant: of value, slope and second derivative."""

    value: float
    slope: float
    curvature: float


def worst_errors(interpolant: Interpolant, x: Reals, exact: tuple[Reals, Reals, Reals]) -> Worst:
    """The errors at points x, where value, slope and second derivative are known."""
    return Worst(*(float(np.abs(interpolant(x, order) - exact[order]).max()) for order in range(3)))
