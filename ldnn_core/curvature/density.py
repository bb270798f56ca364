"""How the eigenvalues of a matrix are distributed, from stochastic Lanczos quadrature.

Signs v of length √Θ have E[vᵀ f(H) v] = tr f(H); so the mean over probes of Gauss's rules is a distribution of
weight, one eigenvalue counting 1 / Θ (Lin, Saad & Yang 2016; for networks Ghorbani, Krishnan & Xiao 2019).

Shapes: N matrices, P probes, m nodes, G points.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

GRID_POINTS: Final = 512
"""G, points at which a density is given."""

SMOOTHING: Final = 1 / 128
"""Standard deviation of the Gaussian that stands for one node, in units of the range of nodes: with `GRID_POINTS` there
are nearly four points to it, so that sums over the grid are integrals."""

MARGIN: Final = 4.0
"""The grid reaches so many standard deviations beyond the nodes."""

NEAR_ZERO: Final = 1e-2
"""An eigenvalue is near zero if it is at most this times the largest absolute one.  A tenth of it would be finer than a
hundred Lanczos steps resolve in trained networks."""


def top_nodes(nodes: Tensor, count: int) -> Tensor:
    """The largest eigenvalues as far as the nodes (N, P, m) tell, (N, count) in falling order.

    The i-th largest node of each probe is at most the i-th largest eigenvalue, so the best of the probes counts.
    """
    return nodes.sort(dim=-1, descending=True).values[..., :count].amax(dim=1)


def near_zero(nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Share of eigenvalues near zero and the bound of what is near, (N,) each; nodes and weights (N, P, m)."""
    threshold = NEAR_ZERO * nodes.abs().amax(dim=(1, 2))
    near = nodes.abs() <= threshold[:, None, None]
    return (weights * near).sum(dim=2).mean(dim=1), threshold


def smoothed(nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A density on a grid: every node a Gaussian.

    Args:
        nodes: (N, P, m).
        weights: likewise; those of a probe add to one.

    Returns:
        grid and density, each (N, G), and the standard deviation (N,) of the Gaussians.
    """
    low, high = nodes.amin(dim=(1, 2)), nodes.amax(dim=(1, 2))
    span = high - low
    # a multiple of the unit matrix has one eigenvalue and no range: any width shows it
    span = torch.where(span > 0, span, torch.where(high != 0, high.abs(), torch.ones_like(high)))
    width = SMOOTHING * span
    low, high = low - MARGIN * width, high + MARGIN * width
    places = torch.linspace(0, 1, GRID_POINTS, dtype=nodes.dtype, device=nodes.device)
    grid = low[:, None] + (high - low)[:, None] * places
    flat, shares = nodes.flatten(1), weights.flatten(1) / nodes.shape[1]
    density = torch.zeros_like(grid)
    for node, share in zip(flat.unbind(1), shares.unbind(1), strict=True):
        distance = (grid - node[:, None]) / width[:, None]
        density += share[:, None] * torch.exp(-0.5 * distance.square())
    return grid, density / (width[:, None] * (2 * torch.pi) ** 0.5), width
