"""The exact gradient through the whole inner loop, in memory that does not grow with its activations.

The forward sweep keeps the training state before every inner step (parameters and optimiser slots: a few times Θ
numbers); the backward sweep computes a step again and pulls the cotangent of the state after it back to the state
before it and to the activation set.  Nothing of a step's graph outlives the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import OuterGradient, loss_weights
from ldnn_core.mlp import gradient_vjp
from ldnn_core.optimizers import update_vjp
from ldnn_core.training import Batches, InnerProblem


class Unrolled:
    """Reverse-mode differentiation through all inner steps (estimator ``unrolled``)."""

    def estimate(
        self, problem: InnerProblem, parameters: Tensor, batches: Batches, activation: BankActivation, window: int
    ) -> OuterGradient:
        """See `Estimator.estimate`; the result is exact up to rounding."""
        networks, steps = len(parameters), len(batches)
        weights = loss_weights(steps, networks, window)
        state = problem.start(parameters)
        states, gradients, losses = [], [], []
        with torch.no_grad():
            for _ in range(steps):
                loss, gradient = problem.gradient(state, batches, activation)
                states.append(state)
                gradients.append(gradient)
                losses.append(loss)
                state = problem.advance(state, gradient)
            final_parameters = state.parameters
            parameters_bar = torch.zeros_like(parameters)
            slots_bar = tuple(torch.zeros_like(slot) for slot in state.slots)
            bank_bar = torch.zeros_like(activation.bank.parameters)
            for t in range(steps - 1, -1, -1):
                state = states.pop()
                through_update, slots_bar, gradient_bar = update_vjp(
                    problem.optimizer,
                    state.parameters,
                    state.slots,
                    gradients.pop(),
                    problem.lr,
                    t,
                    parameters_bar,
                    slots_bar,
                )
                x, y = batches.at(t)
                through_gradient, at_step = gradient_vjp(
                    problem.network,
                    state.parameters,
                    x,
                    y,
                    activation,
                    gradient_bar,
                    parameters.new_full((networks,), weights[t]),
                    batches.noise_at(t, problem.network.hidden),
                )
                parameters_bar = through_update + through_gradient
                bank_bar += at_step
        history = torch.stack(losses)
        return OuterGradient(
            gradient=activation.bank.pull_back(bank_bar),
            outer_loss=float((history * history.new_tensor(weights).unsqueeze(1)).sum()),
            losses=history,
            final_parameters=final_parameters,
            inner_steps=steps * networks,
        )
