"""How far a lowered activation is from the exact one, and which grid keeps it within a tolerance.

For a function with |f''''| ≤ M4 on a cell of width h the cubic Hermite interpolant is off by at most

    value  M4 h⁴ / 384,      slope  √3 M4 h³ / 216,      second derivative  M4 h² / 12        (Birkhoff & Priver 1967).

M4 is the largest |f''''| at 256 points per unit, by four nested derivatives; as they lie far closer than the scale on
which a sub-network bends, more points change it little.  Rounding comes on top in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldnn_core.hermite import Grid
from ldnn_core.subnetwork import ActivationSpec, exact_values_and_slopes

_POINTS_PER_UNIT = 256
_BLOCK = 1 << 18
"""Hidden units, over all points, whose derivatives are formed together: they take about 100 MB, whatever the sizes."""
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
    low, high = grid.ends
    points = (torch.arange(round(_POINTS_PER_UNIT * (high - low)), dtype=torch.float64) + 0.5) / _POINTS_PER_UNIT + low
    blocks = points.to(rows.device).split(max(1, _BLOCK // sum(spec.hidden)))
    return max(_largest_fourth(spec, row, x) for row in rows.split(1) for x in blocks)


def _largest_fourth(spec: ActivationSpec, rows: Tensor, points: Tensor) -> float:
    with torch.enable_grad():
        x = points.expand(len(rows), -1).clone().requires_grad_()
        y = exact_values_and_slopes(spec, rows, x, slopes=False, with_base=not spec.base_function.kinked)[0]
        for order in range(4):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=order < 3)
    return float(y.abs().max())


def error_bounds(spec: ActivationSpec, genomes: Tensor, grid: Grid | None = None) -> ErrorBounds:
    """The bounds for a bank (M, K, P), or for some of its types, on a grid; None for the grid of the spec."""
    grid = grid or spec.grid
    m4, h = fourth_derivative(spec, genomes, grid), 1 / grid.scale
    return ErrorBounds(m4 * h**4 / 384, 3**0.5 * m4 * h**3 / 216, m4 * h**2 / 12)


def grid_within(spec: ActivationSpec, genomes: Tensor, tolerance: float, *, half_range: float | None = None) -> Grid:
    """The coarsest grid on [-half_range, half_range] whose value is within a tolerance; its scale is a power of two.

    The range is that of the spec unless it is given; it must be a multiple of 1/4, the widest cell.  What it finds can
    be given to a search as ``ldnn.table_scale``.

    Raises:
        ValueError: the tolerance is not positive, or would need more than 4096 cells per unit; or the range is no
            multiple of 1/4.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance > 0 must hold, but got tolerance={tolerance}")
    scale, half_range = 4, spec.table_range if half_range is None else half_range
    m4 = fourth_derivative(spec, genomes, Grid.symmetric(half_range, scale))
    while m4 / scale**4 / 384 > tolerance:
        scale *= 2
        if scale > _LARGEST_SCALE:
            raise ValueError(
                f"at most {_LARGEST_SCALE} cells per unit are allowed, but tolerance={tolerance} needs more for a bank "
                f"with fourth derivatives up to {m4:.3g}: give a larger tolerance or smaller weights"
            )
    return Grid.symmetric(half_range, scale)
