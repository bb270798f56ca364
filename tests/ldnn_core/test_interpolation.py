"""Interpolants against those of scipy, and against what their theory says."""

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline, make_interp_spline

from ldnn_core.interpolation import INTERPOLANTS, Hermite, Polynomial, Spline, polynomial_maker, worst_errors


def wave(points, low=-3.0, high=3.0):
    x = np.linspace(low, high, points)
    return x, np.sin(2 * x) + 0.1 * x**2, 2 * np.cos(2 * x) + 0.2 * x


BETWEEN = np.random.default_rng(0).uniform(-3, 3, 400)
EXACT = (
    np.sin(2 * BETWEEN) + 0.1 * BETWEEN**2,
    2 * np.cos(2 * BETWEEN) + 0.2 * BETWEEN,
    0.2 - 4 * np.sin(2 * BETWEEN),
)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("points", [4, 13, 60])
def test_splines_are_those_of_scipy(degree, points):
    x, y, slopes = wave(points)
    ours, theirs = Spline.through(x, y, slopes, degree=degree), make_interp_spline(x, y, k=degree)
    for order in range(3):
        expected = theirs(BETWEEN, order) if order <= degree else np.zeros_like(BETWEEN)
        np.testing.assert_allclose(ours(BETWEEN, order), expected, atol=1e-10)
    np.testing.assert_allclose(ours(x), y, atol=1e-12)


def test_the_hermite_cubic_is_that_of_scipy():
    x, y, slopes = wave(20)
    ours, theirs = Hermite.through(x, y, slopes), CubicHermiteSpline(x, y, slopes)
    for order in range(3):
        np.testing.assert_allclose(ours(BETWEEN, order), theirs(BETWEEN, order), atol=1e-11)


def test_polynomials_are_nearest_by_least_squares():
    x, y, slopes = wave(40)
    near = Polynomial.near(x, y, slopes, degree=6)
    expected = np.polynomial.Polynomial.fit(x, y, 6)
    for order in range(3):
        found = expected.deriv(order) if order else expected
        np.testing.assert_allclose(near(BETWEEN, order), found(BETWEEN), atol=1e-9)
    cubic = Polynomial.near(x, x**3 - x, slopes, degree=3)
    np.testing.assert_allclose(cubic(BETWEEN, 2), 6 * BETWEEN, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("linear", (2, 1)),
        ("quadratic spline", (3, 2, 1)),
        ("cubic spline", (4, 3, 2)),
        ("cubic Hermite", (4, 3, 2)),
    ],
)
def test_errors_fall_as_fast_as_they_should(name, orders):
    inside = np.abs(BETWEEN) < 2  # splines have larger errors at their ends
    exact = tuple(one[inside] for one in EXACT)
    coarse, fine = (worst_errors(INTERPOLANTS[name](*wave(n)), BETWEEN[inside], exact) for n in (65, 257))
    pairs = [(coarse.value, fine.value), (coarse.slope, fine.slope), (coarse.curvature, fine.curvature)]
    for (before, after), order in zip(pairs, orders, strict=False):
        assert before / after == pytest.approx(4**order, rel=0.35)


def test_polynomials_need_a_high_degree():
    low, high = (worst_errors(polynomial_maker(degree)(*wave(101)), BETWEEN, EXACT).value for degree in (5, 30))
    assert low > 0.3
    assert high < 1e-6


def test_what_has_too_few_points_is_refused():
    x, y, slopes = wave(3)
    with pytest.raises(ValueError, match="1 <= degree <= 3 and degree < points"):
        Spline.through(x, y, slopes, degree=3)
    with pytest.raises(ValueError, match="1 <= degree <= 3"):
        Spline.through(x, y, slopes, degree=4)
    with pytest.raises(ValueError, match="0 <= degree < points"):
        Polynomial.near(x, y, slopes, degree=3)
