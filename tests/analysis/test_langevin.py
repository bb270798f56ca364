"""The toy landscape against finite differences and the closed form of its stationary density."""

import numpy as np
import pytest

from analysis.langevin import CENTRES, SPREADS, curvature, gradient, in_flat_minimum, loss, noisy_descents

POINTS = np.random.default_rng(2).uniform(-2, 2, size=(2, 50))
STEP = 1e-5


def test_the_gradient_is_that_of_the_loss():
    x, y = POINTS
    across = (loss(x + STEP, y) - loss(x - STEP, y)) / (2 * STEP)
    up = (loss(x, y + STEP) - loss(x, y - STEP)) / (2 * STEP)
    found = gradient(x, y)
    assert found[0] == pytest.approx(across, abs=1e-6)
    assert found[1] == pytest.approx(up, abs=1e-6)


@pytest.mark.parametrize("place", [0, 1])
def test_the_curvature_at_a_minimum_is_that_of_the_loss(place):
    x, y = (np.array([value]) for value in CENTRES[place])
    second = (gradient(x + STEP, y)[0] - gradient(x - STEP, y)[0]) / (2 * STEP)
    assert curvature(x, y) == pytest.approx(1 / SPREADS[place] ** 2, rel=0.02)
    assert second == pytest.approx(1 / SPREADS[place] ** 2, rel=0.02)
    assert loss(x, y) == pytest.approx(0, abs=0.01)


def test_even_noise_ends_in_the_stationary_density():
    # With D = 1 it is a mixture of two normal densities of weights s², so the flat minimum has s₂² / (s₁² + s₂²) of the
    # paths, less what of each bell lies nearer to the other minimum: drawn here from the mixture itself.
    rng = np.random.default_rng(3)
    weights = np.square(SPREADS) / np.square(SPREADS).sum()
    which = rng.choice(2, size=200_000, p=weights)
    drawn = np.array(CENTRES)[which] + rng.normal(size=(200_000, 2)) * np.array(SPREADS)[which, None]
    expected = in_flat_minimum(drawn[:, 0], drawn[:, 1]).mean()
    paths = noisy_descents("the same everywhere", diffusion=1.0, paths=400, steps=4000, every=100)
    late = paths[paths["time"] > 8]
    found = in_flat_minimum(late["x"].to_numpy(), late["y"].to_numpy()).mean()
    # 400 paths, each about independent once or twice in that time: a standard error of about 1.5 %.
    assert found == pytest.approx(expected, abs=0.05)


def test_paths_start_in_the_sharp_minimum():
    paths = noisy_descents("aligned with the Hessian", paths=3, steps=10, every=5)
    start = paths[paths["time"] == 0]
    assert start[["x", "y"]].to_numpy().tolist() == [list(CENTRES[0])] * 3
    assert sorted(set(paths["time"])) == pytest.approx([0, 0.02, 0.04])
