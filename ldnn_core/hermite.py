"""Lowered activations: a bank of one-dimensional functions as cubic Hermite tables on a uniform grid.

A learned activation costs W hyperbolic tangents per neuron and sample; a look-up costs the same whatever W is.
Between knots x_i and x_{i+1} = x_i + h, with u = (x - x_i) / h, values v and slopes s,

    y = v_0 + h s_0 u + (3 Δv - 2 h s_0 - h s_1) u² + (h s_0 + h s_1 - 2 Δv) u³,      Δv = v_1 - v_0

and outside the grid a straight line.  Errors (max |f''''| = M4):  value M4 h⁴ / 384,  slope √3 M4 h³ / 216,
second derivative M4 h² / 12  (Birkhoff & Priver 1967).

Shapes: N networks, B batch, H units, F functions, G knots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

try:
    from ldnn_core import hermite_kernels as kernels
except ImportError:  # no Numba for this platform: the eager path serves
    kernels = None  # type: ignore[assignment]

FUSED_AVAILABLE = kernels is not None
"""Whether the compiled CPU kernels can be used here."""
_FUSED_TYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class HermiteTable:
    """F functions on one grid.

    Attributes:
        knots: (F, G, 2), value and slope × spacing of each function at each knot; contiguous.
        x_min: position of the first knot.
        x_max: position of the last knot.
        fused: whether the compiled CPU kernels are used; the eager path always works and gives the same numbers
            to rounding.
    """

    knots: Tensor
    x_min: float
    x_max: float
    fused: bool = True

    @property
    def inverse_spacing(self) -> float:
        """1 / h."""
        return (self.knots.shape[1] - 1) / (self.x_max - self.x_min)

    def value(self, a: Tensor, function: Tensor) -> Tensor:
        """σ(a), differentiable by autograd in a and in the knots; arguments as for `value_slope`."""
        if not (torch.is_grad_enabled() and (a.requires_grad or self.knots.requires_grad)):
            return self.value_slope(a, function)[0]
        return self._eager(a, function)[0]

    def value_slope(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a).

        Args:
            a: (N, B, H) pre-activations.
            function: (N, H) int64, which function each unit uses.
        """
        if not self._use_kernels(a):
            y, dy, _ = self._eager(a, function)
            return y, dy
        y, dy = torch.empty_like(a), torch.empty_like(a)
        kernels.value_slope(*self._kernel_arguments(a, function), y.numpy(), dy.numpy())
        return y, dy

    def value_slope_curvature(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a); arguments as for `value_slope`."""
        if not self._use_kernels(a):
            return self._eager(a, function)
        y, dy, ddy = torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)
        kernels.value_slope_curvature(*self._kernel_arguments(a, function), y.numpy(), dy.numpy(), ddy.numpy())
        return y, dy, ddy

    def add_cotangent(self, out: Tensor, a: Tensor, function: Tensor, c0: Tensor, c1: Tensor) -> None:
        """Add to ``out`` (F, G, 2) the cotangent of the knots, given those of σ(a), c0, and of σ'(a), c1."""
        if self._use_kernels(a):
            x, _, start, knots, x_min, inv_h = self._kernel_arguments(a, function)
            cotangents = (c0.contiguous().numpy(), c1.contiguous().numpy())
            kernels.scatter(x, start, knots, x_min, inv_h, *cotangents, out.view(-1).numpy())
            return
        cell, u, beyond = self._locate(a)
        inv_h = self.inverse_spacing
        g1 = c0 * beyond + c1 * inv_h
        up = c0 * u * u * (3 - 2 * u) + g1 * 6 * (u - u * u)
        parts = (
            c0 - up,
            c0 * u * (1 - u) ** 2 + g1 * (1 + u * (3 * u - 4)),
            up,
            c0 * u * u * (u - 1) + g1 * u * (3 * u - 2),
        )
        start = (function.unsqueeze(1) * self.knots.shape[1] + cell) * 2
        for offset, part in enumerate(parts):
            out.view(-1).index_add_(0, (start + offset).reshape(-1), part.reshape(-1))

    def _use_kernels(self, a: Tensor) -> bool:
        return self.fused and FUSED_AVAILABLE and a.device.type == "cpu" and a.dtype in _FUSED_TYPES

    def _kernel_arguments(self, a: Tensor, function: Tensor):  # type: ignore[no-untyped-def]  # a tuple for Numba
        knots = self.knots.shape[1]
        start = (function * (2 * knots)).to(torch.int32)
        real = self.knots.numpy().dtype.type
        return (
            a.contiguous().numpy(),
            self.knots.view(-1).numpy(),
            start.expand(a.shape[0], a.shape[2]).contiguous().numpy(),
            knots,
            real(self.x_min),
            real(self.inverse_spacing),
        )

    def _locate(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cell, position within it clamped to [0, 1], and how far beyond the grid in units of h."""
        t = (a - self.x_min) * self.inverse_spacing
        cell = t.nan_to_num(0.0).clamp(0, self.knots.shape[1] - 2).to(torch.int64)
        u = t - cell
        inside = u.nan_to_num(0.0).clamp(0, 1)
        return cell, inside, u - inside

    def _eager(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cell, u, beyond = self._locate(a)
        flat = self.knots.reshape(-1, 2)
        index = function.unsqueeze(1) * self.knots.shape[1] + cell
        v0, s0 = flat[index].unbind(-1)
        v1, s1 = flat[index + 1].unbind(-1)
        rise = v1 - v0
        c2, c3 = 3 * rise - 2 * s0 - s1, s0 + s1 - 2 * rise
        slope = s0 + u * (2 * c2 + 3 * c3 * u)
        inv_h = self.inverse_spacing
        curvature = torch.where(beyond == 0, (2 * c2 + 6 * c3 * u) * inv_h**2, torch.zeros_like(u))
        return v0 + u * (s0 + u * (c2 + u * c3)) + slope * beyond, slope * inv_h, curvature
