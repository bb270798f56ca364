"""The outer update by gradient: clamp each component, then SGD with momentum (the published rule)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class OuterSGD:
    """m ← μ m + clamp(g, ±c);  genome ← genome - lr m.

    Attributes:
        lr: learning rate.
        momentum: μ.
        clamp: c, the largest component of a gradient that counts.
    """

    lr: float = 0.4
    momentum: float = 0.8
    clamp: float = 0.1

    def start(self, genomes: Tensor) -> Tensor:
        """The momentum before the first step: zeros."""
        return torch.zeros_like(genomes)

    def update(self, genomes: Tensor, momentum: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Genomes and momentum after one outer step; arguments are not changed."""
        momentum = self.momentum * momentum + gradient.clamp(-self.clamp, self.clamp)
        return genomes - self.lr * momentum, momentum
