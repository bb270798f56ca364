"""Trace, largest eigenvalues and spectral density of the Hessians of a batch of networks, in one go.

Shapes: N networks, Θ parameters of one network, R rows, P probes, m Lanczos steps, k eigenvalues, G points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.activations import Activation
from ldnn_core.curvature.density import near_zero, smoothed, top_nodes
from ldnn_core.curvature.lanczos import quadrature, tridiagonal
from ldnn_core.curvature.linearized import networks_at_once
from ldnn_core.curvature.products import hessian_products
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Network

BASIS_BYTES = 256 << 20
"""Networks are measured in blocks whose Lanczos vectors take at most about this much memory."""


@dataclass(frozen=True)
class Curvature:
    """The Hessians of the loss of N networks, measured; everything in float64.

    Where a network has diverged all numbers are NaN.

    Attributes:
        trace: (N,), by Hutchinson's estimate.
        trace_sem: its standard error, (N,); NaN for a single probe.
        eigenvalues: the largest ones (not the largest absolute ones), (N, k) in falling order.  Never above the true
            ones, and exact where Lanczos has converged, which it does at the ends of the spectrum first.
        near_zero_fraction: share of all Θ eigenvalues that are at most ``near_zero_threshold`` in absolute value, (N,).
        near_zero_threshold: (N,), 1 % of the largest absolute eigenvalue (`ldnn_core.curvature.density.NEAR_ZERO`).
        grid: where the density is given, (N, G).
        density: spectral density on the grid, (N, G); its integral is one.
        smoothing: standard deviation of the Gaussian that stands for one eigenvalue, (N,).
    """

    trace: Tensor
    trace_sem: Tensor
    eigenvalues: Tensor
    near_zero_fraction: Tensor
    near_zero_threshold: Tensor
    grid: Tensor
    density: Tensor
    smoothing: Tensor


def measure_curvature(
    network: Network,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    activation: Activation,
    *,
    generator: torch.Generator,
    probes: int,
    lanczos_steps: int,
    eigenvalues: int,
) -> Curvature:
    """Measure the Hessians of networks that have been trained.

    Every probe is a vector of random signs, the same for all networks, from which one Lanczos run starts.  The first
    step of a run is Hutchinson's sample vᵀ H v of the trace (1990), whose variance is twice the sum of the squared
    elements off the diagonal; where only the trace is asked for, one step is enough.  All of a run is a quadrature of
    the spectral density.  Products are made in the type of the parameters, all else in float64: with networks in
    float32 eigenvalues are good to about 1e-6 of the largest.

    Args:
        network: the kind of network.
        parameters: (N, Θ).
        x: all rows that the loss is a mean over, (R, ...).
        y: their targets, (R, ...).
        activation: of the hidden layers, for N networks.
        generator: source of the probes.
        probes: P.
        lanczos_steps: m; with more than Θ there are Θ.
        eigenvalues: k, at most the number of steps.

    Raises:
        ValueError: numbers of probes, steps or eigenvalues that cannot be.
    """
    steps = check_counts(network, probes, lanczos_steps, eigenvalues)
    signs = sign_probes(probes, network.num_params, generator).to(parameters.device, torch.float64)
    size = max(1, BASIS_BYTES // (probes * steps * network.num_params * signs.element_size()))
    if isinstance(network, MlpSpec):
        size = min(size, networks_at_once(network, x, probes))
    diagonals, besides = [], []
    for first in range(0, len(parameters), size):
        block = slice(first, min(first + size, len(parameters)))
        own = parameters[block]
        products = hessian_products(network, own, x, y, activation.of_networks(block), probes)
        diagonal, beside = tridiagonal(products, signs.expand(len(own), -1, -1), steps)
        diagonals.append(diagonal)
        besides.append(beside)
    diagonal, beside = torch.cat(diagonals), torch.cat(besides)
    lost = ~(torch.isfinite(diagonal).all(dim=2) & torch.isfinite(beside).all(dim=2))[..., None]
    nodes, weights = quadrature(diagonal.masked_fill(lost, 0), beside.masked_fill(lost, 0))
    # of a unit start the first element is vᵀ H v / Θ
    samples = diagonal[..., 0] * network.num_params
    return summarized(samples, nodes.masked_fill(lost, float("nan")), weights, eigenvalues)


def summarized(samples: Tensor, nodes: Tensor, weights: Tensor, eigenvalues: int) -> Curvature:
    """What Lanczos runs from random signs say of Hessians.

    Args:
        samples: of the trace, (N, P) float64.
        nodes: Ritz values, (N, P, m) float64; NaN for a network that has diverged.
        weights: of the nodes, likewise; those of a run add to one.
        eigenvalues: k.
    """
    lost = torch.isnan(nodes).any(dim=2).any(dim=1)
    nodes = nodes.masked_fill(lost[:, None, None], 0)
    fraction, threshold = near_zero(nodes, weights)
    grid, density, width = smoothed(nodes, weights)
    found = *mean_and_error(samples), top_nodes(nodes, eigenvalues), fraction, threshold, grid, density, width
    nan = float("nan")
    return Curvature(*(one.masked_fill(lost.view(-1, *[1] * (one.ndim - 1)), nan) for one in found))


def mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (N,) of samples (N, P) and its standard error, NaN for a single sample."""
    spread = samples.std(dim=1) if samples.shape[1] > 1 else samples[:, 0] * float("nan")
    return samples.mean(dim=1), spread / samples.shape[1] ** 0.5


def sign_probes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """``count`` vectors of random signs, (count, size) in float32."""
    return 2.0 * torch.randint(0, 2, (count, size), generator=generator) - 1.0


def check_counts(network: Network, probes: int, lanczos_steps: int, eigenvalues: int) -> int:
    """The number of Lanczos steps that are done.

    Raises:
        ValueError: numbers that cannot be.
    """
    if probes < 1:
        raise ValueError(f"at least one probe is needed, but got probes={probes}")
    steps = min(lanczos_steps, network.num_params)
    if not 1 <= eigenvalues <= steps:
        raise ValueError(
            "1 <= eigenvalues <= Lanczos steps (of which there are at most as many as parameters) must hold, but got "
            f"(eigenvalues={eigenvalues}, lanczos_steps={lanczos_steps}, parameters={network.num_params})"
        )
    return steps
