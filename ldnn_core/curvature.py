"""How sharply the loss of trained networks bends: products with the Hessian, and its trace.

Shapes: N networks, Θ parameters of one network, B rows, M probes.
The second derivative of a kinked base function (relu, hat) counts as zero, as everywhere in this package.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.activations import Activation, BankActivation
from ldnn_core.network import Network, loss_gradient_autograd

ROWS_AT_ONCE = 800
"""Rows in one product with the Hessian; the loss is a mean over rows, so products of pieces are averaged.  A few
blocks of networks with so many rows stay in the cache."""


def hessian_vector_product(
    network: Network, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, v: Tensor
) -> Tensor:
    """H v of every network, (N, Θ), where H is the Hessian of its loss in its parameters.

    A learned activation goes by the engine's own tangents, `Network.gradient_vjp` with no cotangent of the loss; any
    other by autograd.

    Args:
        network: the kind of network.
        parameters: (N, Θ).
        x: (N or 1, B, ...).
        y: targets, (N or 1, B, ...).
        activation: of the hidden layers.
        v: (N, Θ).
    """
    if isinstance(activation, BankActivation):
        nothing = parameters.new_zeros(len(parameters))
        return network.gradient_vjp(parameters, x, y, activation, v, nothing)[0]
    leaf = parameters.detach().requires_grad_()
    _, gradient = loss_gradient_autograd(network, leaf, x, y, activation, create_graph=True)
    (product,) = torch.autograd.grad(gradient, leaf, v)
    return product


def hessian_trace(
    network: Network, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """Trace of every network's Hessian by Hutchinson's estimate, and the standard error of that.

    The mean of vᵀ H v over probes v of independent signs (Hutchinson 1990).  It is exact for a diagonal Hessian; else
    its variance is twice the sum of the squared elements off the diagonal, divided by M.  All networks see the same
    probes, so that differences between networks are estimated better than each trace.

    Args:
        network: the kind of network.
        parameters: (N, Θ).
        x: all rows, (B, ...).
        y: their targets, (B, ...).
        activation: of the hidden layers.
        probes: (M, Θ), of +1 and -1; see `sign_probes`.

    Returns:
        trace and standard error, (N,) each in float64; NaN or infinite for a network that has diverged, and a NaN
        standard error for a single probe.
    """
    samples = []
    for probe in probes.to(parameters):
        v = probe.expand_as(parameters).contiguous()
        total = parameters.new_zeros(len(parameters), dtype=torch.float64)
        for start in range(0, len(x), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            product = hessian_vector_product(network, parameters, x[None, rows], y[None, rows], activation, v)
            total += (product.double() * v).sum(dim=1) * (len(x[rows]) / len(x))
        samples.append(total)
    each = torch.stack(samples)
    return each.mean(dim=0), each.std(dim=0) / len(each) ** 0.5


def sign_probes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """``count`` vectors of random signs, (count, size) in float32."""
    return 2.0 * torch.randint(0, 2, (count, size), generator=generator) - 1.0
