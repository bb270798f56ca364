"""Outer gradients by reverse-mode differentiation, in memory that does not grow with a step's activations.

The forward sweep keeps training states (parameters and optimiser slots: a few times Θ numbers per network); the
backward sweep computes a step again and pulls the cotangent of the state after it back to the state before it and to
the activation set.  Nothing of a step's activations outlives the step.

Memory.  A record is a state and the gradient at it, r = (2 + slots) N Θ numbers.  With a record of every step the cost
is T r and nothing is computed twice.  With a record of every s-th step it is (T / s + s) r, for one more forward and
first-order backward sweep; s = √T is the least, and `spacing` takes the smallest s that fits the budget.

An outer step may be a piece of the inner loop: then the sweeps start from a carried state, whose past they do not see.

Shapes: N networks, Θ parameters, T inner steps of the inner loop, L of the outer step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import Carry, OuterGradient, begin, loss_weights
from ldnn_core.optimizers import Slots
from ldnn_core.training import Batches, InnerProblem, TrainState

MEMORY_BYTES = 1 << 30
"""How much the records of an outer step may take unless the caller says otherwise."""


def spacing(steps: int, record_bytes: int, memory_bytes: int) -> int:
    """The smallest s for which records of every s-th step and of one segment fit; at most √L.

    Args:
        steps: L.
        record_bytes: of one record of all networks.
        memory_bytes: the budget; when even √L does not fit, √L is returned, as nothing smaller exists.
    """
    if steps * record_bytes <= memory_bytes:
        return 1
    root = max(2, math.isqrt(steps - 1) + 1)
    for s in range(2, root):
        if (math.ceil(steps / s) + s) * record_bytes <= memory_bytes:
            return s
    return root


def differentiate(
    problem: InnerProblem,
    parameters: Tensor,
    batches: Batches,
    activation: BankActivation,
    window: int,
    *,
    carry: Carry | None = None,
    length: int | None = None,
    truncation: int | None = None,
    every: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> OuterGradient:
    """Outer loss and gradient of an inner loop, or of a piece of it.

    Args:
        problem: network, optimiser, learning rate.
        parameters: fresh classifiers.
        batches: rows and noise of all inner steps.
        activation: the set being learned.
        window: how many of the last inner losses count.
        carry: the state to go on from; None begins with ``parameters``.
        length: most inner steps of the piece; None does all that are left.
        truncation: cotangents of the state are cut before every step whose number it divides; None never.
        every: keep a record of every so many steps; None follows from ``memory_bytes``.
        memory_bytes: budget of the records.

    Raises:
        ValueError: the carry is not one of these classifiers, or the problem is validated by an error that is not its
            loss.
    """
    networks, judged = len(parameters), problem.validation
    if judged is not None and judged.error is not None:
        raise ValueError(
            "a gradient by differentiation must be that of a loss, but the problem is validated by another error; "
            "es and pes take any"
        )
    with torch.no_grad():
        start = begin(problem, parameters, carry)
        first, last = start.step, len(batches)
        if length is not None:
            last = min(first + length, last)
        steps = last - first
        weights = loss_weights(steps, networks, window) if judged is None else [0.0] * steps
        of_networks = parameters.new_tensor(weights).unsqueeze(1).expand(-1, networks).unbind()
        record_bytes = (2 + len(start.slots)) * parameters.numel() * parameters.element_size()
        s = spacing(steps, record_bytes, memory_bytes) if every is None else every
        state, losses = start, []
        kept: dict[int, TrainState] = {}
        gradients: dict[int, Tensor] = {}
        for t in range(first, last):
            loss, gradient = problem.gradient(state, batches, activation)
            losses.append(loss)
            if (t - first) % s == 0:
                kept[t] = state
                if s == 1:
                    gradients[t] = gradient
            state = problem.advance(state, gradient)
        final = state
        parameters_bar, slots_bar = _nothing(state)
        bank_bar = torch.zeros_like(activation.bank.parameters)
        if judged is not None:
            rows, share = (judged.x.unsqueeze(0), judged.y.unsqueeze(0)), parameters.new_full((networks,), 1 / networks)
            parameters_bar, bank_bar = problem.network.gradient_vjp(
                final.parameters, *rows, activation, torch.zeros_like(parameters), share
            )
        for kept_at in range(last - 1 - (steps - 1) % s, first - 1, -s):
            segment = _segment(problem, kept.pop(kept_at), min(kept_at + s, last), batches, activation, gradients)
            while segment:
                state, gradient = segment.pop()
                t = state.step
                through_update, slots_bar, gradient_bar = problem.optimizer.update_vjp(
                    state.slots, gradient, problem.lr, t, parameters_bar, slots_bar
                )
                through_gradient, at_step = problem.gradient_vjp(
                    state, batches, activation, gradient_bar, of_networks[t - first]
                )
                parameters_bar = through_update + through_gradient
                bank_bar += at_step
                if truncation is not None and t % truncation == 0:
                    parameters_bar, slots_bar = _nothing(state)
    history = torch.stack(losses)
    if judged is None:
        outer_loss = (history * history.new_tensor(weights).unsqueeze(1)).sum()
    else:
        outer_loss = problem.validation_loss(final.parameters, activation).mean()
    return OuterGradient(
        gradient=activation.bank.pull_back(bank_bar),
        outer_loss=float(outer_loss),
        losses=history,
        final_parameters=final.parameters,
        inner_steps=steps * networks,
        carry=None if last == len(batches) else Carry(final),
    )


def _nothing(state: TrainState) -> tuple[Tensor, Slots]:
    return torch.zeros_like(state.parameters), tuple(torch.zeros_like(slot) for slot in state.slots)


def _segment(
    problem: InnerProblem,
    state: TrainState,
    end: int,
    batches: Batches,
    activation: BankActivation,
    gradients: dict[int, Tensor],
) -> list[tuple[TrainState, Tensor]]:
    """States and gradients from a kept state up to step ``end``, computed again unless they were kept."""
    segment = []
    while True:
        gradient = gradients.pop(state.step, None)
        if gradient is None:
            _, gradient = problem.gradient(state, batches, activation)
        segment.append((state, gradient))
        if state.step + 1 == end:
            return segment
        state = problem.advance(state, gradient)


class Cuts(TypedDict, total=False):
    """What `differentiate` may be told of pieces and records."""

    length: int
    truncation: int
    every: int | None
    memory_bytes: int


class ReverseMode(ABC):
    """An estimator that differentiates; abstract."""

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
        return differentiate(problem, parameters, batches, activation, window, carry=carry, **self._cuts())

    @abstractmethod
    def _cuts(self) -> Cuts: ...


@dataclass(frozen=True)
class Unrolled(ReverseMode):
    """Estimator ``unrolled``: exact up to rounding.  Leaves no carry.

    Attributes:
        every: keep a training state of every so many inner steps; None chooses from the memory budget.
        memory_bytes: the budget.
    """

    every: int | None = None
    memory_bytes: int = MEMORY_BYTES

    def _cuts(self) -> Cuts:
        return {"every": self.every, "memory_bytes": self.memory_bytes}


@dataclass(frozen=True)
class Truncated(ReverseMode):
    """Estimator ``truncated``: the inner loop is differentiated in separate pieces.

    Biased towards what pays soon, with a bounded chain of products.  At a fixed set the mean of the carried pieces'
    gradients is the gradient of the loop that runs through, when the pieces are equally long and all losses count.

    Attributes:
        length: inner steps of a piece; T or more is the exact gradient, 1 is `FirstOrder`.
        carried: whether an outer step is one piece, so that the set changes after each; else all, one after another,
            and there is no carry.

    Raises:
        ValueError: an empty piece.
    """

    length: int = 20
    carried: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length >= 1 must hold for the truncated estimator, but got length={self.length}")

    def _cuts(self) -> Cuts:
        return {"length": self.length} if self.carried else {"truncation": self.length}


@dataclass(frozen=True)
class FirstOrder(ReverseMode):
    """Estimator ``first_order``: Σ_t w_t ∂L_t/∂(set) at fixed weights, as if the set had not changed them.

    Exact when T = 1.  Leaves no carry.
    """

    def _cuts(self) -> Cuts:
        return {"truncation": 1}
