"""Products with the Hessian and its trace, against dense Hessians in float64 made by autograd twice."""

import math

import pytest
import torch

from ldnn_core.activations import (
    BankActivation,
    ExactBank,
    GroupedActivation,
    TableBank,
    UsualActivation,
    mixed_functions,
)
from ldnn_core.curvature import hessian_vector_product, measure_curvature, sign_probes
from ldnn_core.losses import CrossEntropy
from ldnn_core.mlp import MlpSpec
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes

NETWORK = MlpSpec(3, (4, 4), 3, CrossEntropy())
SPEC = ActivationSpec("sin", 2, (3,), 0.5)
ROWS = 20


def setting(kind, dtype=torch.float64):
    sources = [generator(0, "network", i) for i in range(3)]
    parameters = 2 * NETWORK.initial_parameters(sources, dtype)
    x = torch.randn(ROWS, 3, generator=generator(0, "x"), dtype=torch.float64).to(dtype)
    y = torch.randint(0, 3, (ROWS,), generator=generator(0, "y"))
    genomes = initial_genomes(SPEC, 0).to(dtype)
    banks = {"table": TableBank, "exact": ExactBank}
    activation = (
        BankActivation(banks[kind](SPEC, genomes), mixed_functions(NETWORK.hidden, 2))
        if kind in banks
        else UsualActivation(kind)
    )
    return parameters, x, y, activation


def dense_hessians(parameters, x, y, activation):
    def loss(row, index):
        own = activation.of_networks(slice(index, index + 1))
        return NETWORK.loss.value(NETWORK.forward(row[None], x[None], own)[0], y[None])[0]

    return torch.stack(
        [torch.autograd.functional.hessian(lambda p, i=i: loss(p, i), row) for i, row in enumerate(parameters)]
    )


@pytest.mark.parametrize("kind", ["table", "exact", "tanh"])
def test_products_are_those_of_the_dense_hessian(kind):
    parameters, x, y, activation = setting(kind)
    v = torch.randn(parameters.shape, generator=generator(0, "v"), dtype=torch.float64)
    product = hessian_vector_product(NETWORK, parameters, x[None], y[None], activation, v)
    expected = torch.einsum("nij,nj->ni", dense_hessians(parameters, x, y, activation), v)
    torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-11)


def test_products_of_groups_with_their_own_activations_are_those_of_each_group():
    parameters, x, y, table = setting("table")
    grouped = GroupedActivation(((table, 2), (UsualActivation("tanh"), 1)))
    v = torch.ones_like(parameters)
    product = hessian_vector_product(NETWORK, parameters, x[None], y[None], grouped, v)
    apart = [
        hessian_vector_product(NETWORK, parameters[:2], x[None], y[None], table, v[:2]),
        hessian_vector_product(NETWORK, parameters[2:], x[None], y[None], UsualActivation("tanh"), v[2:]),
    ]
    torch.testing.assert_close(product, torch.cat(apart), rtol=1e-9, atol=1e-11)


def traces(parameters, x, y, activation, probes):
    counts = {"probes": probes, "lanczos_steps": 1, "eigenvalues": 1}
    return measure_curvature(NETWORK, parameters, x, y, activation, generator=generator(0, "probes"), **counts)


def test_random_signs_estimate_the_trace_within_their_standard_error():
    parameters, x, y, activation = setting("table")
    found = traces(parameters, x, y, activation, 400)
    hessians = dense_hessians(parameters, x, y, activation)
    exact = hessians.diagonal(dim1=1, dim2=2).sum(1)
    assert ((found.trace - exact).abs() < 4 * found.trace_sem).all()
    # Hutchinson's variance: twice the squared elements off the diagonal.
    off = hessians - torch.diag_embed(hessians.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(found.trace_sem, (2 * off.square().sum((1, 2)) / 400).sqrt(), rtol=0.15, atol=0)


def test_a_single_step_gives_the_samples_themselves():
    parameters, x, y, activation = setting("table")
    signs = sign_probes(8, NETWORK.num_params, generator(0, "probes")).double()
    exact = torch.einsum("pi,nij,pj->np", signs, dense_hessians(parameters, x, y, activation), signs)
    found = traces(parameters, x, y, activation, 8)
    torch.testing.assert_close(found.trace, exact.mean(1), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.trace_sem, exact.std(1) / 8**0.5, rtol=1e-9, atol=1e-11)


def test_single_precision_agrees_and_a_network_does_not_depend_on_its_batch():
    exact = traces(*setting("table"), 8).trace
    parameters, x, y, activation = setting("table", torch.float32)
    trace = traces(parameters, x, y, activation, 8).trace
    torch.testing.assert_close(trace, exact, rtol=1e-3, atol=1e-4)
    alone = traces(parameters[1:2], x, y, activation, 8).trace
    torch.testing.assert_close(alone, trace[1:2], rtol=1e-5, atol=1e-6)


def test_a_diverged_network_has_no_trace_and_leaves_the_others_alone():
    parameters, x, y, activation = setting("table")
    sound = traces(parameters, x, y, activation, 2).trace
    parameters[1] = math.nan
    trace = traces(parameters, x, y, activation, 2).trace
    assert torch.isfinite(trace).tolist() == [True, False, True]
    torch.testing.assert_close(trace[[0, 2]], sound[[0, 2]])


def test_probes_are_signs_and_come_from_their_generator():
    probes = sign_probes(5, 11, generator(3, "probes"))
    assert probes.shape == (5, 11)
    assert set(probes.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(probes, sign_probes(5, 11, generator(3, "probes")))
