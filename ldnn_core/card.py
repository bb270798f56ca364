"""An activation card: everything that somebody else needs to use a found set, and to know where it comes from.

The functions are held twice, as genomes and as the table that was made of them, so that a reader needs only the table
and can check it by the genomes.  All numbers are float64.

Shapes: K types, P weights of a sub-network, G cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ldnn_core import hermite_arithmetic as arithmetic
from ldnn_core.activations import TableBank
from ldnn_core.hermite import Grid
from ldnn_core.subnetwork import ActivationSpec, exact_values_and_slopes, gain_and_offset

PLACES: Final = (2.0**-20, (1 - 3**-0.5) / 2, 0.5, (1 + 3**-0.5) / 2, 1 - 2.0**-20)
"""Where in each cell the table is compared with the sub-network, in cells.

There a cubic Hermite interpolant of a quartic is off most: its second derivative at the ends, its slope at the second
and fourth of these places, its value in the middle.  The ends themselves are avoided because kinks may lie there.
"""
_BLOCK: Final = 1 << 19
"""Hidden units, over all points, that are evaluated together."""


@dataclass(frozen=True)
class ObservedInputs:
    """Which inputs the functions met in networks that were trained with them.

    Attributes:
        low: left end of the range.
        high: right end.
        share: of all inputs, how many (0..1) lie in the range.
        networks: how many networks were looked at.

    Raises:
        ValueError: the range is empty, the share is none, or there are no networks.
    """

    low: float
    high: float
    share: float
    networks: int

    def __post_init__(self) -> None:
        if not (self.low < self.high and 0 < self.share <= 1 and self.networks >= 1):
            raise ValueError(f"low < high, 0 < share <= 1 and networks >= 1 must hold, but got {self}")


@dataclass(frozen=True)
class TableErrors:
    """How far the table is from the sub-network at most, for each type, within the table and without rounding.

    Attributes:
        value: of σ, (K,).
        slope: of σ'.
        curvature: of σ''.
    """

    value: tuple[float, ...]
    slope: tuple[float, ...]
    curvature: tuple[float, ...]


@dataclass(frozen=True)
class ActivationCard:
    """A found set; made by `make_card` and `read_card`.

    Attributes:
        spec: base function, sizes of the sub-networks, and the grid.
        genomes: (K, P) float64.
        coefficients: the table, (K, G, 4) float64.
        gain: (K,) float64; ones unless normalised.  It is in the table already, like the offset.
        offset: (K,) float64; zeros unless normalised.
        errors: of the table.
        lipschitz: the largest |σ'| of each type's table, beyond its ends too.
        observed_inputs: None where nobody looked.
        learned: where: run, trial, task, widths, depths, hash of the configuration, version of the code, ...
        passport: ``label``, ``sentences`` and ``table`` of the cross-size verdict; None where there is none.
    """

    spec: ActivationSpec
    genomes: Tensor
    coefficients: Tensor
    gain: Tensor
    offset: Tensor
    errors: TableErrors
    lipschitz: tuple[float, ...]
    observed_inputs: ObservedInputs | None
    learned: Mapping[str, Any]
    passport: Mapping[str, Any] | None


def make_card(
    spec: ActivationSpec,
    genomes: Tensor,
    *,
    observed_inputs: ObservedInputs | None = None,
    learned: Mapping[str, Any] | None = None,
    passport: Mapping[str, Any] | None = None,
) -> ActivationCard:
    """The card of a set.

    Args:
        spec: what its sub-networks share.
        genomes: (K, P).
        observed_inputs: where its inputs lay in networks that were trained with it, if that is known.
        learned: where it was learned, as plain JSON values.
        passport: what became of it at other sizes, as plain JSON values, if that was tested.

    Raises:
        ValueError: the genomes have the wrong shape or are not finite.
    """
    rows = spec.check_genomes(genomes.detach().cpu().double().unsqueeze(0))[0].clone()
    coefficients = lowered(spec, rows, spec.grid)
    gain, offset = (column.squeeze(1) for column in gain_and_offset(spec, rows))
    errors = table_errors(spec, rows, coefficients)
    steepest = steepest_slopes(coefficients, spec.grid)
    return ActivationCard(
        spec, rows, coefficients, gain, offset, errors, steepest, observed_inputs, dict(learned or {}), passport
    )


def lowered(spec: ActivationSpec, genomes: Tensor, grid: Grid) -> Tensor:
    """The table (K, G, 4) of a set (K, P) on a grid."""
    return TableBank(spec, genomes.unsqueeze(0), grid=grid).parameters


def windows(spec: ActivationSpec, most: int) -> list[tuple[int, Grid]]:
    """Parts of the spec's grid that are small enough to be evaluated at once: their first cells, and they as grids.

    All of it, if that makes no more than so many parts; else so many, evenly spread.
    """
    whole = spec.grid
    length = min(whole.cells, max(1, _BLOCK // (spec.num_types * sum(spec.hidden))))
    firsts = range(0, whole.cells, length)
    chosen = torch.linspace(0, len(firsts) - 1, min(most, len(firsts))).round().int().tolist()
    starts = [firsts[i] for i in chosen]
    return [(i, Grid(whole.scale, whole.origin - i, min(length, whole.cells - i))) for i in starts]


def table_errors(spec: ActivationSpec, genomes: Tensor, coefficients: Tensor) -> TableErrors:
    """The largest differences between table and sub-networks, at the `PLACES` of every cell."""
    grid = spec.grid
    places = torch.tensor(PLACES, dtype=torch.float64)
    points = ((torch.arange(grid.cells).unsqueeze(1) - grid.origin + places) / grid.scale).flatten()
    worst = torch.zeros(3, spec.num_types, dtype=torch.float64)
    first = torch.arange(spec.num_types).unsqueeze(1) * grid.cells
    for x in points.split(max(1, _BLOCK // (spec.num_types * sum(spec.hidden)))):
        a = x.expand(spec.num_types, -1)
        for order, exact in enumerate(_exact(spec, genomes, a)):
            looked_up = arithmetic.derivative(a, coefficients, first, grid.scale, grid.origin, grid.cells, order)
            worst[order] = torch.maximum(worst[order], (looked_up - exact).abs().amax(1))
    return TableErrors(*(tuple(float(one) for one in row) for row in worst))


def _exact(spec: ActivationSpec, genomes: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        x = a.clone().requires_grad_()
        value, slope = exact_values_and_slopes(spec, genomes, x)
        (curvature,) = torch.autograd.grad(slope.sum(), x)
    return value.detach(), slope.detach(), curvature


def steepest_slopes(coefficients: Tensor, grid: Grid) -> tuple[float, ...]:
    """The largest |σ'| of each function (F, G, 4): at the ends of a cell, or where its parabola has its vertex."""
    _, c1, c2, c3 = coefficients.unbind(-1)
    vertex = (-c2 / (3 * c3)).nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    slopes = [(c1 + u * (2 * c2 + 3 * c3 * u)).abs().amax(1) for u in (torch.zeros_like(c1), vertex, 1.0)]
    return tuple(float(one) * grid.scale for one in torch.stack(slopes).amax(0))
