"""The exact gradient through the whole inner loop."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import Carry, OuterGradient
from ldnn_core.estimators.reverse import MEMORY_BYTES, differentiate
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Unrolled:
    """Estimator ``unrolled``: exact up to rounding.

    Attributes:
        every: keep a training state of every so many inner steps; None chooses from the memory budget.
        memory_bytes: the budget.
    """

    every: int | None = None
    memory_bytes: int = MEMORY_BYTES

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
        """See `Estimator.estimate`; draws nothing, leaves no carry."""
        arguments = (problem, parameters, batches, activation, window)
        return differentiate(*arguments, carry=carry, every=self.every, memory_bytes=self.memory_bytes)
