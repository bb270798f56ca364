"""Error bounds of lowered activations against measured errors."""

import pytest
import torch

from ldnn_core.activations import TableBank
from ldnn_core.hermite import Grid
from ldnn_core.lowering_error import error_bounds, fourth_derivative, grid_within
from ldnn_core.subnetwork import ActivationSpec, exact_values_and_slopes, initial_genomes

SPECS = [ActivationSpec("sin", 2), ActivationSpec("relu", 1, (5,), 1.0), ActivationSpec("elu", 2, (8, 6), 0.5)]


def measured(spec, genomes, grid):
    rows = genomes.flatten(0, 1)
    x = torch.linspace(*grid.ends, 40_001, dtype=torch.float64).add(1e-4)[:-1].expand(len(rows), -1)
    x = x.clone().requires_grad_()
    value, slope = exact_values_and_slopes(spec, rows, x)
    curvature = torch.autograd.grad(slope.sum(), x)[0]
    a = x.detach().T.unsqueeze(0).contiguous()
    looked_up = TableBank(spec, genomes, grid=grid).value_slope_curvature(a, torch.arange(len(rows)).unsqueeze(0))
    return [float((o[0].T - e.detach()).abs().max()) for o, e in zip(looked_up, (value, slope, curvature), strict=True)]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("scale", [4, 16])
def test_bounds_hold_and_are_not_far_off(spec, scale):
    genomes = 2 * initial_genomes(spec, 0, dtype=torch.float64)
    grid = Grid(scale, 6 * scale, 12 * scale)
    bounds = error_bounds(spec, genomes, grid)
    for error, bound in zip(measured(spec, genomes, grid), (bounds.value, bounds.slope, bounds.curvature), strict=True):
        assert error <= 1.02 * bound
        assert error >= 0.3 * bound


def test_fourth_derivative_of_a_known_function():
    spec = ActivationSpec("sin", 1, (1,))
    assert fourth_derivative(spec, torch.zeros(1, 1, 4), Grid()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_the_grid_follows_from_the_tolerance(tolerance):
    spec = SPECS[0]
    genomes = initial_genomes(spec, 0, dtype=torch.float64)
    grid = grid_within(spec, genomes, tolerance, half_range=6)
    assert grid.ends == (-6.0, 6.0)
    assert measured(spec, genomes, grid)[0] <= tolerance
    coarser = Grid(grid.scale // 2, grid.origin // 2, grid.cells // 2)
    assert grid.scale == 4 or error_bounds(spec, genomes, coarser).value > tolerance


def test_the_range_and_the_grid_of_a_bound_are_those_of_the_spec():
    spec = ActivationSpec("sin", 2, table_range=3.5, table_scale=16)
    genomes = initial_genomes(spec, 0, dtype=torch.float64)
    assert error_bounds(spec, genomes) == error_bounds(spec, genomes, Grid(16, 56, 112))
    assert grid_within(spec, genomes, 1e-6).ends == (-3.5, 3.5)


@pytest.mark.parametrize(("tolerance", "words"), [(0.0, "tolerance > 0"), (1e-30, "at most 4096 cells per unit")])
def test_tolerances_that_cannot_be_kept_are_refused(tolerance, words):
    with pytest.raises(ValueError, match=words):
        grid_within(SPECS[0], initial_genomes(SPECS[0], 0), tolerance)
