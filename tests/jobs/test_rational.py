"""Derivatives of rational functions against closed forms."""

import numpy as np
import pytest

from jobs.rational import Rational

X = np.linspace(-5, 5, 101)
BETWEEN = np.linspace(-4.97, 4.97, 334)  # none of them in X


def test_a_rational_function_is_found_again_with_its_derivatives():
    found = Rational.near(X, 1 / (1 + X**2), X)
    assert found.degree == 2
    d = 1 + BETWEEN**2
    expected = (1 / d, -2 * BETWEEN / d**2, (6 * BETWEEN**2 - 2) / d**3)
    for order, exact in enumerate(expected):
        np.testing.assert_allclose(found(BETWEEN, order), exact, atol=1e-9)


def test_a_smooth_function_is_approximated_with_its_derivatives():
    found = Rational.near(X, np.tanh(X), X)
    t = np.tanh(BETWEEN)
    for order, exact in enumerate((t, 1 - t**2, -2 * t * (1 - t**2))):
        assert np.abs(found(BETWEEN, order) - exact).max() < 1e-7


@pytest.mark.parametrize("points", [5, 9])
def test_too_few_points_make_no_noise(points):
    x = np.linspace(-5, 5, points)
    assert np.isfinite(Rational.near(x, np.sin(3 * x), x)(BETWEEN)).all()
