"""Fully connected networks linearised at some rows: what a product with the Hessian needs beside its vector.

Along v the tangents of a forward and a backward sweep make H v (Pearlmutter 1994); dotted quantities are tangents:

    ȧ_l = h_{l-1} V_l + ḣ_{l-1} W_l + v_l        ḣ_l = σ'(a_l) ∘ ȧ_l
    (H v)_l = h_{l-1}ᵀ δ̇_l + ḣ_{l-1}ᵀ δ_l        δ̇_{l-1} = σ'(a) ∘ (δ̇_l W_lᵀ + δ_l V_lᵀ) + (δ_l W_lᵀ ∘ σ''(a)) ∘ ȧ

Everything without a dot is the same for all vectors.  So both sweeps are done once and kept, and of the activation
only numbers are left: a product costs the same whatever the activation is.  The vectors of one network are columns of
the same matrix products.

Shapes: N networks, B rows, P vectors, Θ parameters, D inputs, H units, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.activations import Activation
from ldnn_core.curvature.second_derivative import value_slope_curvature
from ldnn_core.mlp import MlpSpec


@dataclass(frozen=True)
class Linearized:
    """Networks at some of the rows that their loss is a mean over.

    Attributes:
        spec: sizes.
        weights: of every linear layer, (N, in, out).
        inputs: of every linear layer: x (N, B, D), then hidden units.
        slopes: σ'(a) of every hidden layer, (N, B, H).
        bends: σ''(a) times the derivative of the loss by the units, likewise.
        deltas: derivative of the loss by the pre-activations of every linear layer, (N, B, out).
        z: outputs, (N, B, C).
        y: targets, (N or 1, B, ...).
        share: these rows ÷ all rows; the deltas have it in them.
    """

    spec: MlpSpec
    weights: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    bends: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    z: Tensor
    y: Tensor
    share: float

    def add_products(self, out: Tensor, v: Tensor) -> None:
        """Add to ``out`` these rows' part of H v; both (N, P, Θ), of the type of the parameters."""
        count = v.shape[1]
        tangents = _columns(self.spec, v)
        pre, hidden = self._forward(tangents, count)
        delta_dot = self._loss_tangent(pre[-1], count)
        start = v.shape[2]
        for layer in range(len(self.weights) - 1, -1, -1):
            (i, o), h, delta = self.spec.layer_sizes[layer], self.inputs[layer], self.deltas[layer]
            start -= i * o + o
            own = out[..., start : start + i * o + o]
            weight_part = torch.bmm(h.mT, delta_dot).unflatten(2, (count, o)).transpose(1, 2)
            own[..., : i * o].unflatten(2, (i, o)).add_(weight_part)
            own[..., i * o :].add_(delta_dot.sum(dim=1).unflatten(1, (count, o)))
            if not layer:
                break
            own[..., : i * o].unflatten(2, (i, o)).add_(torch.bmm(hidden[layer].mT, delta).unflatten(1, (count, i)))
            # δ̇ Wᵀ for each vector, then δ Vᵀ for all: rows × (vectors · units)
            bar_dot = torch.bmm(_as_rows(delta_dot, count), self.weights[layer].mT)
            turned = tangents[layer][0].unflatten(2, (count, o)).permute(0, 3, 2, 1).flatten(2)
            columns = bar_dot.view(*h.shape[:2], count * i).baddbmm_(delta, turned)
            each = columns.view(*h.shape[:2], count, i)
            each.mul_(self.slopes[layer - 1].unsqueeze(2))
            each.addcmul_(self.bends[layer - 1].unsqueeze(2), pre[layer - 1].view_as(each))
            delta_dot = columns

    def _forward(self, tangents: list[tuple[Tensor, Tensor]], count: int) -> tuple[list[Tensor], list[Tensor]]:
        """Tangents of all pre-activations (N, B, P · out) and of the inputs of all layers but the first."""
        pre: list[Tensor] = []
        hidden: list[Tensor] = [self.inputs[0]]  # x has no tangent, and none is asked for
        for layer, (h, (weight_dot, bias_dot)) in enumerate(zip(self.inputs, tangents, strict=True)):
            a_dot = torch.baddbmm(bias_dot, h, weight_dot)
            if layer:
                _as_rows(a_dot, count).baddbmm_(_as_rows(hidden[-1], count), self.weights[layer])
            pre.append(a_dot)
            if layer < len(self.slopes):
                slope = self.slopes[layer].unsqueeze(2)
                hidden.append((a_dot.view(*slope.shape[:2], count, -1) * slope).flatten(2))
        return pre, hidden

    def _loss_tangent(self, z_dot: Tensor, count: int) -> Tensor:
        """δ̇ of the outputs, (N, B, P · C): each row counts as one row for each vector."""
        z = self.z.unsqueeze(2).expand(-1, -1, count, -1).flatten(1, 2)
        y = self.y.unsqueeze(2).expand(*self.y.shape[:2], count, *self.y.shape[2:]).flatten(1, 2)
        _, tangent = self.spec.loss.slope_jvp(z, y, _as_rows(z_dot, count))
        return tangent.mul_(count * self.share).view_as(z_dot)  # the loss is a mean over its rows


def linearize(
    spec: MlpSpec, parameters: Tensor, x: Tensor, y: Tensor, activation: Activation, share: float = 1.0
) -> Linearized:
    """Networks (N, Θ) at rows x (N or 1, B, D) with targets y, which are this share of all rows."""
    layers = spec.layers(parameters)
    inputs = [x.expand(len(parameters), -1, -1)]
    slopes, curvatures = [], []
    for index, (weight, bias) in enumerate(layers[:-1]):
        h, slope, curvature = value_slope_curvature(activation, torch.baddbmm(bias, inputs[-1], weight), index)
        inputs.append(h)
        slopes.append(slope)
        curvatures.append(curvature)
    weight, bias = layers[-1]
    z = torch.baddbmm(bias, inputs[-1], weight)
    deltas = [spec.loss.value_slope(z, y)[1] * share]
    bends: list[Tensor] = []
    for index in range(len(slopes) - 1, -1, -1):
        bar = torch.bmm(deltas[0], layers[index + 1][0].mT)
        bends.insert(0, curvatures[index].mul_(bar))
        deltas.insert(0, bar.mul_(slopes[index]))
    weights = tuple(weight for weight, _ in layers)
    return Linearized(spec, weights, tuple(inputs), tuple(slopes), tuple(bends), tuple(deltas), z, y, share)


def _columns(spec: MlpSpec, v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Vectors (N, P, Θ) as weights (N, in, P · out) and biases (N, 1, P · out)."""
    views, start = [], 0
    for i, o in spec.layer_sizes:
        weight = v[..., start : start + i * o].unflatten(2, (i, o)).transpose(1, 2).flatten(2)
        bias = v[..., start + i * o : start + i * o + o].flatten(1).unsqueeze(1)
        views.append((weight, bias))
        start += i * o + o
    return views


def _as_rows(columns: Tensor, count: int) -> Tensor:
    """(N, B, P · out) as (N, B · P, out); the same memory."""
    return columns.view(len(columns), columns.shape[1] * count, -1)
