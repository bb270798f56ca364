"""Look-ups in a Hermite table as plain tensor arithmetic: on any device, and compiled on an accelerator.

They are pure: what is to be added to is added to by the caller, so that a failed compilation has changed nothing.  An
accelerator adds cotangents in no fixed order, so sums there are not reproducible to the bit; on the CPU they are.

Shapes: N networks, B batch, H units, F functions, G cells; scale, origin and cells are those of a `Grid`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.accelerator import CUDA


@CUDA.compiles
def value_slope(
    a: Tensor, coefficients: Tensor, function: Tensor, scale: int, origin: int, cells: int
) -> tuple[Tensor, Tensor]:
    """σ(a) and σ'(a), each (N, B, H); a (N, B, H), coefficients (F, G, 4), function (N or 1, H)."""
    y, dy, _ = _look_up(a, coefficients, function, scale, origin, cells)
    return y, dy


@CUDA.compiles
def value_slope_curvature(
    a: Tensor, coefficients: Tensor, function: Tensor, scale: int, origin: int, cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    """σ(a), σ'(a) and σ''(a)."""
    return _look_up(a, coefficients, function, scale, origin, cells)


@CUDA.compiles
def tangent(
    a: Tensor, a_dot: Tensor, coefficients: Tensor, function: Tensor, scale: int, origin: int, cells: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """σ(a), σ'(a) and their tangents σ'(a) ȧ, σ''(a) ȧ."""
    y, dy, ddy = _look_up(a, coefficients, function, scale, origin, cells)
    return y, dy, dy * a_dot, ddy * a_dot


@CUDA.compiles
def cotangent(
    a: Tensor, y_bar: Tensor, dy_bar: Tensor, function: Tensor, functions: int, scale: int, origin: int, cells: int
) -> Tensor:
    """The cotangent of the coefficients (F, G, 4) for those of σ(a) and of σ'(a)."""
    return _scatter(a, y_bar, dy_bar, function, functions, scale, origin, cells)


@CUDA.compiles
def tangent_back(
    a: Tensor,
    a_dot: Tensor,
    dy: Tensor,
    dy_dot: Tensor,
    h_bar: Tensor,
    h_bar_dot: Tensor,
    function: Tensor,
    functions: int,
    scale: int,
    origin: int,
    cells: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """δ = h̄ σ'(a), its tangent, and what `HermiteTable.tangent_back` adds to the cotangent of the coefficients."""
    out = _scatter(a, h_bar_dot, h_bar * a_dot, function, functions, scale, origin, cells)
    return h_bar * dy, torch.addcmul(h_bar_dot * dy, h_bar, dy_dot), out


def derivative(
    a: Tensor, coefficients: Tensor, first: Tensor | int, scale: int, origin: int, cells: int, order: int
) -> Tensor:
    """The derivative of σ of an order from 0 (σ itself), of the shape of a.

    Args:
        a: any shape.
        coefficients: (F, G, 4).
        first: the place in F · G of the first cell of each element's function; broadcast against a.
        scale: as of the grid, like those that follow.
        origin: see there.
        cells: see there.
        order: from the fourth on, all are zero; beyond the grid from the second on.
    """
    if order > 3:
        return torch.zeros_like(a)
    cell, u, beyond = _locate(a, scale, origin, cells)
    c0, c1, c2, c3 = coefficients.reshape(-1, 4)[first + cell].unbind(-1)
    if order == 0:
        return c0 + u * (c1 + u * (c2 + u * c3)) + (c1 + u * (2 * c2 + 3 * c3 * u)) * beyond
    if order == 1:
        return (c1 + u * (2 * c2 + 3 * c3 * u)) * scale
    bent = (2 * c2 + 6 * c3 * u) * scale**2 if order == 2 else 6 * c3 * scale**3
    return bent.masked_fill(beyond != 0, 0.0)


def _scatter(
    a: Tensor, y_bar: Tensor, dy_bar: Tensor, function: Tensor, functions: int, scale: int, origin: int, cells: int
) -> Tensor:
    cell, u, beyond = _locate(a, scale, origin, cells)
    slope_bar = y_bar * beyond + dy_bar * scale
    parts = (y_bar, y_bar * u + slope_bar, u * (y_bar * u + 2 * slope_bar), u * u * (y_bar * u + 3 * slope_bar))
    place = (function.unsqueeze(1) * cells + cell).reshape(-1)
    out = a.new_zeros(functions * cells, 4).index_add(0, place, torch.stack(parts, dim=-1).reshape(-1, 4))
    return out.view(functions, cells, 4)


def _look_up(
    a: Tensor, coefficients: Tensor, function: Tensor, scale: int, origin: int, cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    cell, u, beyond = _locate(a, scale, origin, cells)
    rows = coefficients.reshape(-1, 4)[function.unsqueeze(1) * cells + cell]
    c0, c1, c2, c3 = rows.unbind(-1)
    slope = c1 + u * (2 * c2 + 3 * c3 * u)
    curvature = ((2 * c2 + 6 * c3 * u) * scale * scale).masked_fill(beyond != 0, 0.0)
    return c0 + u * (c1 + u * (c2 + u * c3)) + slope * beyond, slope * scale, curvature


def _locate(a: Tensor, scale: int, origin: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cell, place within it clamped to [0, 1], and how far beyond the grid in cells; NaN is in the first cell."""
    scaled = a * scale
    floor = torch.where(scaled.isnan(), -origin, scaled.floor().clamp(-origin, cells - 1 - origin))
    u = scaled - floor
    inside = u.nan_to_num(0.0).clamp(0, 1)
    return floor.to(torch.int64) + origin, inside, u - inside
