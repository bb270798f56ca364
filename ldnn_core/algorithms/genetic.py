"""A genetic algorithm on genomes: tournament, elitism, crossover by type, self-adapted Gaussian mutation.

A child is mutated by a length σ_i: its step size, inherited and varied by exp(τ N(0, 1)), τ = 1/√(2√n)
(Schwefel 1995).  What the length measures is the choice of the mutation; see `mutation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ldnn_core.algorithms._base import Remembering, check_losses
from ldnn_core.algorithms.coordinates import weight_units
from ldnn_core.algorithms.mutation import MUTATIONS
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes


class Genetic(Remembering):
    """Algorithm ``genetic``.

    Args:
        spec: what all sets share.
        seed: of every random choice.
        population: Q.
        elites: candidates that survive unchanged; they are judged again, as batches change with the generation.
        tournament: candidates of which the best becomes a parent.
        mutation_scale: the initial step size σ.
        crossover_rate: how often a child takes each type from one of two parents, rather than all from one.
        mutation: ``weights`` or ``function``: whether a length is one of weights, in their units, or the root mean
            square change of each type's curve.
        layer_scales: relative scale of each layer of the sub-network; see `weight_units`.

    Raises:
        ValueError: elites or tournament do not fit the population, an unknown mutation, or layer scales that do not
            fit.
    """

    _remembered = ("genomes", "sigmas", "losses", "told")

    def __init__(
        self,
        spec: ActivationSpec,
        seed: int,
        *,
        population: int = 16,
        elites: int = 2,
        tournament: int = 3,
        mutation_scale: float = 0.1,
        crossover_rate: float = 0.5,
        mutation: str = "weights",
        layer_scales: Sequence[float] = (),
    ) -> None:
        if not 0 <= elites < population:
            raise ValueError(f"0 <= elites < population must hold, but got (elites={elites}, population={population})")
        if not 1 <= tournament <= population:
            raise ValueError(
                f"1 <= tournament <= population must hold, but got (tournament={tournament}, population={population})"
            )
        if mutation not in MUTATIONS:
            raise ValueError(f"mutation must be one of {', '.join(MUTATIONS)}, but got {mutation!r}")
        self._elites, self._tournament, self._crossover_rate = elites, tournament, crossover_rate
        self._generator = generator(seed, "genetic")
        self._mutation = partial(MUTATIONS[mutation], spec, weight_units(spec, layer_scales))
        self._genomes = initial_genomes(spec, seed, sets=population)
        self._sigmas = torch.full((population,), mutation_scale)
        self._losses = torch.full((population,), float("inf"))
        self._tau = (2 * self._genomes[0].numel() ** 0.5) ** -0.5
        self._told = torch.tensor(False)

    def ask(self) -> Tensor:
        """Elites and children of the last generation; at first, the random population."""
        if self._told:
            self._breed()
            self._told = torch.tensor(False)
        return self._genomes.clone()

    def tell(self, losses: Tensor) -> None:
        """Remember how the generation did."""
        self._losses = check_losses(losses, len(self._genomes)).to(torch.float32)
        self._told = torch.tensor(True)

    def incumbent(self) -> Tensor:
        """The best candidate of the last generation."""
        return self._genomes[self._losses.argmin()].clone()

    def step_size(self) -> float:
        """Median σ of the population."""
        return float(self._sigmas.median())

    def _breed(self) -> None:
        best_first = self._losses.argsort(stable=True)
        kept = best_first[: self._elites]
        children = len(self._genomes) - self._elites
        first, second = self._parents(children), self._parents(children)
        crossed = torch.rand(children, 1, 1, generator=self._generator) < self._crossover_rate
        from_second = torch.rand(children, self._genomes.shape[1], 1, generator=self._generator) < 0.5
        genomes = torch.where(crossed & from_second, self._genomes[second], self._genomes[first])
        sigmas = self._sigmas[first] * torch.exp(self._tau * torch.randn(children, generator=self._generator))
        genomes = self._mutation(genomes, sigmas, self._generator)
        self._genomes = torch.cat([self._genomes[kept], genomes])
        self._sigmas = torch.cat([self._sigmas[kept], sigmas])

    def _parents(self, count: int) -> Tensor:
        """Winners of ``count`` tournaments among distinct candidates."""
        lots = torch.rand(count, len(self._genomes), generator=self._generator)
        entrants = lots.topk(self._tournament, dim=1).indices
        return entrants.gather(1, self._losses[entrants].argmin(dim=1, keepdim=True)).squeeze(1)
