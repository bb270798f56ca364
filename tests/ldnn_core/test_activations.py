"""Sub-networks, tables and layouts against each other and against closed forms."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ldnn_core.activations import BankActivation, ExactBank, TableBank, UsualActivation, mixed_functions, pure_functions
from ldnn_core.base_functions import BASE_FUNCTIONS, base_function
from ldnn_core.hermite import FUSED_AVAILABLE, Grid, HermiteTable
from ldnn_core.layout import mixed_types, type_sizes
from ldnn_core.look_up import look_up
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, exact_values, exact_values_and_slopes, initial_bounds, initial_genomes
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case

SPECS = [ActivationSpec("sin", 2), ActivationSpec("zero", 3, (5,), 1.0), ActivationSpec("elu", 1, (8, 6), 0.2)]


def grid(spec, sets=1, points=800, width=9.9):  # an even number: the curvature of elu jumps at 0
    rows = spec.num_types * sets
    return torch.linspace(-width, width, points, dtype=torch.float64).expand(rows, -1).contiguous()


@pytest.mark.parametrize("name", BASE_FUNCTIONS)
def test_slope_of_every_base_function_equals_autograd(name):
    x = torch.linspace(-4, 4, 401, dtype=torch.float64).add_(1e-3).requires_grad_()
    function = base_function(name)
    y = function.value(x)
    slope = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)
    torch.testing.assert_close(function.slope(x.detach()), slope, rtol=1e-10, atol=1e-12)


def test_hat_is_a_bump_between_zero_and_two():
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    assert base_function("hat").value(x).tolist() == [0, 0, 0.5, 1, 0.5, 0, 0]


def test_unknown_base_function_names_all():
    with pytest.raises(ValueError, match=r"must be one of zero, identity, .* hat, but got 'rellu'"):
        base_function("rellu")


def test_exact_value_is_the_formula_of_the_paper():
    spec = ActivationSpec("tanh", 1, (3,), 0.2)
    w1, b1, w2, b2 = np.array([1.0, -2.0, 0.5]), np.array([0.1, 0.2, -0.3]), np.array([0.7, -0.4, 1.5]), 0.25
    genome = torch.tensor(np.concatenate([w1, b1, w2, [b2]])).unsqueeze(0)
    x = np.linspace(-3, 3, 7)
    expected = np.tanh(x) + 0.2 * (np.tanh(np.outer(x, w1) + b1) @ w2 + b2)
    np.testing.assert_allclose(exact_values(spec, genome, torch.tensor(x).unsqueeze(0))[0], expected, rtol=1e-14)


@pytest.mark.parametrize("spec", SPECS)
def test_exact_slope_equals_autograd(spec):
    genomes = initial_genomes(spec, 0, dtype=torch.float64).flatten(0, 1)
    x = grid(spec).requires_grad_()
    value, slope = exact_values_and_slopes(spec, genomes, x)
    torch.testing.assert_close(slope, torch.autograd.grad(value.sum(), x, retain_graph=True)[0], rtol=1e-10, atol=1e-12)


def test_types_start_different_and_seeds_repeat():
    spec = ActivationSpec("sin", 3)
    first, again, other = initial_genomes(spec, 7), initial_genomes(spec, 7), initial_genomes(spec, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert all(not torch.equal(first[0, i], first[0, j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert (first.abs() <= initial_bounds(spec)).all()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("dtype", "bounds"), [(torch.float64, (1e-8, 1e-6, 3e-4)), (torch.float32, (1e-6, 1e-5, 1e-3))], ids=["f64", "f32"]
)
def test_table_equals_exact_in_value_slope_and_curvature(spec, dtype, bounds):
    genomes = initial_genomes(spec, 3, sets=2, dtype=torch.float64)
    x = grid(spec, sets=2).to(dtype).double().requires_grad_()
    value, slope = exact_values_and_slopes(spec, genomes.flatten(0, 1), x)
    curvature = torch.autograd.grad(slope.sum(), x)[0]
    rows = 2 * spec.num_types
    a = x.detach().T.unsqueeze(0).to(dtype).contiguous()  # one network, a unit per function
    looked_up = TableBank(spec, genomes.to(dtype)).value_slope_curvature(a, torch.arange(rows).unsqueeze(0))
    for ours, exact, bound in zip(looked_up, (value, slope, curvature), bounds, strict=True):
        assert (ours[0].T.double() - exact).abs().max() <= bound


@pytest.mark.skipif(not FUSED_AVAILABLE, reason="numba is not installed, so there are no compiled kernels to compare")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_look_up_equals_the_eager_one(dtype):
    source = generator(0, "look-up")
    coefficients = torch.randn(3, 24, 4, generator=source, dtype=torch.float64).to(dtype)
    grid = Grid(scale=4, origin=12, cells=24)
    a = (4 * torch.randn(2, 50, 6, generator=source, dtype=torch.float64)).to(dtype)
    function = torch.randint(3, (2, 6), generator=source)
    fused, eager = HermiteTable(coefficients, grid), HermiteTable(coefficients, grid, fused=False)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-11}
    for ours, expected in zip(
        fused.value_slope_curvature(a, function), eager.value_slope_curvature(a, function), strict=True
    ):
        torch.testing.assert_close(ours, expected, **tolerance)
    for ours, expected in zip(fused.value_slope(a, function), eager.value_slope(a, function), strict=True):
        torch.testing.assert_close(ours, expected, **tolerance)
    c0, c1 = torch.randn_like(a), torch.randn_like(a)
    outs = [torch.zeros_like(coefficients) for _ in range(2)]
    fused.add_cotangent(outs[0], a, function, c0, c1)
    eager.add_cotangent(outs[1], a, function, c0, c1)
    torch.testing.assert_close(*outs, **tolerance)


@pytest.mark.parametrize("fused", [True, False])
def test_table_is_straight_outside_and_keeps_what_is_not_finite(fused):
    grid = Grid(scale=4, origin=4, cells=8)
    knots = torch.randn(2, 1, 9, dtype=torch.float64, generator=generator(0, "knots"))
    table = HermiteTable(grid.coefficients(*knots), grid, fused=fused)
    a = torch.tensor([-3.0, 2.5, float("nan"), float("inf")], dtype=torch.float64).view(1, 4, 1)
    y, dy, ddy = (t.flatten() for t in table.value_slope_curvature(a, torch.zeros(1, 1, dtype=torch.int64)))
    (left, right), (left_slope, right_slope) = knots[0, 0, [0, -1]], knots[1, 0, [0, -1]]
    torch.testing.assert_close(y[:2], torch.stack([left - 2 * left_slope, right + 1.5 * right_slope]))
    torch.testing.assert_close(dy[:2], torch.stack([left_slope, right_slope]))
    assert ddy[:2].tolist() == [0, 0]
    assert y[2].isnan()
    assert y[3].isinf()


@pytest.mark.parametrize("spec", SPECS)
def test_cotangent_of_genomes_through_the_table_equals_that_through_the_sub_network(spec):
    genomes = initial_genomes(spec, 5, dtype=torch.float64)
    a = torch.randn(1, 60, spec.num_types, generator=generator(5, "a"), dtype=torch.float64)
    function = torch.arange(spec.num_types).unsqueeze(0)
    c0 = torch.randn(a.shape, generator=generator(5, "c"), dtype=torch.float64)
    bank = TableBank(spec, genomes)
    table_bar = torch.zeros_like(bank.parameters)
    bank.table.add_cotangent(table_bar, a, function, c0, torch.zeros_like(c0))
    leaf = genomes.clone().requires_grad_()
    expected = torch.autograd.grad(ExactBank(spec, leaf).value(a, function), leaf, c0)[0]
    torch.testing.assert_close(bank.pull_back(table_bar), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("width", "num_types"), [(6, 1), (6, 2), (7, 2), (7, 3), (8, 3), (3, 3)])
def test_types_share_a_layer_in_blocks_that_differ_by_at_most_one(width, num_types):
    sizes = type_sizes(width, num_types)
    assert sum(sizes) == width
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == sorted(sizes, reverse=True)
    assert mixed_types(width, num_types).bincount().tolist() == list(sizes)


def test_more_types_than_neurons_is_refused():
    with pytest.raises(ValueError, match=r"num_types <= width must hold, but got \(num_types=3, width=2\)"):
        mixed_functions((5, 2), 3)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
def test_mixing_two_equal_types_equals_the_pure_network(exact):
    case = small_case(hidden=(7, 5), steps=6)
    twice = case.genomes[:, :1].expand(-1, 2, -1)
    mixed = case.activation(twice, exact=exact)
    pure = BankActivation(mixed.bank, pure_functions((7, 5), 1))
    runs = [train(case.problem, case.parameters, case.batches, activation) for activation in (mixed, pure)]
    assert torch.equal(runs[0].parameters, runs[1].parameters)
    assert torch.equal(runs[0].losses, runs[1].losses)


@pytest.mark.parametrize("base", ["tanh", "relu", "silu"])
def test_a_silent_sub_network_leaves_the_plain_network(base):
    case = small_case(base=base, steps=6)
    silent = train(case.problem, case.parameters, case.batches, case.activation(torch.zeros_like(case.genomes)))
    plain = train(case.problem, case.parameters, case.batches, UsualActivation(base))
    torch.testing.assert_close(silent.parameters, plain.parameters, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("genomes", "words"),
    [
        (torch.zeros(2, 151), r"shape \(sets >= 1, num_types=2, weights=151\), but got \(2, 151\)"),
        (torch.zeros(1, 3, 151), r"but got \(1, 3, 151\)"),
        (torch.zeros(0, 2, 151), r"but got \(0, 2, 151\)"),
        (torch.full((1, 2, 151), float("nan")), "302 of 302 values are NaN or infinite"),
    ],
)
def test_bad_genomes_are_refused(genomes, words):
    with pytest.raises(ValueError, match=words):
        TableBank(ActivationSpec("sin", 2), genomes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_types": 0}, "num_types >= 1"),
        ({"hidden": ()}, "hidden layers"),
        ({"table_scale": 48}, "must be a power of two, so that knots are exact, but got 48"),
        ({"table_range": 2.3}, "the ends of a table must be knots .*, but got 2.3 times 64 = 147.2"),
        ({"table_range": 0.0}, "whole and at least 1"),
        ({"base": "hat", "table_range": 2.0}, "table_range > 2 for 'hat', but got table_range=2: give a larger one"),
    ],
)
def test_bad_activation_specs_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ActivationSpec(**arguments)


def test_a_bank_is_tabulated_where_its_spec_says():
    assert ActivationSpec().grid == Grid(scale=64, origin=640, cells=1280)
    spec = ActivationSpec("sin", 2, (3,), table_range=1.5, table_scale=8)
    bank = TableBank(spec, initial_genomes(spec, 0))
    for one in (bank, bank.of_genomes(initial_genomes(spec, 1, sets=2))):
        assert one.table.grid == spec.grid == Grid(scale=8, origin=12, cells=24)
        assert one.parameters.shape[1] == 24
    assert spec.grid.ends == (-1.5, 1.5)


@pytest.mark.parametrize(("base", "table_range"), [("relu", 0.25), ("hat", 2.25)])
@pytest.mark.parametrize("table_scale", [4, 64])
def test_a_kinked_base_function_is_exact_in_any_table_that_holds_its_kinks(base, table_range, table_scale):
    spec = ActivationSpec(base, 1, (3,), table_range=table_range, table_scale=table_scale)
    silent = TableBank(spec, torch.zeros(1, 1, spec.genome_size, dtype=torch.float64))
    x = torch.linspace(-5, 5, 401, dtype=torch.float64).view(1, -1, 1)  # the kinks among them, and points outside
    y, _ = silent.value_slope(x, torch.zeros(1, 1, dtype=torch.int64))
    torch.testing.assert_close(y, base_function(base).value(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_look_up_passes_gradgradcheck(fused):
    grid = Grid(scale=2, origin=4, cells=8)
    values, slopes = torch.randn(2, 3, 9, dtype=torch.float64, generator=generator(0, "knots"))
    coefficients = grid.coefficients(values, slopes).requires_grad_()
    # away from the knots, where the second derivative of a cubic spline jumps; some beyond the table
    a = (torch.arange(24, dtype=torch.float64).view(2, 4, 3) - 11.5) / 4.3 + 0.05
    function = torch.tensor([[0, 1, 2], [2, 2, 0]])

    def operation(a, coefficients):
        return look_up(a, coefficients, function, grid, fused=fused)

    a.requires_grad_()
    assert torch.autograd.gradcheck(operation, (a, coefficients))
    assert torch.autograd.gradgradcheck(operation, (a, coefficients))


def test_look_up_under_vmap_equals_one_network_after_another():
    case = small_case(networks=3)
    table = case.activation().bank.table
    a = torch.randn(3, 8, 7, dtype=torch.float64, generator=generator(0, "a"))
    function = torch.randint(2, (3, 7), generator=generator(0, "f"))

    def one(a, function):
        return look_up(a.unsqueeze(0), table.coefficients, function.unsqueeze(0), table.grid)[0]

    together = torch.func.vmap(one)(a, function)
    assert torch.equal(together, torch.stack([one(*pair) for pair in zip(a, function, strict=True)]))
    assert torch.equal(together, look_up(a, table.coefficients, function, table.grid))


def test_a_third_derivative_is_refused():
    case = small_case()
    table = case.activation().bank.table
    a = torch.zeros(1, 1, 1, dtype=torch.float64, requires_grad=True)
    y = look_up(a, table.coefficients, torch.zeros(1, 1, dtype=torch.int64), table.grid)
    for _ in range(2):
        (y,) = torch.autograd.grad(y.sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated twice by its input, not three times"):
        torch.autograd.grad(y.sum(), a)


@pytest.mark.parametrize("scale", [0, -4, 3, 48])
def test_cells_per_unit_that_are_no_power_of_two_are_refused(scale):
    with pytest.raises(ValueError, match=f"must be a power of two, so that knots are exact, but got {scale}"):
        Grid(scale=scale)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_knots_are_exact(fused, dtype):
    grid = Grid(scale=64, origin=640, cells=1280)
    values, slopes = torch.randn(2, 1, 1281, dtype=torch.float64, generator=generator(0, "knots"))
    table = HermiteTable(grid.coefficients(values, slopes).to(dtype), grid, fused=fused)
    y, dy = table.value_slope(grid.knots().to(dtype).view(1, -1, 1), torch.zeros(1, 1, dtype=torch.int64))
    assert torch.equal(y[0, :-1, 0], values[0, :-1].to(dtype))
    torch.testing.assert_close(dy[0, :-1, 0], slopes[0, :-1].to(dtype), rtol=1e-6, atol=0)


@pytest.mark.skipif(not FUSED_AVAILABLE, reason="numba is not installed, so there are no compiled kernels to compare")
def test_fused_look_ups_take_what_is_not_contiguous_and_functions_shared_by_all_networks():
    case = small_case()
    tables = [case.activation(fused=fused).bank.table for fused in (True, False)]
    a, y_bar, dy_bar = (torch.randn(9, 7, 3, dtype=torch.float64, generator=generator(i, "a")) for i in range(3))
    a, y_bar, dy_bar = (t.permute(2, 0, 1) for t in (a, y_bar, dy_bar))
    function = torch.tensor([[0, 1, 1, 0, 0, 1, 0]], dtype=torch.int32)
    results = []
    for table in tables:
        out = torch.zeros_like(table.coefficients)
        table.add_cotangent(out, a, function, y_bar, dy_bar)
        results.append((*table.value_slope(a, function), *table.value_slope_curvature(a, function), out))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("failure", ["del numba.extending.intrinsic", "llvmlite.ir.MetaDataString = None"])
def test_where_kernels_cannot_be_imported_or_compiled_the_eager_path_serves(failure, tmp_path):
    code = f"""
import llvmlite.ir, numba.extending, torch
{failure}
from ldnn_core.hermite import FUSED_AVAILABLE, Grid, HermiteTable
assert not FUSED_AVAILABLE
print(HermiteTable(torch.zeros(1, 1280, 4), Grid()).value_slope(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=int)))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # nothing compiled before
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert "tensor" in found.stdout


def test_functions_follow_their_bank_to_its_device():
    bank = small_case().activation().bank
    elsewhere = bank.replaced(bank.parameters.to("meta"))
    for functions in (pure_functions((7, 5), 1), mixed_functions((7, 5), 2)):
        assert {f.device.type for f in BankActivation(elsewhere, functions).functions} == {"meta"}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_tangents_of_a_look_up_equal_their_formulas(fused, shared):
    case = small_case()
    table = case.activation(fused=fused).bank.table
    shape = (3, 9, 7)
    a, a_dot, *bars = (torch.randn(shape, dtype=torch.float64, generator=generator(i, "a")) for i in range(4))
    a = 5 * a.mT.contiguous().mT
    a[0, 0, :3] = torch.tensor([50.0, -30.0, 10.0])
    function = torch.randint(2, (1 if shared else 3, 7), generator=generator(0, "f"))
    y, dy, ddy = table.value_slope_curvature(a, function)
    tangents = table.tangent(a, a_dot, function)
    close = {"rtol": 1e-11, "atol": 1e-11}
    for ours, expected in zip(tangents, (y, dy, dy * a_dot, ddy * a_dot), strict=True):
        torch.testing.assert_close(ours, expected, **close)
    out, expected_out = torch.zeros_like(table.coefficients), torch.zeros_like(table.coefficients)
    slopes, (bar, bar_dot) = (tangents[1], tangents[3]), bars
    delta, delta_dot = table.tangent_back(out, a, a_dot, function, slopes, (bar, bar_dot))
    torch.testing.assert_close(delta, bar * dy, **close)
    torch.testing.assert_close(delta_dot, bar_dot * dy + bar * ddy * a_dot, **close)
    table.add_cotangent(expected_out, a, function, bar_dot, bar * a_dot)
    torch.testing.assert_close(out, expected_out, **close)
