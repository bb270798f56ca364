"""Where the pre-activations of a layer lie: how many leave a table, and their density.

Shapes: N networks, R rows, H units.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

DENSITY_BINS: Final = 64
DENSITY_END: Final = 8.0
"""Densities are shares in `DENSITY_BINS` equal bins of [-DENSITY_END, DENSITY_END)."""


def share_outside(a: Tensor, ends: Tensor) -> Tensor:
    """The share (N,) of the pre-activations (N, R, H) outside (N, 2) ends."""
    low, high = ends.view(-1, 2, 1, 1).unbind(1)
    return ((a < low) | (a > high)).double().mean(dim=(1, 2))


def share_in_bins(a: Tensor) -> Tensor:
    """The share of the pre-activations (N, R, H) in each bin, (N, DENSITY_BINS); what lies outside is in none.

    A sum below 1 says how much that is; NaN counts as outside.
    """
    place = ((a + DENSITY_END) * (DENSITY_BINS / (2 * DENSITY_END))).nan_to_num(nan=-1.0).floor_()
    place = place.clamp_(-1, DENSITY_BINS).add_(1).flatten(1).to(torch.int64)
    counts = torch.zeros(len(a), DENSITY_BINS + 2, dtype=torch.int64, device=a.device)
    counts.scatter_add_(1, place, torch.ones_like(place[:1, :1]).expand_as(place))
    return counts[:, 1:-1].double() / place.shape[1]
