"""What a search minimises: the outer losses at one or several network sizes as one number, and how alike types may be.

Shapes: S sizes, M sets, K types, P weights of a sub-network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import torch
from torch import Tensor

from ldnn_core.subnetwork import ActivationSpec, exact_values, normal_quadrature

Over = Literal["mean", "worst", "mean_minus_spread"]

_TINY: Final = 1e-12
"""Added under the square root, so that the derivative of the spread of equal losses is 0 and not 0/0."""


@dataclass(frozen=True)
class Objective:
    """How the losses at several sizes become one.

    Attributes:
        over: ``mean``, ``worst`` (the largest loss), or ``mean_minus_spread``, which counts what is good: of losses it
            is the mean plus the spread.
        spread_weight: how much the spread, the standard deviation over sizes, counts.
        closeness_weight: how much `closeness` adds.
        closeness_distance: distance of two types at which they begin to count as different.
    """

    over: Over = "mean"
    spread_weight: float = 1.0
    closeness_weight: float = 0.0
    closeness_distance: float = 0.2

    def combine(self, losses: Tensor) -> Tensor:
        """Losses (S, ...) → (...); differentiable."""
        if self.over == "worst":
            return losses.amax(dim=0)
        mean = losses.mean(dim=0)
        if self.over == "mean":
            return mean
        return mean + self.spread_weight * ((losses - mean).square().mean(dim=0) + _TINY).sqrt()

    def weights(self, losses: Tensor) -> Tensor:
        """The derivative of the combined loss by each of the losses (S,), by which their gradients are added up."""
        with torch.enable_grad():
            leaf = losses.detach().requires_grad_()
            (weights,) = torch.autograd.grad(self.combine(leaf), leaf)
        return weights

    def penalty(self, spec: ActivationSpec, genomes: Tensor) -> Tensor:
        """What closeness adds for each set (M, K, P) → (M,); differentiable."""
        if not self.closeness_weight or spec.num_types < 2:
            return genomes.new_zeros(len(genomes))
        return self.closeness_weight * closeness(spec, genomes, self.closeness_distance)


def closeness(spec: ActivationSpec, genomes: Tensor, distance: float) -> Tensor:
    """Mean over pairs of types of exp(-d² / 2 r²), from 0, all different, to 1, all equal; (M, K, P) → (M,).

    d is the root mean square difference of two functions under the standard normal density; differentiable.

    Args:
        spec: what the sets share; at least two types.
        genomes: the sets.
        distance: r.
    """
    z, weight = (t.to(genomes) for t in normal_quadrature())
    rows = genomes.flatten(0, 1)
    y = exact_values(spec, rows, z.expand(len(rows), -1)).unflatten(0, genomes.shape[:2])
    pairs = list(combinations(range(genomes.shape[1]), 2))
    squares = [((y[:, i] - y[:, j]).square() * weight).sum(dim=1) for i, j in pairs]
    return torch.stack([torch.exp(-square / (2 * distance * distance)) for square in squares]).mean(dim=0)
