"""``ldnn interpolate``: how well other ways to hold a function would serve the functions of a card.

They are the choices of the paper's supplement (VII.D) and AAA.  What the engine uses is the cubic Hermite table, which
needs slopes at the points as well (`ldnn_core.hermite`); the others need values alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.polynomial import Chebyshev

from jobs.errors import InputError
from jobs.rational import Rational, Reals
from jobs.terminal import print_json, print_table
from ldnn_core.card import ActivationCard
from ldnn_core.card_file import read_card
from ldnn_core.card_rules import CardError
from ldnn_core.subnetwork import exact_values_and_slopes

Interpolant = Callable[[Reals, int], Reals]
"""Points of an interval and an order from 0 to 2 → that derivative at them."""
Maker = Callable[[Reals, Reals, Reals], Interpolant]
"""Points x (n,) in rising order, values (n,) and slopes (n,) → a function on [x[0], x[-1]]."""

POINTS: Final = (26, 51, 101, 201, 401, 1281)
"""Known points; 101 are the paper's hundred intervals, 1281 the engine's table on [-10, 10]."""
_BETWEEN: Final = 20_000


def spline(x: Reals, y: Reals, slopes: Reals, *, degree: int) -> Interpolant:
    """The spline of degree 1 to 3 through the points, not-a-knot at its ends; the slopes are not used.

    Raises:
        ValueError: not more points than the degree.
    """
    from scipy.interpolate import make_interp_spline

    _check_points(degree, len(x))
    return make_interp_spline(x, y, k=degree)


def hermite(x: Reals, y: Reals, slopes: Reals) -> Interpolant:
    """The engine's function: between two points the cubic with the values and slopes of both."""
    from scipy.interpolate import CubicHermiteSpline

    return CubicHermiteSpline(x, y, slopes)


def polynomial(x: Reals, y: Reals, slopes: Reals, *, degree: int) -> Interpolant:
    """One polynomial, the nearest to the points by least squares; the slopes are not used.

    Raises:
        ValueError: not more points than the degree, so that many polynomials are equally near.
    """
    _check_points(degree, len(x))
    series = Chebyshev.fit(x, y, degree)
    return lambda at, order: np.asarray(series.deriv(order)(at), np.float64)


def _check_points(degree: int, points: int) -> None:
    if points <= degree:
        raise ValueError(f"degree < points must hold, but got ({degree=}, {points=})")


MAKERS: Final[dict[str, Maker]] = {
    "linear": partial(spline, degree=1),
    "quadratic spline": partial(spline, degree=2),
    "cubic spline": partial(spline, degree=3),
    "cubic Hermite": hermite,
    **{f"polynomial, degree {degree}": partial(polynomial, degree=degree) for degree in (5, 10, 20, 40)},
    "rational (AAA)": Rational.near,
}
"""Every way that is compared, by name."""


@dataclass(frozen=True)
class Worst:
    """The largest errors of an interpolant: of value, slope and second derivative."""

    value: float
    slope: float
    curvature: float


def worst_errors(interpolant: Interpolant, x: Reals, exact: tuple[Reals, Reals, Reals]) -> Worst:
    """The errors at points x, where value, slope and second derivative are known."""
    return Worst(*(float(np.abs(interpolant(x, order) - exact[order]).max()) for order in range(3)))


def show_interpolation(path: Path, points: tuple[int, ...], *, as_json: bool) -> None:
    """Print the errors of all interpolants of a card's functions.

    Raises:
        InputError: the card cannot be read, or is not sound.
    """
    try:
        card = read_card(path)
    except (CardError, OSError) as error:
        raise InputError(str(error)) from error
    rows = interpolation_rows(card, points)
    if as_json:
        print_json(rows)
        return
    low, high = card.spec.grid.ends
    numbers = ("points", "value", "slope", "second derivative")
    cells = [
        (row["interpolant"], str(row["points"]), *(f"{row[name]:.1e}" for name in ("value", "slope", "curvature")))
        for row in rows
    ]
    title = f"largest errors on [{low:g}, {high:g}] of any type"
    print_table(("interpolant", *numbers), cells, title=title, right=numbers, whole=("interpolant",))


def interpolation_rows(card: ActivationCard, points: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row per interpolant and number of points: the errors of the worst of the card's types.

    A polynomial or a spline that needs more points than there are has no row.
    """
    low, high = card.spec.grid.ends
    # An irrational share of a step, so that none of these points is a known one.
    between = low + (np.arange(_BETWEEN) + 0.5**0.5) / _BETWEEN * (high - low)
    exact = exact_functions(card, between)
    rows: list[dict[str, Any]] = []
    for name, make in MAKERS.items():
        for count in points:
            x = np.linspace(low, high, count)
            values, slopes, _ = exact_functions(card, x)
            try:
                made = [make(x, y, s) for y, s in zip(values, slopes, strict=True)]
            except ValueError:
                continue
            errors = [
                worst_errors(own, between, (value, slope, curvature))
                for own, value, slope, curvature in zip(made, *exact, strict=True)
            ]
            rows.append({"interpolant": name, "points": count, **asdict(_worst(errors))})
    return rows


def exact_functions(card: ActivationCard, x: Reals) -> tuple[Reals, Reals, Reals]:
    """Value, slope and second derivative of the sub-networks at points (n,), each (K, n)."""
    with torch.enable_grad():
        a = torch.from_numpy(x).expand(card.spec.num_types, -1).clone().requires_grad_()
        value, slope = exact_values_and_slopes(card.spec, card.genomes, a)
        (curvature,) = torch.autograd.grad(slope.sum(), a)
    return value.detach().numpy(), slope.detach().numpy(), curvature.numpy()


def _worst(errors: list[Worst]) -> Worst:
    return Worst(*(max(getattr(one, name) for one in errors) for name in ("value", "slope", "curvature")))
