"""How far a lowered activation is from the exact one, and which grid keeps it within a tolerance.

For a function with |f''''| ≤ M4 on a cell of width h the cubic Hermite interpolant is off by at most

    value  M4 h⁴ / 384,      slope  √3 M4 h³ / 216,      second derivative  M4 h² / 12        (Birkhoff & Priver 1967).

M4 is the largest |f''''| at a few points of every cell, by four nested derivatives; as cells are far narrower than the
scale on which a sub-network bends, more points change it little.  Rounding comes on top in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.hermite import Grid
from ldnn_core.subnetwork import ActivationSpec, exact_values_and_slopes

_POINTS_PER_CELL = 4
_LARGEST_SCALE = 4096


@dataclass(frozen=True)
class ErrorBounds:
    """Largest errors of the lowered functions within the table, without rounding.

    Attributes:
        value: of σ.
        slope: of σ'.
        curvature: of σ''.
    """

    value: float
    slope: float
    curvature: float


def fourth_derivative(spec: ActivationSpec, genomes: Tensor, grid: Grid) -> float:
    """M4 of the smooth part of a bank (M, K, P) on the grid; kinked base functions are exact in the table."""
    rows = genomes.detach().double().flatten(0, 1)
    offsets = (torch.arange(_POINTS_PER_CELL, dtype=torch.float64) + 0.5) / (_POINTS_PER_CELL * grid.scale)
    x = (grid.knots()[:-1].unsqueeze(1) + offsets).flatten().to(rows.device).expand(len(rows), -1)
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        y = exact_values_and_slopes(spec, rows, x, slopes=False, with_base=not spec.base_function.kinked)[0]
        for order in range(4):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=order < 3)
    return float(y.abs().max())


def error_bounds(spec: ActivationSpec, genomes: Tensor, grid: Grid) -> ErrorBounds:
    """The bounds for a bank (M, K, P) on a grid."""
    m4, h = fourth_derivative(spec, genomes, grid), 1 / grid.scale
    return ErrorBounds(m4 * h**4 / 384, 3**0.5 * m4 * h**3 / 216, m4 * h**2 / 12)


def grid_within(spec: ActivationSpec, genomes: Tensor, tolerance: float, *, half_range: int = 10) -> Grid:
    """The coarsest grid on [-half_range, half_range] whose value is within a tolerance; cells 2⁻ⁿ wide.

    Raises:
        ValueError: the tolerance is not positive, or would need more than 4096 cells per unit.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance > 0 must hold, but got tolerance={tolerance}")
    m4 = fourth_derivative(spec, genomes, Grid(64, 64 * half_range, 128 * half_range))
    scale = 4
    while m4 / scale**4 / 384 > tolerance:
        scale *= 2
        if scale > _LARGEST_SCALE:
            raise ValueError(
                f"at most {_LARGEST_SCALE} cells per unit are allowed, but tolerance={tolerance} needs more for a bank "
                f"with fourth derivatives up to {m4:.3g}: give a larger tolerance or smaller weights"
            )
    return Grid(scale, scale * half_range, 2 * scale * half_range)
