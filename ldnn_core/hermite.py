"""Lowered activations: a bank of one-dimensional functions as cubic Hermite tables on a uniform grid.

A learned activation costs W hyperbolic tangents per neuron and sample; a look-up costs the same whatever W is.
Between knots x_i and x_{i+1} = x_i + h, with u = (x - x_i) / h, values v and slopes s,

    y = c₀ + c₁ u + c₂ u² + c₃ u³
    c₀ = v_i,  c₁ = h s_i,  c₂ = 3 Δv - h (2 s_i + s_{i+1}),  c₃ = h (s_i + s_{i+1}) - 2 Δv,      Δv = v_{i+1} - v_i

and outside the grid a straight line.  Errors (max |f''''| = M4):  value M4 h⁴ / 384,  slope √3 M4 h³ / 216,
second derivative M4 h² / 12  (Birkhoff & Priver 1967).  The table holds the coefficients, made in float64: formed in
float32 from values and slopes, the differences in c₂ and c₃ would cost the derivatives three digits.  The number of
cells per unit is a power of two and 0 is a knot, so that cells and places in them are found without rounding.

Shapes: N networks, B batch, H units, F functions, G cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from ldnn_core import hermite_arithmetic as arithmetic
from ldnn_core.accelerator import Compiled
from ldnn_core.compiled import FUSED_AVAILABLE, call, fits_kernels, new_like

if FUSED_AVAILABLE:  # else the eager path serves
    from ldnn_core import hermite_kernels as kernels

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Grid:
    """Equal cells from ``-origin / scale`` on.

    Attributes:
        scale: cells per unit, a power of two: then scaling is exact in every floating-point type.
        origin: cells left of 0.
        cells: G, in all.

    Raises:
        ValueError: the scale is not a power of two.
    """

    scale: int = 64
    origin: int = 640
    cells: int = 1280

    def __post_init__(self) -> None:
        if self.scale < 1 or self.scale & (self.scale - 1):
            raise ValueError(f"cells per unit must be a power of two, so that knots are exact, but got {self.scale}")

    @staticmethod
    def symmetric(half_range: float, scale: int) -> Grid:
        """Cells of 1 / scale from -half_range to half_range.

        Raises:
            ValueError: the ends are no knots, or the scale is not a power of two.
        """
        cells = half_range * scale
        if cells != int(cells) or cells < 1:
            raise ValueError(
                "the ends of a table must be knots (range times cells per unit is whole and at least 1), "
                f"but got {half_range} times {scale} = {cells}"
            )
        return Grid(scale, int(cells), 2 * int(cells))

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
        fused: whether compiled code is used, kernels on the CPU and `torch.compile` on an accelerator; the eager path
            always works and gives the same numbers to rounding.
    """

    coefficients: Tensor
    grid: Grid
    fused: bool = True

    def value_slope(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a).

        Args:
            a: (N, B, H) pre-activations.
            function: (N or 1, H) integers, which function each unit uses; int32 spares the kernels a conversion.
        """
        if not self._use_kernels(a):
            return self._plain(arithmetic.value_slope, a, self.coefficients, function, *self._cells)
        y, dy = new_like(a), new_like(a)
        call(kernels.value_slope, a, self.coefficients, *self._place(a, function), y, dy)
        return y, dy

    def value_slope_curvature(self, a: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and σ''(a); arguments as for `value_slope`."""
        if not self._use_kernels(a):
            return self._plain(arithmetic.value_slope_curvature, a, self.coefficients, function, *self._cells)
        y, dy, ddy = new_like(a), new_like(a), new_like(a)
        call(kernels.value_slope_curvature, a, self.coefficients, *self._place(a, function), y, dy, ddy)
        return y, dy, ddy

    def add_cotangent(self, out: Tensor, a: Tensor, function: Tensor, y_bar: Tensor, dy_bar: Tensor) -> None:
        """Add to ``out`` (F, G, 4) the cotangent of the coefficients, given those of σ(a) and of σ'(a)."""
        if self._use_kernels(a):
            assert out.is_contiguous()  # of anything else a copy would be written
            call(kernels.scatter, a, y_bar, dy_bar, *self._place(a, function), out)
            return
        shape = len(self.coefficients), *self._cells
        out += self._plain(arithmetic.cotangent, a, y_bar, dy_bar, function, *shape)

    def tangent(self, a: Tensor, a_dot: Tensor, function: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """σ(a), σ'(a) and their tangents σ'(a) ȧ, σ''(a) ȧ; arguments as for `value_slope`."""
        if not self._use_kernels(a, a_dot):
            return self._plain(arithmetic.tangent, a, a_dot, self.coefficients, function, *self._cells)
        y, dy, y_dot, dy_dot = new_like(a), new_like(a), new_like(a), new_like(a)
        place = self._place(a, function)
        call(kernels.tangent, a, a_dot, self.coefficients, *place, y, dy, y_dot, dy_dot)
        return y, dy, y_dot, dy_dot

    def tangent_back(
        self,
        out: Tensor,
        a: Tensor,
        a_dot: Tensor,
        function: Tensor,
        slopes: tuple[Tensor, Tensor],
        bars: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Pull the derivative h̄ of a loss L by y = σ(a), and its tangent, back through σ.

        To ``out`` the cotangent of the coefficients in L˙ is added: the derivative of L by them is Σ h̄ ∂σ(a), its
        tangent Σ h̄˙ ∂σ(a) + h̄ a˙ ∂σ'(a).

        Args:
            out: (F, G, 4), contiguous.
            a: (N, B, H) pre-activations.
            a_dot: their tangent.
            function: as for `value_slope`.
            slopes: σ'(a) and its tangent.
            bars: h̄ and its tangent.

        Returns:
            the derivative of L by a, δ = h̄ σ'(a), and its tangent.
        """
        (dy, dy_dot), (h_bar, h_bar_dot) = slopes, bars
        if not self._use_kernels(a, a_dot, *slopes, *bars):
            shape = len(self.coefficients), *self._cells
            tangents = a_dot, dy, dy_dot, h_bar, h_bar_dot
            delta, delta_dot, cotangent = self._plain(arithmetic.tangent_back, a, *tangents, function, *shape)
            out += cotangent
            return delta, delta_dot
        assert out.is_contiguous()
        delta, delta_dot = new_like(a), new_like(a)
        inputs = (a, a_dot, dy, dy_dot, h_bar, h_bar_dot)
        call(kernels.tangent_back, *inputs, *self._place(a, function), delta, delta_dot, out)
        return delta, delta_dot

    def _use_kernels(self, *tensors: Tensor) -> bool:
        return self.fused and fits_kernels(self.coefficients, *tensors)

    def _place(self, a: Tensor, function: Tensor) -> tuple[Any, ...]:
        """What every kernel is told after its inputs: functions, grid and shape."""
        networks, batch, units = a.shape
        grid, own = self.grid, units if function.shape[0] > 1 else 0
        return function.to(torch.int32), own, grid.cells, grid.scale, grid.origin, networks, batch, units

    @property
    def _cells(self) -> tuple[int, int, int]:
        """What the plain arithmetic is told of the grid."""
        return self.grid.scale, self.grid.origin, self.grid.cells

    def _plain(self, operation: Compiled[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """An operation on any device; compiled on an accelerator, if that is wanted."""
        return operation(*arguments, **named) if self.fused else operation.eager(*arguments, **named)
