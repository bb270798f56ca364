"""The evolution strategy of Salimans et al. (2017): a gradient from antithetic pairs, followed by Adam.

Candidates are θ ± σ ε with ε ~ N(0, 1).  With losses replaced by centred ranks u, the gradient of the expected loss is
estimated by  g = 1/Q Σ (u⁺ - u⁻) ε  over the pairs; the factor 1/σ of the paper is left out, as in its program,
because Adam does not see it.  σ stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ldnn_core.algorithms._base import Remembering, check_losses
from ldnn_core.algorithms.coordinates import Coordinates
from ldnn_core.algorithms.ranks import centred_ranks
from ldnn_core.optimizers import Adam, Slots
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec


def antithetic_gradient(noise: Tensor, values: Tensor) -> Tensor:
    """σ times the estimated gradient, (n,).

    Args:
        noise: ε of the pairs, (Q/2, n).
        values: of the candidates θ + σ ε of all pairs, then of θ - σ ε, (Q,): losses, or what replaces them.
    """
    plus, minus = values.chunk(2)
    # Not a matrix product, whose rounding would depend on the number of threads.
    return ((plus - minus).unsqueeze(1) * noise).sum(dim=0) / len(values)


class OpenaiEs(Remembering):
    """Algorithm ``openai_es``.

    Args:
        spec: what all sets share.
        seed: of every random choice.
        population: Q, even.
        mutation_scale: σ.
        layer_scales: relative scale of each layer of the sub-network; see `weight_units`.
        mean_lr: Adam's learning rate: about what a weight moves in a generation, in its unit.
        weight_decay: this times θ is added to g, which pulls all weights towards 0.

    Raises:
        ValueError: an odd population, or layer scales that do not fit.
    """

    _remembered = ("mean", "gradient_average", "square_average", "step", "noise")

    def __init__(
        self,
        spec: ActivationSpec,
        seed: int,
        *,
        population: int = 16,
        mutation_scale: float = 0.1,
        layer_scales: Sequence[float] = (),
        mean_lr: float = 0.1,
        weight_decay: float = 0.0,
    ) -> None:
        if population < 2 or population % 2:
            raise ValueError(f"population must be even for openai_es, whose candidates are pairs, but got {population}")
        self._coordinates = Coordinates.of(spec, seed, layer_scales)
        self._mean = self._coordinates.start.unsqueeze(0)  # optimisers move batches: this is a batch of one
        self._sigma, self._mean_lr, self._weight_decay = mutation_scale, mean_lr, weight_decay
        self._adam = Adam()
        self._gradient_average, self._square_average = self._adam.slots(self._mean)
        self._step = torch.tensor(0)
        self._noise = torch.zeros(population // 2, self._mean.shape[1], dtype=torch.float64)
        self._generator = generator(seed, "openai-es")

    def ask(self) -> Tensor:
        """The mean plus fresh noise, then the mean minus the same."""
        self._noise = torch.randn(self._noise.shape, dtype=torch.float64, generator=self._generator)
        steps = self._sigma * self._noise
        return self._coordinates.genomes(torch.cat([self._mean + steps, self._mean - steps]))

    def tell(self, losses: Tensor) -> None:
        """Move the mean against the estimated gradient."""
        ranks = centred_ranks(check_losses(losses, 2 * len(self._noise)))
        gradient = antithetic_gradient(self._noise, ranks) + self._weight_decay * self._mean
        averages: Slots = (self._gradient_average, self._square_average)
        self._mean, averages = self._adam.update(self._mean, averages, gradient, self._mean_lr, int(self._step))
        self._gradient_average, self._square_average = averages
        self._step = self._step + 1

    def incumbent(self) -> Tensor:
        """The mean."""
        return self._coordinates.genomes(self._mean[0])

    def step_size(self) -> float:
        """σ."""
        return self._sigma
