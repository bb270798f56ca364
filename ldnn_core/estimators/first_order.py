"""The gradient that ignores how the set changed the weights: cheap, biased, and a useful comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.activations import BankActivation
from ldnn_core.estimators._base import OuterGradient, loss_weights
from ldnn_core.mlp import gradient_vjp
from ldnn_core.training import Batches, InnerProblem


class FirstOrder:
    """Σ_t w_t ∂L_t/∂(set) at fixed weights (estimator ``first_order``): one sweep, no memory of the past."""

    def estimate(
        self, problem: InnerProblem, parameters: Tensor, batches: Batches, activation: BankActivation, window: int
    ) -> OuterGradient:
        """See `Estimator.estimate`; exact when T = 1, biased otherwise."""
        networks, steps = len(parameters), len(batches)
        weights = loss_weights(steps, networks, window)
        state = problem.start(parameters)
        bank_bar = torch.zeros_like(activation.bank.parameters)
        nothing = torch.zeros_like(parameters)
        losses = []
        with torch.no_grad():
            for t in range(steps):
                loss, gradient = problem.gradient(state, batches, activation)
                losses.append(loss)
                if weights[t]:
                    x, y = batches.at(t)
                    w = parameters.new_full((networks,), weights[t])
                    noise = batches.noise_at(t, problem.network.hidden)
                    arguments = (problem.network, state.parameters, x, y, activation, nothing, w, noise)
                    bank_bar += gradient_vjp(*arguments)[1]
                state = problem.advance(state, gradient)
        history = torch.stack(losses)
        return OuterGradient(
            gradient=activation.bank.pull_back(bank_bar),
            outer_loss=float((history * history.new_tensor(weights).unsqueeze(1)).sum()),
            losses=history,
            final_parameters=state.parameters,
            inner_steps=steps * networks,
        )
