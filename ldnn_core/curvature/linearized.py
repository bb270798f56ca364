"""Fully connected networks linearised at some rows: one forward and one backward sweep, kept.

All that a product with the Hessian, or with the gradients of single rows, needs beside its vector.  Of the activation
only numbers are left, so whatever follows costs the same for every activation.

Shapes: N networks, B rows, D inputs, H units, C outputs, Θ parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.activations import Activation
from ldnn_core.mlp import MlpSpec

PIECE_BYTES = 1 << 19
"""Rows are taken in pieces whose widest hidden layer takes about this much memory for all vectors of a network, so that
the handful of tensors of its shape stay in the cache."""

KEPT_BYTES = 256 << 20
"""Networks are linearised in blocks that keep at most about this much memory."""


@dataclass(frozen=True)
class Linearized:
    """Networks at some of the rows that their loss is a mean over.

    Attributes:
        weights: of every linear layer, (N, in, out).
        inputs: of every linear layer: x (N, B, D), then hidden units.
        slopes: σ'(a) of every hidden layer, (N, B, H).
        bends: σ''(a) times the derivative of the loss by the units, likewise.
        deltas: derivative of the loss by the pre-activations of every linear layer, (N, B, out).
        z: outputs, (N, B, C).
        y: targets, (N or 1, B, ...).
        share: these rows ÷ all rows; the deltas have it in them.
    """

    weights: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    bends: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    z: Tensor
    y: Tensor
    share: float


def linearized_pieces(
    spec: MlpSpec, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, vectors: int
) -> list[Linearized]:
    """Networks (N, Θ) at all rows x (R, D) with targets y (R, ...), in pieces for so many vectors at once."""
    count = -(-len(x) // rows_of_piece(spec, x, vectors))
    with torch.no_grad():
        return [
            _linearize(spec, parameters, own_x[None], own_y[None], activation, len(own_x) / len(x))
            for own_x, own_y in zip(x.tensor_split(count), y.tensor_split(count), strict=True)
        ]


def rows_of_piece(spec: MlpSpec, x: Tensor, vectors: int) -> int:
    """Most rows of a piece; outside the CPU all are one.

    It depends on no number of networks, so neither does a product.
    """
    if not x.is_cpu:
        return len(x)
    widest = max(spec.hidden, default=1)
    return min(len(x), max(1, PIECE_BYTES // (vectors * widest * x.element_size())))


def networks_at_once(spec: MlpSpec, x: Tensor, vectors: int) -> int:
    """How many networks to linearise together: small ones until the tangents of a piece take some memory.

    What is kept of all rows (R, D) is bounded as well; no number depends on either.
    """
    kept = 3 * len(x) * sum(spec.hidden) * x.element_size()
    size = KEPT_BYTES // max(1, kept)
    if x.is_cpu:
        tangents = vectors * rows_of_piece(spec, x, vectors) * max(spec.hidden, default=1) * x.element_size()
        size = min(size, PIECE_BYTES // tangents)
    return max(1, size)


def _linearize(
    spec: MlpSpec, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, share: float
) -> Linearized:
    layers = spec.layers(parameters)
    inputs = [x.flatten(2).expand(len(parameters), -1, -1)]
    slopes, curvatures = [], []
    for index, (weight, bias) in enumerate(layers[:-1]):
        h, slope, curvature = activation.value_slope_curvature(torch.baddbmm(bias, inputs[-1], weight), index)
        inputs.append(h)
        slopes.append(slope)
        curvatures.append(curvature)
    weight, bias = layers[-1]
    z = torch.baddbmm(bias, inputs[-1], weight)
    deltas = [spec.loss.value_slope(z, y)[1] * share]
    bends: list[Tensor] = []
    for index in range(len(slopes) - 1, -1, -1):
        bar = torch.bmm(deltas[0], layers[index + 1][0].mT)
        bends.insert(0, curvatures[index] * bar)
        deltas.insert(0, bar.mul_(slopes[index]))
    weights = tuple(weight for weight, _ in layers)
    return Linearized(weights, tuple(inputs), tuple(slopes), tuple(bends), tuple(deltas), z, y, share)
