"""The noise of gradients made of few rows, and whether it points where the loss bends.

With g_i the gradient of the loss of row i, g their mean over all R rows and B rows drawn for a step, the gradient of a
step has the covariance C / B:

    C = 1/R Σ g_i g_iᵀ - g gᵀ        alignment = tr(C H) / (‖C‖_F ‖H‖_F)

Stochastic gradient descent with rate η is then a noisy descent dθ = -g dt + √(2 D) dW with D = η C / (2 B); the claim
that D = η L(θ) H(θ*) / B (supplement of the paper) is C = 2 L H, for which the alignment is 1.

Neither C nor H is made.  Of the trace of C nothing is estimated: of a fully connected layer the squared length of a
row's gradient is |δ_i|² (|h_i|² + 1).  The alignment is that of the images of P random sign vectors v,

    Σ ⟨C v, H v⟩ / √(Σ |C v|² Σ |H v|²)

whose three sums estimate tr(C H), ‖C‖²_F and ‖H‖²_F without bias, P times each; so it lies within ±1, is 1 for every
probe if C is a multiple of H, and its error falls as 1 / √P.

Shapes: N networks, R rows, B rows of a piece, P probes, Θ parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ldnn_core.activations import Activation
from ldnn_core.curvature.linearized import Linearized, linearized_pieces, networks_at_once
from ldnn_core.curvature.measure import sign_probes
from ldnn_core.curvature.mlp_products import MlpProducts
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import Network

PROBES_AT_ONCE: Final = 8
"""Probes that are multiplied in one go."""


@dataclass(frozen=True)
class GradientNoise:
    """Of N networks, in float64; NaN where a network has diverged.

    Attributes:
        trace: tr C, the mean squared distance of a row's gradient from the gradient of all rows, (N,).
        alignment: cosine of C and H, (N,); NaN also where one of them is zero.
    """

    trace: Tensor
    alignment: Tensor


def gradient_noise(
    network: Network,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    activation: Activation,
    *,
    generator: torch.Generator,
    probes: int,
) -> GradientNoise:
    """Measure the gradient noise of trained networks on rows that stand for all that a step can draw.

    Args:
        network: fully connected.
        parameters: (N, Θ).
        x: rows, (R, D).
        y: their targets, (R, ...).
        activation: of the hidden layers, for N networks.
        generator: source of the probes, which all networks share.
        probes: P.

    Raises:
        ValueError: no probes.
        TypeError: another kind of network, where the gradient of one row may depend on the others.
    """
    if not isinstance(network, MlpSpec):
        raise TypeError(f"gradient noise is measured of fully connected networks (MlpSpec), not of {type(network)}")
    if probes < 1:
        raise ValueError(f"at least one probe is needed, but got probes={probes}")
    signs = sign_probes(probes, network.num_params, generator).to(parameters)
    at_once = min(probes, PROBES_AT_ONCE)
    size = networks_at_once(network, x, at_once)
    found = []
    for first in range(0, len(parameters), size):
        block = slice(first, min(first + size, len(parameters)))
        own = parameters[block]
        pieces = linearized_pieces(network, own, x, y, activation.of_networks(block), at_once)
        with torch.no_grad():
            found.append(_measure(network, pieces, signs.expand(len(own), -1, -1)))
    return GradientNoise(*(torch.cat(column) for column in zip(*found, strict=True)))


class NoiseProducts:
    """Multiplies vectors by the covariance of one row's gradient.

    Args:
        spec: sizes of the networks.
        pieces: the networks at all rows.
    """

    def __init__(self, spec: MlpSpec, pieces: Sequence[Linearized]) -> None:
        self._spec, self._pieces = spec, pieces
        self.rows = sum(piece.z.shape[1] for piece in pieces)
        self.gradient = torch.stack([_mean_gradient(piece, piece.deltas) for piece in pieces]).sum(dim=0)
        """Of the loss, (N, Θ)."""

    def __call__(self, v: Tensor) -> Tensor:
        """C v, (N, P, Θ), for v (N, P, Θ)."""
        return torch.stack([self._one(own) for own in v.unbind(1)], dim=1)

    def trace(self) -> Tensor:
        """The trace of C, (N,)."""
        squares = torch.stack([_squared_lengths(piece) for piece in self._pieces]).sum(dim=0)
        # a delta has 1 / R in it: R² makes it that of the row's own loss, and 1 / R the mean
        return self.rows * squares - self.gradient.double().square().sum(dim=1)

    def _one(self, v: Tensor) -> Tensor:
        """C v for one vector of each network, (N, Θ): the rows' gradients, each times its deviation along v."""
        mean = (self.gradient * v).sum(dim=1)
        product = torch.zeros_like(v)
        for piece in self._pieces:
            layers = zip(piece.inputs, piece.deltas, self._spec.layers(v), strict=True)
            along = sum((torch.baddbmm(bias, h, weight) * delta).sum(dim=2) for h, delta, (weight, bias) in layers)
            deviation = (self.rows * along - mean[:, None]).unsqueeze(2)
            product += _mean_gradient(piece, [delta * deviation for delta in piece.deltas])
        return product


def _measure(spec: MlpSpec, pieces: Sequence[Linearized], signs: Tensor) -> tuple[Tensor, Tensor]:
    hessian, covariance = MlpProducts(spec, pieces), NoiseProducts(spec, pieces)
    both = one = other = torch.zeros(len(signs), dtype=torch.float64, device=signs.device)
    for some in signs.split(PROBES_AT_ONCE, dim=1):
        bent, noisy = hessian(some).double(), covariance(some).double()
        both = both + (bent * noisy).sum(dim=(1, 2))
        one, other = one + bent.square().sum(dim=(1, 2)), other + noisy.square().sum(dim=(1, 2))
    trace = covariance.trace()
    lost = ~(torch.isfinite(trace) & torch.isfinite(both))
    return trace.masked_fill(lost, float("nan")), (both / (one * other).sqrt()).masked_fill(lost, float("nan"))


def _mean_gradient(piece: Linearized, deltas: Sequence[Tensor]) -> Tensor:
    """The parameters' gradient for these derivatives by pre-activations, (N, Θ)."""
    pairs = [(torch.bmm(h.mT, delta), delta.sum(dim=1)) for h, delta in zip(piece.inputs, deltas, strict=True)]
    return torch.cat([part for weight, bias in pairs for part in (weight.flatten(1), bias)], dim=1)


def _squared_lengths(piece: Linearized) -> Tensor:
    """Squared lengths of the rows' parts of the gradient, summed over the rows: (N,) float64."""
    layers = zip(piece.inputs, piece.deltas, strict=True)
    parts = [delta.square().sum(dim=2) * (h.square().sum(dim=2) + 1) for h, delta in layers]
    return torch.stack(parts).sum(dim=0).double().sum(dim=1)
