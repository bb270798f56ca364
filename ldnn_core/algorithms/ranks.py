"""Weights of candidates by the rank of their losses: what makes a search blind to the scale of the loss.

Candidates of equal loss share the mean weight of their ranks, so that their order does not matter.  The weights of
all ranks sum to 0; hence a generation in which all losses are equal, be they infinite, moves nothing.

Shapes: Q candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor


def weights_by_rank(losses: Tensor, weights: Tensor) -> Tensor:
    """The weight of each candidate's rank, (Q,), given those of the ranks from the lowest loss on, (Q,)."""
    _, group, size = torch.unique(losses, return_inverse=True, return_counts=True)
    order = losses.argsort(stable=True)
    total = weights.new_zeros(len(size)).index_add_(0, group[order], weights)
    return torch.index_select(total / size, 0, group)


def centred_ranks(losses: Tensor) -> Tensor:
    """-1/2 for the best to 1/2 for the worst in equal steps, (Q,) float64 (Salimans et al. 2017, section 2.1)."""
    return weights_by_rank(losses, torch.linspace(-0.5, 0.5, len(losses), dtype=torch.float64))


def utilities(losses: Tensor) -> Tensor:
    """u_k = max(0, ln(Q/2 + 1) - ln k) / Σ - 1/Q for rank k from 1, (Q,) float64.

    Source: Wierstra et al. 2014, section 3.1.
    """
    count = len(losses)
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    raw = (torch.log(torch.tensor(count / 2 + 1, dtype=torch.float64)) - ranks.log()).clamp_min(0)
    return weights_by_rank(losses, raw / raw.sum() - 1 / count)
