"""What an estimator of the outer gradient is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class OuterGradient:
    """Outer loss and its gradient, averaged over the N classifiers of an outer step.

    Attributes:
        gradient: with respect to the genomes, (M, K, P).
        outer_loss: mean over networks of the mean training loss over the last ``window`` inner steps, or of the
            validation loss if the problem has validation rows.
        losses: training loss at every inner step, (T, N).
        final_parameters: of the classifiers, (N, Θ).
        inner_steps: inner steps spent, summed over the networks.
    """

    gradient: Tensor
    outer_loss: float
    losses: Tensor
    final_parameters: Tensor
    inner_steps: int


class Estimator(Protocol):
    """Obtains an outer gradient from one inner loop.

    Pure: equal arguments give equal results, bit for bit on the CPU; no argument is changed.  A loss that stops
    being finite is not hidden: it appears in the outer loss and the gradient, and the caller stops.
    """

    def estimate(
        self, problem: InnerProblem, parameters: Tensor, batches: Batches, activation: BankActivation, window: int
    ) -> OuterGradient:
        """Outer gradient of the bank in ``activation``.

        Args:
            problem: network, optimiser, learning rate.
            parameters: fresh classifiers, (N, Θ).
            batches: rows and noise of all T inner steps.
            activation: the set being learned, as a bank and its layout.
            window: how many of the last inner losses make the outer loss; at most T count.
        """
        ...


def loss_weights(steps: int, networks: int, window: int) -> list[float]:
    """Weight of each inner step's loss of each network in the outer loss; they sum to one over both."""
    window = min(window, steps)
    return [1.0 / (window * networks) if t >= steps - window else 0.0 for t in range(steps)]
