"""Optima that are known are found, to a precision and within a budget.

Ten weights, twelve candidates a generation, losses of 0.3 to 4000 at the start.  Candidates are float32, so that no
loss can fall below about 1e-14 times the largest curvature.
"""

import pytest

from tests.ldnn_core.algorithms.cases import SMALL, Quadratic, losses_of_incumbent, make, run

SEEDS = (0, 1)
WIDE = {"mutation_scale": 0.3}


def final_loss(name, generations, seed, *, condition=1.0, rotated=False, **options):
    loss = Quadratic(SMALL, condition=condition, rotated=rotated)
    return losses_of_incumbent(run(make(name, seed, SMALL, **options), loss, generations), loss)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "options", "precision"),
    [
        ("genetic", WIDE, 1e-8),
        ("genetic", {"mutation": "function"}, 1e-6),
        ("openai_es", {"mean_lr": 0.03}, 1e-2),  # its steps do not shrink
        ("snes", WIDE, 1e-9),
        ("sep_cma_es", WIDE, 1e-9),
        ("cma_es", WIDE, 1e-9),
    ],
)
def test_sphere(name, options, precision, seed):
    assert final_loss(name, 200, seed, **options) < precision


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["snes", "sep_cma_es", "cma_es"])
def test_ellipsoid_of_condition_ten_thousand(name, seed):
    assert final_loss(name, 500, seed, condition=1e4, **WIDE) < 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_ellipsoid_of_condition_hundred_by_small_fixed_steps(seed):
    assert final_loss("openai_es", 400, seed, condition=100.0, mutation_scale=0.03, mean_lr=0.01) < 1e-2


@pytest.mark.parametrize("seed", SEEDS)
def test_rotated_ellipsoid_needs_the_full_covariance(seed):
    rotated = {"condition": 1e4, "rotated": True}
    assert final_loss("cma_es", 500, seed, **rotated, **WIDE) < 1e-9
    assert final_loss("sep_cma_es", 500, seed, **rotated, **WIDE) > 1e-3
