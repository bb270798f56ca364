"""Evolution strategies over the whole inner loop: unbiased for the smoothed outer loss, however long the loop."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import Carry, OuterGradient, seed_of
from ldnn_core.estimators.particles import Perturbation, estimate_by_differences
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Es:
    """Estimator ``es``: antithetic evolution strategies (Salimans et al. 2017), without rank shaping.

    Its mean is the gradient of the outer loss averaged over Gaussian perturbations of the set, which differs from
    that of the outer loss itself by O(σ²).

    Attributes:
        perturbation: σ, standard deviation of the perturbations in units of each weight's initial bound.
        pairs: antithetic pairs; 2 pairs + 1 classifiers are trained for each fresh one.

    Raises:
        ValueError: a σ that is not positive, or no pair.
    """

    perturbation: float = 0.1
    pairs: int = 8

    def __post_init__(self) -> None:
        Perturbation(self.perturbation, self.pairs)

    def estimate(
        self,
        problem: InnerProblem,
        parameters: Tensor,
        batches: Batches,
        activation: BankActivation,
        window: int,
        *,
        seed: int | None = None,
        carry: Carry | None = None,
    ) -> OuterGradient:
        """See `Estimator.estimate`; needs a seed, leaves no carry."""
        how = Perturbation(self.perturbation, self.pairs)
        arguments = (problem, parameters, batches, activation, window, how)
        return estimate_by_differences(*arguments, seed=seed_of("es", seed), carry=carry)
