"""Trace, eigenvalues and density of batches of networks, against dense Hessians in float64 and against PyHessian."""

import dataclasses
import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from ldnn_core import pyhessian_curvature
from ldnn_core.activations import (
    BankActivation,
    ExactBank,
    GroupedActivation,
    TableBank,
    UsualActivation,
    mixed_functions,
    pure_functions,
)
from ldnn_core.base_functions import BASE_FUNCTIONS
from ldnn_core.curvature import hessian_products, hessian_vector_product, measure_curvature
from ldnn_core.curvature.density import NEAR_ZERO, smoothed
from ldnn_core.curvature.lanczos import quadrature, tridiagonal
from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.modules import ActivationSlot, ModuleNetwork
from ldnn_core.optimizers import Adam
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.training import Batches, InnerProblem, shuffled_rows, train

NETWORK = MlpSpec(6, (9, 7), 3, CrossEntropy())
SPEC = ActivationSpec("sin", 2, (3,), 0.5)
ROWS = 60


def arms(dtype=torch.float64):
    """Five networks: a mixed set, one of its types, and three usual functions."""
    bank = TableBank(SPEC, initial_genomes(SPEC, 0).to(dtype))
    learned = [
        BankActivation(bank, f(NETWORK.hidden))
        for f in (lambda h: mixed_functions(h, 2), lambda h: pure_functions(h, 1))
    ]
    return GroupedActivation(tuple((one, 1) for one in [*learned, *map(UsualActivation, ("tanh", "relu", "gelu"))]))


def rows(dtype=torch.float64):
    x = torch.randn(ROWS, 6, generator=generator(0, "x"), dtype=torch.float64).to(dtype)
    return x, torch.randint(0, 3, (ROWS,), generator=generator(0, "y"))


@pytest.fixture(scope="module")
def trained():
    """Parameters of the five networks after some training, when the spectrum has its outliers."""
    start = NETWORK.initial_parameters([generator(0, "network")], torch.float64).repeat(5, 1)
    batches = Batches(*rows(), shuffled_rows(ROWS, 20, 60, [generator(0, "rows")]))
    return train(InnerProblem(NETWORK, Adam(), 0.02), start, batches, arms()).parameters


@pytest.fixture(scope="module")
def hessians(trained):
    """By autograd, twice: (5, Θ, Θ)."""
    (x, y), activation = rows(), arms()

    def loss(row, index):
        own = activation.of_networks(slice(index, index + 1))
        return NETWORK.loss.value(NETWORK.forward(row[None], x[None], own)[0], y[None])[0]

    return torch.stack(
        [torch.autograd.functional.hessian(lambda p, i=i: loss(p, i), row) for i, row in enumerate(trained)]
    )


def measured(parameters, *, by=measure_curvature, dtype=torch.float64, probes=4, steps=60, eigenvalues=5, seed=0):
    source = generator(seed, "probes")
    counts = {"probes": probes, "lanczos_steps": steps, "eigenvalues": eigenvalues}
    return by(NETWORK, parameters.to(dtype), *rows(dtype), arms(dtype), generator=source, **counts)


@pytest.mark.parametrize("piece_bytes", [1 << 19, 2000])
def test_products_of_a_group_of_arms_are_those_of_the_dense_hessians(piece_bytes, trained, hessians, monkeypatch):
    monkeypatch.setattr("ldnn_core.curvature.linearized.PIECE_BYTES", piece_bytes)
    products = hessian_products(NETWORK, trained, *rows(), arms(), 3)
    for count in (3, 1):
        v = torch.randn(5, count, NETWORK.num_params, generator=generator(count, "v"), dtype=torch.float64)
        torch.testing.assert_close(products(v), v @ hessians, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", BASE_FUNCTIONS)
@pytest.mark.parametrize("bank", [None, TableBank, ExactBank])
def test_products_with_any_base_function_equal_the_engines_tangents(name, bank):
    network = MlpSpec(3, (4, 3), 2, SquaredError())
    spec = ActivationSpec(name, 2, (3,), 0.5)
    activation = UsualActivation(name)
    if bank is not None:
        activation = BankActivation(bank(spec, initial_genomes(spec, 0).double()), mixed_functions(network.hidden, 2))
    parameters = 2 * network.initial_parameters([generator(i, "network") for i in range(2)], torch.float64)
    x, y = (torch.randn(10, n, generator=generator(n, "rows"), dtype=torch.float64) for n in (3, 2))
    v = torch.randn(2, 1, network.num_params, generator=generator(0, "v"), dtype=torch.float64)
    product = hessian_products(network, parameters, x, y, activation)(v)[:, 0]
    expected = hessian_vector_product(network, parameters, x[None], y[None], activation, v[:, 0])
    torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-11)


def test_products_of_any_module_go_by_autograd():
    module = torch.nn.Sequential(torch.nn.Linear(6, 3), ActivationSlot(3), torch.nn.Linear(3, 3))
    wrapped, plain = ModuleNetwork(module, CrossEntropy()), MlpSpec(6, (3,), 3, CrossEntropy())
    flat = plain.initial_parameters([generator(0, "network")], torch.float64)
    w1, b1, w2, b2 = flat[0].split([18, 3, 9, 3])
    turned = torch.cat([w1.view(6, 3).T.flatten(), b1, w2.view(3, 3).T.flatten(), b2])[None]
    counts = {"probes": 1, "lanczos_steps": 33, "eigenvalues": 3}
    found = [
        measure_curvature(network, p, *rows(), UsualActivation("tanh"), generator=generator(0, "p"), **counts)
        for network, p in ((wrapped, turned), (plain, flat))
    ]
    torch.testing.assert_close(found[0].eigenvalues, found[1].eigenvalues, rtol=1e-8, atol=1e-10)


def test_trace_lies_within_its_standard_error(trained, hessians):
    found = measured(trained, probes=200, steps=2, eigenvalues=1)
    exact = hessians.diagonal(dim1=1, dim2=2).sum(1)
    assert ((found.trace - exact).abs() < 3 * found.trace_sem).all()
    assert (found.trace_sem < 0.1 * exact).all()


def test_largest_eigenvalues_are_those_of_the_dense_hessian(trained, hessians):
    found = measured(trained)
    exact = torch.linalg.eigvalsh(hessians).flip(1)[:, :5]
    torch.testing.assert_close(found.eigenvalues, exact, rtol=1e-6, atol=0)


def test_networks_in_single_precision_have_the_same_eigenvalues_to_single_precision(trained, hessians):
    found = measured(trained, dtype=torch.float32)
    assert found.eigenvalues.dtype == found.density.dtype == torch.float64
    exact = torch.linalg.eigvalsh(hessians).flip(1)[:, :5]
    assert ((found.eigenvalues - exact).abs() <= 1e-5 * exact[:, :1]).all()


def test_density_is_that_of_the_eigenvalues(trained, hessians):
    found = measured(trained, probes=8)
    for index, exact in enumerate(torch.linalg.eigvalsh(hessians)):
        grid, density = found.grid[index].numpy(), found.density[index].numpy()
        assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, rel=1e-3)
        span = float(exact.max() - exact.min())
        assert wasserstein_distance(grid, exact.numpy(), density) < 0.012 * span
        # a density of one spike where most eigenvalues are would be further away
        assert wasserstein_distance([0.0], exact.numpy()) > 0.025 * span
        near = (exact.abs() <= NEAR_ZERO * exact.abs().max()).double().mean()
        assert found.near_zero_fraction[index].item() == pytest.approx(near.item(), abs=0.08)
        assert found.near_zero_threshold[index].item() == pytest.approx(NEAR_ZERO * exact.abs().max().item(), rel=1e-6)


def test_as_many_steps_as_parameters_give_every_eigenvalue(trained, hessians):
    # relu has units that are never on, so that its Hessian has zeros many times over: the runs break down and go on
    count = NETWORK.num_params
    found = measured(trained, probes=1, steps=10 * count, eigenvalues=count)
    exact = torch.linalg.eigvalsh(hessians).flip(1)
    assert ((found.eigenvalues - exact).abs() <= 1e-9 * exact[:, :1]).all()


def test_lanczos_finds_each_eigenvalue_as_often_as_it_occurs():
    exact = torch.tensor([5.0, 5.0, 5.0, 2.0, 2.0, 0.0, 0.0, -1.0], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator(0, "turn"), dtype=torch.float64))[0]
    matrix = turn @ exact.diag() @ turn.T
    start = torch.ones(1, 1, 8, dtype=torch.float64)
    nodes, weights = quadrature(*tridiagonal(lambda v: v @ matrix, start, 8))
    torch.testing.assert_close(nodes[0, 0], exact.flip(0), rtol=1e-12, atol=1e-12)
    for power in range(5):  # the rule is exact: Σ w λ^p = vᵀ H^p v of a unit v
        moment = (start[0] @ torch.linalg.matrix_power(matrix, power) @ start[0].T).item() / 8
        assert (weights * nodes**power).sum().item() == pytest.approx(moment, rel=1e-10)


def test_a_matrix_of_zeros_has_a_density_too():
    nodes, weights = quadrature(*tridiagonal(torch.zeros_like, torch.ones(2, 1, 6, dtype=torch.float64), 4))
    grid, density, width = smoothed(nodes, weights)
    assert nodes.abs().max() == 0
    assert (width > 0).all()
    assert (density.sum(1) * (grid[:, 1] - grid[:, 0])).tolist() == pytest.approx([1, 1], rel=1e-3)


def test_lanczos_vectors_stay_orthogonal_where_eigenvalues_span_many_scales():
    exact = torch.logspace(-12, 0, 60, dtype=torch.float64)
    seen = []

    def products(v):
        seen.append(v[0, 0].clone())
        return v * exact

    tridiagonal(products, torch.ones(1, 1, 60, dtype=torch.float64), 40)
    basis = torch.stack(seen)
    assert (basis @ basis.T - torch.eye(40, dtype=torch.float64)).abs().max() < 1e-10


@pytest.mark.parametrize(
    ("dtype", "error", "probes", "steps"),
    [(torch.float64, 1e-9, 2, 12), (torch.float64, 1e-9, 1, 500), (torch.float32, 1e-4, 2, 12)],
)
def test_pyhessian_says_the_same(dtype, error, probes, steps, trained):
    how = {"dtype": dtype, "probes": probes, "steps": steps}
    found, reference = measured(trained, **how), measured(trained, by=pyhessian_curvature.measure_curvature, **how)
    for field in dataclasses.fields(found):
        ours, theirs = getattr(found, field.name), getattr(reference, field.name)
        assert torch.equal(torch.isnan(ours), torch.isnan(theirs)), field.name  # one probe has no standard error
        assert (ours - theirs).nan_to_num().abs().max() <= error * theirs.nan_to_num().abs().max(), field.name


@pytest.mark.filterwarnings("error")
def test_pyhessian_leaves_no_warning_and_no_random_state_behind(trained):
    before = torch.get_rng_state()
    measured(trained, by=pyhessian_curvature.measure_curvature, probes=1, steps=3, eigenvalues=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_pyhessian_takes_all_samples_of_a_negative_trace():
    # the residuals are so large that the second derivative of the outputs decides, whose trace is negative
    network = MlpSpec(2, (3,), 1, SquaredError())
    parameters = torch.full((1, network.num_params), 0.7, dtype=torch.float64)
    x = torch.randn(8, 2, generator=generator(0, "x"), dtype=torch.float64)
    y = torch.full((8, 1), -1e4, dtype=torch.float64)
    counts = {"probes": 5, "lanczos_steps": 4, "eigenvalues": 1}
    found = [
        by(network, parameters, x, y, UsualActivation("tanh"), generator=generator(0, "p"), **counts)
        for by in (measure_curvature, pyhessian_curvature.measure_curvature)
    ]
    assert found[0].trace.item() < 0
    torch.testing.assert_close(found[0].trace, found[1].trace, rtol=1e-10, atol=0)
    torch.testing.assert_close(found[0].trace_sem, found[1].trace_sem, rtol=1e-10, atol=0)


@pytest.mark.parametrize("by", [measure_curvature, pyhessian_curvature.measure_curvature])
def test_a_diverged_network_has_no_curvature_and_leaves_the_others_alone(by, trained):
    sound = measured(trained, by=by, steps=5)
    lost = trained.clone()
    lost[1, 3] = math.nan
    found = measured(lost, by=by, steps=5)
    for field in dataclasses.fields(found):
        own, whole = getattr(found, field.name), getattr(sound, field.name)
        assert torch.isnan(own[1]).all(), field.name
        torch.testing.assert_close(own[[0, 2, 3, 4]], whole[[0, 2, 3, 4]], rtol=1e-9, atol=1e-12)


def test_a_network_is_measured_as_if_alone(trained, monkeypatch):
    together = measured(trained, steps=20)
    monkeypatch.setattr("ldnn_core.curvature.measure.BASIS_BYTES", 1)
    apart = measured(trained, steps=20)
    for field in dataclasses.fields(together):
        torch.testing.assert_close(getattr(together, field.name), getattr(apart, field.name), rtol=1e-9, atol=1e-12)


def test_the_same_generator_gives_the_same_numbers(trained):
    one, again, other = (measured(trained, probes=2, steps=3, eigenvalues=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.trace, again.trace)
    assert not torch.equal(one.trace, other.trace)


@pytest.mark.parametrize("by", [measure_curvature, pyhessian_curvature.measure_curvature])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probes": 0}, "at least one probe is needed, but got probes=0"),
        ({"eigenvalues": 0}, "1 <= eigenvalues <= Lanczos steps .* but got \\(eigenvalues=0, lanczos_steps=60"),
        ({"steps": 3, "eigenvalues": 4}, "\\(eigenvalues=4, lanczos_steps=3, parameters=157\\)"),
        ({"steps": 500, "eigenvalues": 158}, "\\(eigenvalues=158, lanczos_steps=500, parameters=157\\)"),
    ],
)
def test_impossible_numbers_are_refused(by, changes, words, trained):
    with pytest.raises(ValueError, match=words):
        measured(trained, by=by, **changes)


@pytest.mark.parametrize("by", [measure_curvature, pyhessian_curvature.measure_curvature])
def test_images_are_flattened_as_the_network_flattens_them(trained, by):
    x, y = rows()

    def found(inputs):
        how = {"generator": generator(0, "probes"), "probes": 2, "lanczos_steps": 6, "eigenvalues": 2}
        return by(NETWORK, trained[:2], inputs, y, arms().of_networks(slice(0, 2)), **how)

    flat, image = found(x), found(x.view(ROWS, 1, 2, 3))
    torch.testing.assert_close(image.trace, flat.trace)
    torch.testing.assert_close(image.eigenvalues, flat.eigenvalues)
