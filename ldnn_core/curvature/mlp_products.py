"""Products with the Hessians of fully connected networks, many vectors at once.

Along v the tangents of a forward and a backward sweep make H v (Pearlmutter 1994); dotted quantities are tangents:

    ȧ_l = h_{l-1} V_l + ḣ_{l-1} W_l + v_l        ḣ_l = σ'(a_l) ∘ ȧ_l
    (H v)_l = h_{l-1}ᵀ δ̇_l + ḣ_{l-1}ᵀ δ_l        δ̇_{l-1} = σ'(a) ∘ (δ̇_l W_lᵀ + δ_l V_lᵀ) + (δ_l W_lᵀ ∘ σ''(a)) ∘ ȧ

What has no dot is the same for all vectors and is kept (`ldnn_core.curvature.linearized`).  The vectors of a network
are columns of the same matrix products, so that what is kept is read once for all of them.

Shapes: N networks, B rows of a piece, P vectors, Θ parameters, D inputs, H units, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core import dense
from ldnn_core.curvature.linearized import Linearized
from ldnn_core.losses import Loss
from ldnn_core.mlp import MlpSpec


class MlpProducts:
    """Multiplies vectors by the Hessians of networks that have been linearised.

    Args:
        spec: sizes of the networks.
        pieces: the networks at all rows.
    """

    def __init__(self, spec: MlpSpec, pieces: Sequence[Linearized]) -> None:
        self._spec = spec
        self._pieces = pieces
        self._spaces: dict[tuple[int, int], _Space] = {}

    def __call__(self, v: Tensor) -> Tensor:
        """H v, (N, P, Θ), for v (N, P, Θ) of any type; the result has the type of the parameters."""
        v = v.to(self._pieces[0].z)
        with torch.no_grad():
            sums = _Sums(self._spec, v)
            for piece in self._pieces:
                sums.add(piece, self._space(piece, v.shape[1]))
            return sums.result()

    def _space(self, piece: Linearized, count: int) -> _Space:
        """Memory that is written again for every piece: to get it anew each time would cost as much as its use."""
        key = piece.z.shape[1], count
        if key not in self._spaces:
            self._spaces[key] = _Space.make(self._spec, piece, count)
        return self._spaces[key]


@dataclass(frozen=True)
class _Space:
    """Tangents of a piece: of the pre-activations of every layer, and of the inputs of every layer but the first."""

    pre: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]

    @staticmethod
    def make(spec: MlpSpec, piece: Linearized, count: int) -> _Space:
        rows = piece.z.shape[:2]
        pre = tuple(piece.z.new_empty(*rows, count * o) for _, o in spec.layer_sizes)
        return _Space(pre, tuple(torch.empty_like(one) for one in pre[:-1]))


class _Sums:
    """H v of one call, summed over the pieces; weights lie as (N, in, P · out) until the end."""

    def __init__(self, spec: MlpSpec, v: Tensor) -> None:
        self._spec, self._count, self._like = spec, v.shape[1], v
        self._tangents: list[tuple[Tensor, Tensor]] = []
        self._turned: list[Tensor] = []
        for weight, bias in dense.split(v, spec.layer_sizes):
            self._tangents.append((weight.transpose(1, 2).flatten(2), bias.flatten(1).unsqueeze(1)))
            self._turned.append(weight.permute(0, 3, 1, 2).flatten(2))  # (N, out, P · in)
        self._weights = [torch.zeros_like(weight) for weight, _ in self._tangents]
        self._biases = [torch.zeros_like(bias) for _, bias in self._tangents]
        self._by_hidden = [v.new_zeros(len(v), self._count * i, o) for i, o in spec.layer_sizes]

    def add(self, piece: Linearized, space: _Space) -> None:
        """One piece: the tangents of both sweeps."""
        count = self._count
        for layer, (h, (weight_dot, bias_dot)) in enumerate(zip(piece.inputs, self._tangents, strict=True)):
            a_dot = torch.baddbmm(bias_dot, h, weight_dot, out=space.pre[layer])
            if layer:
                h_dot = _as_rows(space.hidden[layer - 1], count)
                _as_rows(a_dot, count).baddbmm_(h_dot, piece.weights[layer])
            if layer < len(piece.slopes):
                slope = piece.slopes[layer].unsqueeze(2)
                torch.mul(_apart(a_dot, count), slope, out=_apart(space.hidden[layer], count))
        delta_dot = _loss_tangent(self._spec.loss, piece, space.pre[-1], count)
        for layer in range(len(piece.weights) - 1, -1, -1):
            self._weights[layer].baddbmm_(piece.inputs[layer].mT, delta_dot)
            self._biases[layer].add_(delta_dot.sum(dim=1, keepdim=True))
            if not layer:
                break
            h_dot, delta, at = space.hidden[layer - 1], piece.deltas[layer], layer - 1
            self._by_hidden[layer].baddbmm_(h_dot.mT, delta)
            bar_dot = h_dot  # which is not needed any more
            torch.bmm(_as_rows(delta_dot, count), piece.weights[layer].mT, out=_as_rows(bar_dot, count))
            bar_dot.baddbmm_(delta, self._turned[layer])
            each = _apart(bar_dot, count).mul_(piece.slopes[at].unsqueeze(2))
            each.addcmul_(piece.bends[at].unsqueeze(2), _apart(space.pre[at], count))
            delta_dot = bar_dot

    def result(self) -> Tensor:
        """H v, (N, P, Θ)."""
        parts = []
        for (i, o), weight, bias, by_hidden in zip(
            self._spec.layer_sizes, self._weights, self._biases, self._by_hidden, strict=True
        ):
            own = weight.unflatten(2, (self._count, o)).transpose(1, 2) + by_hidden.unflatten(1, (self._count, i))
            parts += [own.flatten(2), bias.view(-1, self._count, o)]
        return torch.cat(parts, dim=2)


def _loss_tangent(loss: Loss, piece: Linearized, z_dot: Tensor, count: int) -> Tensor:
    """δ̇ of the outputs, (N, B, P · C): each row counts as a row for each vector."""
    z = piece.z.unsqueeze(2).expand(-1, -1, count, -1).flatten(1, 2)
    y = piece.y.unsqueeze(2).expand(*piece.y.shape[:2], count, *piece.y.shape[2:]).flatten(1, 2)
    _, tangent = loss.slope_jvp(z, y, _as_rows(z_dot, count))
    return tangent.mul_(count * piece.share).view_as(z_dot)  # the loss is a mean over the rows that it sees


def _as_rows(columns: Tensor, count: int) -> Tensor:
    """(N, B, P · out) as (N, B · P, out); the same memory."""
    return columns.view(len(columns), columns.shape[1] * count, -1)


def _apart(columns: Tensor, count: int) -> Tensor:
    """(N, B, P · out) as (N, B, P, out); the same memory."""
    return columns.view(*columns.shape[:2], count, -1)
