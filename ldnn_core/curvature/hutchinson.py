"""The trace of a Hessian from products with random signs.

Shapes: N networks, Θ parameters of one network, R rows, P probes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.activations import Activation
from ldnn_core.curvature.products import hessian_products
from ldnn_core.network import Network

PROBES_AT_ONCE = 8
"""Probes that are multiplied in one go."""


def hessian_trace(
    network: Network, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """Trace of every network's Hessian by Hutchinson's estimate, and the standard error of that.

    The mean of vᵀ H v over probes v of independent signs (Hutchinson 1990).  It is exact for a diagonal Hessian; else
    its variance is twice the sum of the squared elements off the diagonal, divided by P.  All networks see the same
    probes, so that differences between networks are estimated better than each trace.

    Args:
        network: the kind of network.
        parameters: (N, Θ).
        x: all rows, (R, ...).
        y: their targets, (R, ...).
        activation: of the hidden layers.
        probes: (P, Θ), of +1 and -1; see `sign_probes`.

    Returns:
        trace and standard error, (N,) each in float64; NaN or infinite for a network that has diverged, and a NaN
        standard error for a single probe.
    """
    products = hessian_products(network, parameters, x, y, activation, min(PROBES_AT_ONCE, len(probes)))
    samples = []
    for some in probes.to(parameters).split(PROBES_AT_ONCE):
        v = some.expand(len(parameters), -1, -1).contiguous()
        samples.append((products(v).double() * v).sum(dim=2))
    return mean_and_error(torch.cat(samples, dim=1))


def mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (N,) of samples (N, P) and its standard error, NaN for a single sample."""
    spread = samples.std(dim=1) if samples.shape[1] > 1 else samples[:, 0] * float("nan")
    return samples.mean(dim=1), spread / samples.shape[1] ** 0.5


def sign_probes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """``count`` vectors of random signs, (count, size) in float32."""
    return 2.0 * torch.randint(0, 2, (count, size), generator=generator) - 1.0
