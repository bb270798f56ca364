"""Gradients through pieces of the inner loop: biased towards what pays soon, with a bounded chain of products."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import OuterGradient
from ldnn_core.estimators.reverse import differentiate
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Truncated:
    """Estimator ``truncated``: the inner loop runs through, but is differentiated in separate pieces.

    Attributes:
        length: inner steps of a piece; T or more is the exact gradient, 1 is `FirstOrder`.
    """

    length: int = 20

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length >= 1 must hold for the truncated estimator, but got length={self.length}")

    def estimate(
        self, problem: InnerProblem, parameters: Tensor, batches: Batches, activation: BankActivation, window: int
    ) -> OuterGradient:
        """See `Estimator.estimate`."""
        return differentiate(problem, parameters, batches, activation, window, truncation=self.length)


@dataclass(frozen=True)
class FirstOrder:
    """Estimator ``first_order``: Σ_t w_t ∂L_t/∂(set) at fixed weights, as if the set had not changed them."""

    def estimate(
        self, problem: InnerProblem, parameters: Tensor, batches: Batches, activation: BankActivation, window: int
    ) -> OuterGradient:
        """See `Estimator.estimate`; exact when T = 1."""
        return differentiate(problem, parameters, batches, activation, window, truncation=1)
