"""Interpolants against the engine's table, and against what their theory says."""

import numpy as np
import pytest
import torch

from jobs.interpolation import MAKERS, hermite, polynomial, spline, worst_errors
from ldnn_core import hermite_arithmetic
from ldnn_core.hermite import Grid


def wave(points, low=-3.0, high=3.0):
    x = np.linspace(low, high, points)
    return x, np.sin(2 * x) + 0.1 * x**2, 2 * np.cos(2 * x) + 0.2 * x


BETWEEN = np.random.default_rng(0).uniform(-3, 3, 400)
EXACT = (
    np.sin(2 * BETWEEN) + 0.1 * BETWEEN**2,
    2 * np.cos(2 * BETWEEN) + 0.2 * BETWEEN,
    0.2 - 4 * np.sin(2 * BETWEEN),
)


def test_the_hermite_cubic_is_the_table_of_the_engine():
    x, y, slopes = wave(25)  # cells of a quarter
    grid = Grid(4, 12, 24)
    table = grid.coefficients(*(torch.from_numpy(one).unsqueeze(0) for one in (y, slopes)))
    for order in range(3):
        engine = hermite_arithmetic.derivative(torch.from_numpy(BETWEEN), table, 0, 4, 12, 24, order)
        np.testing.assert_allclose(hermite(x, y, slopes)(BETWEEN, order), engine.numpy(), atol=1e-11)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_spline_meets_its_points_and_is_exact_for_polynomials_of_its_degree(degree):
    x, y, slopes = wave(13)
    np.testing.assert_allclose(spline(x, y, slopes, degree=degree)(x, 0), y, atol=1e-12)
    power = spline(x, x**degree, slopes, degree=degree)
    exact = np.polynomial.Polynomial.basis(degree)
    for order in range(3):
        np.testing.assert_allclose(power(BETWEEN, order), exact.deriv(order)(BETWEEN), atol=1e-10)


def test_polynomials_are_nearest_by_least_squares():
    x, y, slopes = wave(40)
    near = polynomial(x, y, slopes, degree=6)
    expected = np.polynomial.Polynomial.fit(x, y, 6)
    for order in range(3):
        np.testing.assert_allclose(near(BETWEEN, order), expected.deriv(order)(BETWEEN), atol=1e-9)
    cubic = polynomial(x, x**3 - x, slopes, degree=3)
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
    coarse, fine = (worst_errors(MAKERS[name](*wave(n)), BETWEEN[inside], exact) for n in (65, 257))
    pairs = [(coarse.value, fine.value), (coarse.slope, fine.slope), (coarse.curvature, fine.curvature)]
    for (before, after), order in zip(pairs, orders, strict=False):
        assert before / after == pytest.approx(4**order, rel=0.35)


def test_polynomials_need_a_high_degree():
    low, high = (worst_errors(polynomial(*wave(101), degree=degree), BETWEEN, EXACT).value for degree in (5, 30))
    assert low > 0.3
    assert high < 1e-6


@pytest.mark.parametrize("make", [spline, polynomial])
def test_what_has_too_few_points_is_refused(make):
    with pytest.raises(ValueError, match=r"degree < points must hold, but got \(degree=3, points=3\)"):
        make(*wave(3), degree=3)
