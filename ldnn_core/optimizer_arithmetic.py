"""Updates of the inner optimisers and their derivatives as plain tensor arithmetic, compiled on an accelerator.

Shapes: N networks, Θ parameters of each; every tensor is (N, Θ), but a learning rate (N or 1, 1) or a number.  What is
added under square roots is called tiny.  The rules stand in `ldnn_core.optimizers`, which calls all of these alike: an
update with parameters, slots and gradient, a ``_vjp`` with slots, gradient and the cotangents of parameters and slots,
then the learning rate and constants.  Results are parameters and slots, or cotangents of slots and gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldnn_core.accelerator import CUDA


@CUDA.compiles
def rmsprop(
    parameters: Tensor, square: Tensor, gradient: Tensor, lr: Tensor | float, decay: float, epsilon: float, tiny: float
) -> tuple[Tensor, Tensor]:
    """Parameters and squared-gradient average after a step."""
    square = decay * square + (1 - decay) * gradient * gradient
    return parameters - lr * gradient / (torch.sqrt(square + tiny) + epsilon), square


@CUDA.compiles
def rmsprop_vjp(
    square: Tensor,
    gradient: Tensor,
    parameters_bar: Tensor,
    square_bar: Tensor,
    lr: Tensor | float,
    decay: float,
    epsilon: float,
    tiny: float,
) -> tuple[Tensor, Tensor]:
    """Cotangents of the average before the step and of the gradient."""
    root = torch.sqrt(decay * square + (1 - decay) * gradient * gradient + tiny)
    moved = lr * parameters_bar / (root + epsilon)
    square_bar = square_bar + 0.5 * moved / (root + epsilon) * gradient / root
    return decay * square_bar, 2 * (1 - decay) * gradient * square_bar - moved


@CUDA.compiles
def sgd(
    parameters: Tensor, momentum: Tensor, gradient: Tensor, lr: Tensor | float, decay: float
) -> tuple[Tensor, Tensor]:
    """Parameters and momentum after a step."""
    momentum = decay * momentum + gradient
    return parameters - lr * momentum, momentum


@CUDA.compiles
def sgd_vjp(
    momentum: Tensor,
    gradient: Tensor,
    parameters_bar: Tensor,
    momentum_bar: Tensor,
    lr: Tensor | float,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """Cotangents of the momentum before the step and of the gradient, which depend on neither."""
    momentum_bar = momentum_bar - lr * parameters_bar
    return decay * momentum_bar, momentum_bar


@CUDA.compiles
def adam(
    parameters: Tensor,
    mean: Tensor,
    square: Tensor,
    gradient: Tensor,
    lr: Tensor | float,
    beta1: float,
    beta2: float,
    correction1: float,
    correction2: float,
    epsilon: float,
    tiny: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters and both averages after a step; averages are multiplied by their corrections before use."""
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    root = torch.sqrt(square * correction2 + tiny) + epsilon
    return parameters - lr * correction1 * mean / root, mean, square


@CUDA.compiles
def adam_vjp(
    mean: Tensor,
    square: Tensor,
    gradient: Tensor,
    parameters_bar: Tensor,
    mean_bar: Tensor,
    square_bar: Tensor,
    lr: Tensor | float,
    beta1: float,
    beta2: float,
    correction1: float,
    correction2: float,
    epsilon: float,
    tiny: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cotangents of both averages before the step and of the gradient."""
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    root = torch.sqrt(square * correction2 + tiny)
    moved = lr * correction1 * parameters_bar / (root + epsilon)
    mean_bar = mean_bar - moved
    square_bar = square_bar + moved / (root + epsilon) * mean * correction2 / (2 * root)
    gradient_bar = (1 - beta1) * mean_bar + 2 * (1 - beta2) * gradient * square_bar
    return beta1 * mean_bar, beta2 * square_bar, gradient_bar
