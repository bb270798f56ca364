"""Gradients through pieces of the inner loop: biased towards what pays soon, with a bounded chain of products."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import Carry, OuterGradient
from ldnn_core.estimators.reverse import differentiate
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Truncated:
    """Estimator ``truncated``: the inner loop is differentiated in separate pieces.

    At a fixed set the mean of the carried pieces' gradients is the gradient of the loop that runs through, when the
    pieces are equally long and all losses count.

    Attributes:
        length: inner steps of a piece; T or more is the exact gradient, 1 is `FirstOrder`.
        carried: whether an outer step is one piece, so that the set changes after each; else all, one after another.
    """

    length: int = 20
    carried: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length >= 1 must hold for the truncated estimator, but got length={self.length}")

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
        """See `Estimator.estimate`; draws nothing."""
        arguments = (problem, parameters, batches, activation, window)
        if self.carried:
            return differentiate(*arguments, carry=carry, length=self.length)
        return differentiate(*arguments, carry=carry, truncation=self.length)


@dataclass(frozen=True)
class FirstOrder:
    """Estimator ``first_order``: Σ_t w_t ∂L_t/∂(set) at fixed weights, as if the set had not changed them."""

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
        """See `Estimator.estimate`; exact when T = 1; draws nothing, leaves no carry."""
        return differentiate(problem, parameters, batches, activation, window, carry=carry, truncation=1)
