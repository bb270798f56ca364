"""Inner optimisers as pure functions of the parameters of a batch of networks.

Shapes: N networks, Θ parameters of each.  Everything is elementwise, so that the learning rate may be a number or
one per network, (N, 1).  `update_vjp` pulls cotangents back through any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Slots = tuple[Tensor, ...]
"""What an optimiser remembers, each (N, Θ)."""

_TINY = 1e-30
"""Added under square roots, so that the derivative at 0 is 0 and not 0 · ∞; below the rounding of any other sum."""


class Optimizer(Protocol):
    """One rule for changing parameters; pure, no state of its own."""

    def slots(self, parameters: Tensor) -> Slots:
        """What it remembers before the first step."""
        ...

    def update(
        self, parameters: Tensor, slots: Slots, gradient: Tensor, lr: Tensor | float, step: int
    ) -> tuple[Tensor, Slots]:
        """Parameters and slots after step number ``step`` (from 0); arguments are not changed."""
        ...


@dataclass(frozen=True)
class RMSprop:
    """s ← ρ s + (1 - ρ) g²;  θ ← θ - lr g / (√s + ε), with s starting at ones as published (Choudhary 2022).

    Attributes:
        decay: ρ.
        epsilon: ε.
    """

    decay: float = 0.8
    epsilon: float = 1e-8

    def slots(self, parameters: Tensor) -> Slots:
        """The squared-gradient average, ones."""
        return (torch.ones_like(parameters),)

    def update(
        self, parameters: Tensor, slots: Slots, gradient: Tensor, lr: Tensor | float, step: int
    ) -> tuple[Tensor, Slots]:
        """One step."""
        square = self.decay * slots[0] + (1 - self.decay) * gradient * gradient
        return parameters - lr * gradient / (torch.sqrt(square + _TINY) + self.epsilon), (square,)


@dataclass(frozen=True)
class SGD:
    """m ← μ m + g;  θ ← θ - lr m.

    Attributes:
        momentum: μ.
    """

    momentum: float = 0.0

    def slots(self, parameters: Tensor) -> Slots:
        """The momentum, zeros."""
        return (torch.zeros_like(parameters),)

    def update(
        self, parameters: Tensor, slots: Slots, gradient: Tensor, lr: Tensor | float, step: int
    ) -> tuple[Tensor, Slots]:
        """One step."""
        momentum = self.momentum * slots[0] + gradient
        return parameters - lr * momentum, (momentum,)


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction (Kingma & Ba 2015).

    Attributes:
        beta1: decay of the gradient average.
        beta2: decay of the squared-gradient average.
        epsilon: added to the root.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def slots(self, parameters: Tensor) -> Slots:
        """Both averages, zeros."""
        return torch.zeros_like(parameters), torch.zeros_like(parameters)

    def update(
        self, parameters: Tensor, slots: Slots, gradient: Tensor, lr: Tensor | float, step: int
    ) -> tuple[Tensor, Slots]:
        """One step."""
        mean = self.beta1 * slots[0] + (1 - self.beta1) * gradient
        square = self.beta2 * slots[1] + (1 - self.beta2) * gradient * gradient
        root = torch.sqrt(square / (1 - self.beta2 ** (step + 1)) + _TINY) + self.epsilon
        return parameters - lr / (1 - self.beta1 ** (step + 1)) * mean / root, (mean, square)


def update_vjp(
    optimizer: Optimizer,
    parameters: Tensor,
    slots: Slots,
    gradient: Tensor,
    lr: Tensor | float,
    step: int,
    parameters_cotangent: Tensor,
    slots_cotangent: Slots,
) -> tuple[Tensor, Slots, Tensor]:
    """Pull cotangents of an update's results back to its parameters, slots and gradient.

    Returns:
        cotangents of parameters, slots and gradient, each (N, Θ).
    """
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (parameters, *slots, gradient)]
        new_parameters, new_slots = optimizer.update(inputs[0], tuple(inputs[1:-1]), inputs[-1], lr, step)
        cotangents = torch.autograd.grad(
            [new_parameters, *new_slots],
            inputs,
            [parameters_cotangent, *slots_cotangent],
            allow_unused=True,
            materialize_grads=True,
        )
    return cotangents[0], tuple(cotangents[1:-1]), cotangents[-1]


def make_optimizer(name: str, *, momentum: float = 0.9, decay: float = 0.8) -> Optimizer:
    """An optimiser by name: ``rmsprop`` (uses decay), ``sgd`` (uses momentum), ``adam``.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "rmsprop":
        return RMSprop(decay=decay)
    if name == "sgd":
        return SGD(momentum=momentum)
    if name == "adam":
        return Adam()
    raise ValueError(f"an optimizer must be one of rmsprop, sgd, adam, but got {name!r}")
