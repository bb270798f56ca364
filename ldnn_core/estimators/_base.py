"""What an estimator of the outer gradient is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.training import Batches, InnerProblem, TrainState


@dataclass(frozen=True)
class Carry:
    """What an outer step hands to the next one when the inner loop is not over yet.

    Attributes:
        state: of all networks that are trained: (N, Θ), or those of all particles, (Q N, Θ).
        perturbation: the sum of what has been added to each pair's genomes in this inner loop, in units of the
            perturbation's own scale, (pairs, M, K, P); None where nothing is perturbed.
    """

    state: TrainState
    perturbation: Tensor | None = None


@dataclass(frozen=True)
class OuterGradient:
    """Outer loss and its gradient, averaged over the N classifiers of an outer step of L inner steps.

    Attributes:
        gradient: with respect to the genomes, (M, K, P).
        outer_loss: mean over networks of the mean training loss over the last ``window`` of the L inner steps, or of
            the validation loss after the last of them if the problem has validation rows.
        losses: training loss at every inner step, (L, N).
        final_parameters: of the classifiers, (N, Θ).
        inner_steps: inner steps spent, summed over all networks that were trained.
        carry: where the next outer step goes on; None when all T inner steps are done.
    """

    gradient: Tensor
    outer_loss: float
    losses: Tensor
    final_parameters: Tensor
    inner_steps: int
    carry: Carry | None = None


class Estimator(Protocol):
    """Obtains an outer gradient from an inner loop, or from the next piece of one.

    An outer step does what is left of the inner loop (L = T from fresh classifiers), or, where the estimator says
    so, a piece of L inner steps.  In the second case the result has a carry; the caller updates the set and calls
    again, with the same parameters and batches and with the carry, until there is none.

    Pure: equal arguments give equal results, bit for bit on the CPU; no argument is changed.  A loss that stops
    being finite is not hidden: it appears in the outer loss and the gradient, and the caller stops.
    """

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
        """Outer gradient of the bank in ``activation``.

        Args:
            problem: network, optimiser, learning rate.
            parameters: fresh classifiers, (N, Θ); with a carry, those that its inner loop began with.
            batches: rows and noise of all T inner steps.
            activation: the set being learned, as a bank and its layout.
            window: how many of the last inner losses of the outer step make the outer loss; at most L count.
            seed: of what the estimator draws; those that draw nothing ignore it.
            carry: what the outer step before has left of the same inner loop; None begins it.

        Raises:
            ValueError: the carry is not one of this estimator and these classifiers, or a seed is needed.
        """
        ...


def loss_weights(steps: int, networks: int, window: int) -> list[float]:
    """Weight of each inner step's loss of each network in the outer loss; they sum to one over both."""
    window = min(window, steps)
    return [1.0 / (window * networks) if t >= steps - window else 0.0 for t in range(steps)]


def begin(
    problem: InnerProblem, parameters: Tensor, carry: Carry | None, perturbation: tuple[int, ...] | None = None
) -> TrainState:
    """The training state that an outer step starts from.

    Args:
        problem: network, optimiser, learning rate.
        parameters: of all networks to be trained.
        carry: of the outer step before, if the inner loop has begun.
        perturbation: the shape of the sum of perturbations that the carry must have; None for none.

    Raises:
        ValueError: the carry is that of other classifiers or of another estimator.
    """
    if carry is None:
        return problem.start(parameters)
    carried = None if carry.perturbation is None else tuple(carry.perturbation.shape)
    if carry.state.parameters.shape != parameters.shape or carried != perturbation:
        raise ValueError(
            "a carry must come from the same estimator with the same classifiers, but got one with "
            f"(networks={tuple(carry.state.parameters.shape)}, perturbation={carried}) where "
            f"(networks={tuple(parameters.shape)}, perturbation={perturbation}) is needed; carry=None begins afresh"
        )
    return carry.state
