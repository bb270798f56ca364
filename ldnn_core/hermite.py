"""Lowered activations: a bank of one-dimensional functions as cubic Hermite tables on a uniform grid.

A learned activation costs W hyperbolic tangents per neuron and sample; a look-up costs the same whatever W is.
Between knots x_i and x_{i+1} = x_i + h, with u = (x - x_i) / h, values v and slopes s,

    y = c₀ + c₁ u + c₂ u² + c₃ u³
    c₀ = v_i,  c₁ = h s_i,  c₂ = 3 Δv - h (2 s_i + s_{i+1}),  c₃ = h (s_i + s_{i+1}) - 2 Δv,      Δv = v_{i+1} - v_i

and outside the grid a straight line.  Errors (max |f''''| = M4):  value M4 h⁴ / 384,  slope √3 M4 h³ / 216,
second derivative M4 h² / 12  (Birkhoff & Priver 1967).  The table holds the coefficients, made in float64: formed in
float32 from values and slopes, the differences in c₂ and c₃ would cost the derivatives three digits.  The number of
cells per unit is a whole number and 0 is a knot, so that the place in a cell is found without rounding.

Shapes: N networks, B batch, H units, F functions, G cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
class Grid:
    """Equal cells from ``-origin / scale`` on.

    Attributes:
        scale: cells per unit; a power of two is exact in every floating-point type.
        origin: cells left of 0.
        cells: G, in all.
    """

    scale: int = 64
    origin: int = 640
    cells: int = 1280

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last knot."""
        return -self.origin / self.scale, (self.cells - self.origin) / self.scale

    def knots(self) -> Tensor:
        """All G + 1 knots in float64."""
        return (torch.arange(self.cells + 1, dtype=torch.float64) - self.origin) / self.scale

    def coefficients(self, values: Tensor, slopes: Tensor) -> Tensor:
        """Values and slopes at the knots, each (F, G + 1), as coefficients (F, G, 4); differentiable."""
        rise = values[:, 1:] - values[:, :-1]
        left, right = slopes[:, :-1] / self.scale, slopes[:, 1:] / self.scale
        return torch.stack([values[:, :-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise], dim=-1)


@dataclass(frozen=True)
class HermiteTable:
    """F functions on one grid.

    Attributes:
        coefficients: (F, G, 4), contiguous.
        grid: where the cells lie.
        fused: whether the compiled CPU kernels are used; the eager path always works and gives the same numbers
            to rounding.
    """

    coefficients: Tensor
    grid: Grid
    fused: bool = True

    def value_slope(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a).

        Args:
            a: (N, B, H) pre-activations.
            function: (N or 1, H) int64, which function each unit uses.
        """
        if not self._use_kernels(a):
            y, dy, _ = self._eager(a, function)
            return y, dy
        y, dy = torch.empty_like(a), torch.empty_like(a)
        start = self._start(a, function)
        kernels.value_slope(a.contiguous().numpy(), self._flat(), start, *self._place(), y.numpy(), dy.numpy())
        return y, dy

    def value_slope_curvature(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a); arguments as for `value_slope`."""
        if not self._use_kernels(a):
            return self._eager(a, function)
        y, dy, ddy = torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)
        outputs = (y.numpy(), dy.numpy(), ddy.numpy())
        start = self._start(a, function)
        kernels.value_slope_curvature(a.contiguous().numpy(), self._flat(), start, *self._place(), *outputs)
        return y, dy, ddy

    def add_cotangent(self, out: Tensor, a: Tensor, function: Tensor, y_bar: Tensor, dy_bar: Tensor) -> None:
        """Add to ``out`` (F, G, 4) the cotangent of the coefficients, given those of σ(a) and of σ'(a)."""
        if self._use_kernels(a):
            bars = (y_bar.contiguous().numpy(), dy_bar.contiguous().numpy())
            start = self._start(a, function)
            kernels.scatter(a.contiguous().numpy(), start, *self._place(), *bars, out.view(-1).numpy())
            return
        cell, u, beyond = self._locate(a)
        slope_bar = y_bar * beyond + dy_bar * self.grid.scale
        parts = (y_bar, y_bar * u + slope_bar, u * (y_bar * u + 2 * slope_bar), u * u * (y_bar * u + 3 * slope_bar))
        first = (function.unsqueeze(1) * self.grid.cells + cell) * 4
        for power, part in enumerate(parts):
            out.view(-1).index_add_(0, (first + power).reshape(-1), part.reshape(-1))

    def _use_kernels(self, a: Tensor) -> bool:
        return self.fused and FUSED_AVAILABLE and a.device.type == "cpu" and a.dtype in _FUSED_TYPES

    def _flat(self) -> np.ndarray:
        return self.coefficients.view(-1).numpy()

    def _start(self, a: Tensor, function: Tensor) -> np.ndarray:
        start = (function * (4 * self.grid.cells)).to(torch.int32)
        return start.expand(a.shape[0], a.shape[2]).contiguous().numpy()

    def _place(self) -> tuple[int, int, int]:
        return self.grid.cells, self.grid.scale, self.grid.origin

    def _locate(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cell, place within it clamped to [0, 1], and how far beyond the grid in cells."""
        scaled = a * self.grid.scale
        cell = (scaled + self.grid.origin).nan_to_num(0.0).clamp(0, self.grid.cells - 1).to(torch.int64)
        u = scaled + (self.grid.origin - cell)
        inside = u.nan_to_num(0.0).clamp(0, 1)
        return cell, inside, u - inside

    def _eager(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cell, u, beyond = self._locate(a)
        rows = self.coefficients.reshape(-1, 4)[function.unsqueeze(1) * self.grid.cells + cell]
        c0, c1, c2, c3 = rows.unbind(-1)
        slope = c1 + u * (2 * c2 + 3 * c3 * u)
        scale = self.grid.scale
        low, high = self.grid.ends
        curvature = ((2 * c2 + 6 * c3 * u) * scale * scale).masked_fill(~((a >= low) & (a <= high)), 0.0)
        return c0 + u * (c1 + u * (c2 + u * c3)) + slope * beyond, slope * scale, curvature
