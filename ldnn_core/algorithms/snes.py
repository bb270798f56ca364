"""Separable natural evolution strategies (Schaul, Glasmachers & Schmidhuber 2011, algorithm 2).

Candidates are μ + σ s with s ~ N(0, 1) and a σ per weight.  With utilities u by rank,

    μ ← μ + η_μ σ Σ u s        σ ← σ exp(η_σ / 2 Σ u (s² - 1))        η_μ = 1,  η_σ = (3 + ln n) / (5 √n)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ldnn_core.algorithms._base import Remembering, check_losses
from ldnn_core.algorithms.coordinates import Coordinates
from ldnn_core.algorithms.ranks import utilities
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec


class Snes(Remembering):
    """Algorithm ``snes``.

    Args:
        spec: what all sets share.
        seed: of every random choice.
        population: Q, two at least.
        mutation_scale: the initial σ of every weight.
        layer_scales: relative scale of each layer of the sub-network; see `weight_units`.
        mean_rate: η_μ.
        sigma_rate: η_σ; None for that of the paper.

    Raises:
        ValueError: a population of one, or layer scales that do not fit.
    """

    _remembered = ("mean", "sigmas", "noise")

    def __init__(
        self,
        spec: ActivationSpec,
        seed: int,
        *,
        population: int = 16,
        mutation_scale: float = 0.1,
        layer_scales: Sequence[float] = (),
        mean_rate: float = 1.0,
        sigma_rate: float | None = None,
    ) -> None:
        if population < 2:
            raise ValueError(f"population >= 2 must hold for snes, but got population={population}")
        self._coordinates = Coordinates.of(spec, seed, layer_scales)
        self._mean = self._coordinates.start
        size = len(self._mean)
        self._sigmas = torch.full_like(self._mean, mutation_scale)
        self._mean_rate = mean_rate
        self._sigma_rate = (3 + math.log(size)) / (5 * math.sqrt(size)) if sigma_rate is None else sigma_rate
        self._noise = torch.zeros(population, size, dtype=torch.float64)
        self._generator = generator(seed, "snes")

    def ask(self) -> Tensor:
        """Draws around the mean."""
        self._noise = torch.randn(self._noise.shape, dtype=torch.float64, generator=self._generator)
        return self._coordinates.genomes(self._mean + self._sigmas * self._noise)

    def tell(self, losses: Tensor) -> None:
        """Follow the natural gradient of mean and step sizes."""
        weighted = utilities(check_losses(losses, len(self._noise))).unsqueeze(1)
        mean_gradient = (weighted * self._noise).sum(dim=0)
        sigma_gradient = (weighted * (self._noise.square() - 1)).sum(dim=0)
        self._mean = self._mean + self._mean_rate * self._sigmas * mean_gradient
        self._sigmas = self._sigmas * torch.exp(self._sigma_rate / 2 * sigma_gradient)

    def incumbent(self) -> Tensor:
        """The mean."""
        return self._coordinates.genomes(self._mean)

    def step_size(self) -> float:
        """Median σ of the weights."""
        return float(self._sigmas.median())
