"""Persistent evolution strategies: short pieces of the inner loop without the bias of cutting it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import Carry, OuterGradient, seed_of
from ldnn_core.estimators.particles import Perturbation, estimate_by_differences
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Pes:
    """Estimator ``pes``: persistent evolution strategies (Vicol, Metz & Sohl-Dickstein 2021), antithetic.

    An outer step is a piece of the inner loop.  Every particle goes on from where its own training stands and draws
    a new perturbation; the losses of the piece are credited to the sum of all perturbations that the particle has
    had in this inner loop, not to the last one alone.  So, at a fixed set, the mean over the pieces of an inner loop
    is an unbiased estimate of the (smoothed) gradient of the mean of their outer losses, influences from one piece
    on later ones included; the variance grows with the number of pieces.  With one piece it is `Es`, bit for bit.

    Attributes:
        length: inner steps of a piece.
        perturbation: σ, standard deviation of a piece's perturbations in units of each weight's initial bound.
        pairs: antithetic pairs; 2 pairs + 1 classifiers are trained for each fresh one.

    Raises:
        ValueError: an empty piece, a σ that is not positive, or no pair.
    """

    length: int = 20
    perturbation: float = 0.1
    pairs: int = 8

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length >= 1 must hold for the estimator pes, but got length={self.length}")
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
        """See `Estimator.estimate`; needs a seed, a different one for every outer step of an inner loop."""
        how = Perturbation(self.perturbation, self.pairs)
        arguments = (problem, parameters, batches, activation, window, how)
        return estimate_by_differences(*arguments, seed=seed_of("pes", seed), carry=carry, length=self.length)
