"""Gradient noise against covariances of single rows' gradients, made by autograd in float64."""

import math

import pytest
import torch

from ldnn_core.activations import BankActivation, GroupedActivation, TableBank, UsualActivation, mixed_functions
from ldnn_core.curvature.linearized import linearized_pieces
from ldnn_core.gradient_noise import NoiseProducts, gradient_noise
from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.modules import ModuleNetwork
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes

NETWORK = MlpSpec(3, (4, 5), 3, CrossEntropy())
SPEC = ActivationSpec("sin", 2, (3,), 0.5)
ROWS = 12


def setting():
    """Three networks: two with a learned set, one with tanh."""
    parameters = 2 * NETWORK.initial_parameters([generator(0, "network", i) for i in range(3)], torch.float64)
    x = torch.randn(ROWS, 3, generator=generator(0, "x"), dtype=torch.float64)
    y = torch.randint(0, 3, (ROWS,), generator=generator(0, "y"))
    bank = TableBank(SPEC, initial_genomes(SPEC, 0).double())
    learned = BankActivation(bank, mixed_functions(NETWORK.hidden, 2))
    return parameters, x, y, GroupedActivation(((learned, 2), (UsualActivation("tanh"), 1)))


def dense(parameters, x, y, activation, index):
    """Covariance of the rows' gradients, and the Hessian, of one network."""

    def loss(row, at):
        own = activation.of_networks(slice(index, index + 1))
        return NETWORK.loss.value(NETWORK.forward(row[None], x[None, at], own)[0], y[None, at])[0]

    row = parameters[index]
    gradients = torch.stack(
        [torch.autograd.functional.jacobian(lambda p, i=i: loss(p, slice(i, i + 1)), row) for i in range(len(x))]
    )
    centred = gradients - gradients.mean(0)
    return centred.T @ centred / len(x), torch.autograd.functional.hessian(lambda p: loss(p, slice(None)), row)


@pytest.mark.parametrize("piece_bytes", [1 << 19, 600])
def test_products_and_trace_are_those_of_the_dense_covariance(piece_bytes, monkeypatch):
    monkeypatch.setattr("ldnn_core.curvature.linearized.PIECE_BYTES", piece_bytes)
    parameters, x, y, activation = setting()
    products = NoiseProducts(NETWORK, linearized_pieces(NETWORK, parameters, x, y, activation, 2))
    v = torch.randn(3, 2, NETWORK.num_params, generator=generator(0, "v"), dtype=torch.float64)
    for index in range(3):
        covariance, _ = dense(parameters, x, y, activation, index)
        torch.testing.assert_close(products(v)[index], v[index] @ covariance, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(products.trace()[index], covariance.trace(), rtol=1e-10, atol=0)


def test_alignment_is_the_cosine_of_covariance_and_hessian():
    parameters, x, y, activation = setting()
    found = gradient_noise(NETWORK, parameters, x, y, activation, generator=generator(0, "probes"), probes=3000)
    assert found.trace.dtype == found.alignment.dtype == torch.float64
    for index in range(3):
        covariance, hessian = dense(parameters, x, y, activation, index)
        cosine = (covariance * hessian).sum() / (covariance.norm() * hessian.norm())
        assert found.alignment[index].item() == pytest.approx(cosine.item(), abs=0.02)
        assert found.trace[index].item() == pytest.approx(covariance.trace().item(), rel=1e-10)


def test_noise_that_is_a_multiple_of_the_hessian_is_fully_aligned():
    # Linear regression where every input occurs with residuals +r and -r: C = 4 r² X Xᵀ / R and H = 2 X Xᵀ / R.
    linear = MlpSpec(4, (), 1, SquaredError())
    x = torch.randn(6, 4, generator=generator(0, "x"), dtype=torch.float64).repeat(2, 1)
    parameters = torch.zeros(1, 5, dtype=torch.float64)
    y = torch.tensor([0.3, -0.3], dtype=torch.float64).repeat_interleave(6)[:, None]
    none = UsualActivation("identity")
    found = gradient_noise(linear, parameters, x, y, none, generator=generator(0, "probes"), probes=3)
    assert found.alignment.item() == pytest.approx(1, rel=1e-12)
    assert found.trace.item() == pytest.approx(4 * 0.3**2 * (x.square().sum().item() / 12 + 1), rel=1e-12)


def test_a_network_is_measured_as_if_alone_and_a_diverged_one_has_no_noise():
    parameters, x, y, activation = setting()

    def measured(rows, act):
        return gradient_noise(NETWORK, rows, x, y, act, generator=generator(0, "probes"), probes=9)

    every, alone = measured(parameters, activation), measured(parameters[1:2], activation.of_networks(slice(1, 2)))
    torch.testing.assert_close(every.alignment[1:2], alone.alignment, rtol=1e-10, atol=0)
    parameters[0] = math.inf
    lost = measured(parameters, activation)
    assert torch.isnan(lost.trace).tolist() == torch.isnan(lost.alignment).tolist() == [True, False, False]
    torch.testing.assert_close(lost.alignment[1:], every.alignment[1:], rtol=1e-10, atol=0)


def test_what_cannot_be_measured_is_refused():
    parameters, x, y, activation = setting()
    with pytest.raises(ValueError, match="at least one probe is needed, but got probes=0"):
        gradient_noise(NETWORK, parameters, x, y, activation, generator=generator(0, "p"), probes=0)
    module = object.__new__(ModuleNetwork)
    with pytest.raises(TypeError, match="gradient noise is measured of fully connected networks"):
        gradient_noise(module, parameters, x, y, activation, generator=generator(0, "p"), probes=1)


def test_images_are_flattened_as_the_network_flattens_them():
    parameters, x, y, activation = setting()
    flat, image = (
        gradient_noise(NETWORK, parameters, inputs, y, activation, generator=generator(0, "probes"), probes=4)
        for inputs in (x, x.view(ROWS, 3, 1, 1))
    )
    torch.testing.assert_close(image.trace, flat.trace)
    torch.testing.assert_close(image.alignment, flat.alignment)
