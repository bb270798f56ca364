"""Inner optimisers as pure functions of the parameters of a batch of networks.

Shapes: N networks, Θ parameters of each.  Everything is elementwise, so that the learning rate may be a number or
one per network, (N, 1).  The function `update_vjp` pulls cotangents back through any of them by autograd; the method
of that name does it by hand, in fewer passes over memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from ldnn_core import optimizer_arithmetic as arithmetic
from ldnn_core.compiled import FUSED_AVAILABLE, call, fits_kernels, new_like

if FUSED_AVAILABLE:
    from ldnn_core import optimizer_kernels as kernels

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

    def update_vjp(
        self,
        slots: Slots,
        gradient: Tensor,
        lr: Tensor | float,
        step: int,
        parameters_cotangent: Tensor,
        slots_cotangent: Slots,
    ) -> tuple[Tensor, Slots, Tensor]:
        """Cotangents of parameters and slots after the step → of parameters, slots and gradient, each (N, Θ)."""
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
        if fits_kernels(parameters, slots[0], gradient):
            new, new_square = new_like(parameters), new_like(parameters)
            inputs = (parameters, slots[0], gradient, *_rates(lr, parameters))
            call(kernels.rmsprop, *inputs, self.decay, self.epsilon, _TINY, new, new_square)
            return new, (new_square,)
        constants = self.decay, self.epsilon, _TINY
        parameters, square = arithmetic.rmsprop(parameters, slots[0], gradient, lr, *constants)
        return parameters, (square,)

    def update_vjp(
        self,
        slots: Slots,
        gradient: Tensor,
        lr: Tensor | float,
        step: int,
        parameters_cotangent: Tensor,
        slots_cotangent: Slots,
    ) -> tuple[Tensor, Slots, Tensor]:
        """Cotangents of parameters, slots and gradient."""
        if fits_kernels(gradient, slots[0], parameters_cotangent, slots_cotangent[0]):
            s_bar, g_bar = new_like(gradient), new_like(gradient)
            inputs = (slots[0], gradient, parameters_cotangent, slots_cotangent[0], *_rates(lr, gradient))
            call(kernels.rmsprop_vjp, *inputs, self.decay, self.epsilon, _TINY, s_bar, g_bar)
            return parameters_cotangent, (s_bar,), g_bar
        cotangents = parameters_cotangent, slots_cotangent[0]
        constants = self.decay, self.epsilon, _TINY
        square_bar, gradient_bar = arithmetic.rmsprop_vjp(slots[0], gradient, *cotangents, lr, *constants)
        return parameters_cotangent, (square_bar,), gradient_bar


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
        if fits_kernels(parameters, slots[0], gradient):
            new, new_momentum = new_like(parameters), new_like(parameters)
            inputs = (parameters, slots[0], gradient, *_rates(lr, parameters))
            call(kernels.sgd, *inputs, self.momentum, new, new_momentum)
            return new, (new_momentum,)
        parameters, momentum = arithmetic.sgd(parameters, slots[0], gradient, lr, self.momentum)
        return parameters, (momentum,)

    def update_vjp(
        self,
        slots: Slots,
        gradient: Tensor,
        lr: Tensor | float,
        step: int,
        parameters_cotangent: Tensor,
        slots_cotangent: Slots,
    ) -> tuple[Tensor, Slots, Tensor]:
        """Cotangents of parameters, slots and gradient."""
        if fits_kernels(gradient, parameters_cotangent, slots_cotangent[0]):
            m_bar, g_bar = new_like(gradient), new_like(gradient)
            inputs = (parameters_cotangent, slots_cotangent[0], *_rates(lr, gradient))
            call(kernels.sgd_vjp, *inputs, self.momentum, m_bar, g_bar)
            return parameters_cotangent, (m_bar,), g_bar
        cotangents = parameters_cotangent, slots_cotangent[0]
        momentum_bar, gradient_bar = arithmetic.sgd_vjp(*cotangents, lr, self.momentum)
        return parameters_cotangent, (momentum_bar,), gradient_bar


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
        if fits_kernels(parameters, *slots, gradient):
            new = new_like(parameters), new_like(parameters), new_like(parameters)
            inputs: tuple[Any, ...] = (parameters, *slots, gradient, *_rates(lr, parameters))
            call(kernels.adam, *inputs, *self._constants(step), *new)
            return new[0], new[1:]
        averages = slots[0], slots[1]
        found = arithmetic.adam(parameters, *averages, gradient, lr, *self._constants(step))
        return found[0], found[1:]

    def update_vjp(
        self,
        slots: Slots,
        gradient: Tensor,
        lr: Tensor | float,
        step: int,
        parameters_cotangent: Tensor,
        slots_cotangent: Slots,
    ) -> tuple[Tensor, Slots, Tensor]:
        """Cotangents of parameters, slots and gradient."""
        if fits_kernels(gradient, *slots, parameters_cotangent, *slots_cotangent):
            bars = new_like(gradient), new_like(gradient), new_like(gradient)
            inputs: tuple[Any, ...] = (*slots, gradient, parameters_cotangent, *slots_cotangent, *_rates(lr, gradient))
            call(kernels.adam_vjp, *inputs, *self._constants(step), *bars)
            return parameters_cotangent, bars[:2], bars[2]
        averages, cotangents = (slots[0], slots[1]), (parameters_cotangent, slots_cotangent[0], slots_cotangent[1])
        found = arithmetic.adam_vjp(*averages, gradient, *cotangents, lr, *self._constants(step))
        return parameters_cotangent, found[:2], found[2]

    def _constants(self, step: int) -> tuple[float, float, float, float, float, float]:
        """What is asked besides tensors: decays, corrections of both averages, what is added to roots."""
        corrections = 1 / (1 - self.beta1 ** (step + 1)), 1 / (1 - self.beta2 ** (step + 1))
        return self.beta1, self.beta2, *corrections, self.epsilon, _TINY


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
    """Pull cotangents of an update's results back by autograd: the oracle of `Optimizer.update_vjp`.

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


def _rates(lr: Tensor | float, parameters: Tensor) -> tuple[Tensor, int, int, int]:
    """The learning rates (N or 1,), whether each network has its own, N and Θ."""
    networks, size = parameters.shape
    if not isinstance(lr, Tensor):
        return _same_rate(lr, parameters.dtype), 0, networks, size
    return lr.to(parameters).reshape(-1), int(lr.numel() > 1), networks, size


@lru_cache(maxsize=16)
def _same_rate(lr: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor([lr], dtype=dtype)


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
