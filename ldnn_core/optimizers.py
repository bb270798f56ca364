"""Inner optimisers as pure functions of the parameters of a batch of networks.

Shapes: N networks, Θ parameters of each.  Everything is elementwise, so that the learning rate may be a number or
one per network, (N, 1).  Cotangents are pulled back by hand, in fewer passes over memory than autograd needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

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


class Optimizer(ABC):
    """A rule for changing parameters, number by number; pure, no state of its own.  Abstract."""

    name: ClassVar[str]
    """Of its function among the kernels and in the plain arithmetic; that of the cotangents ends in ``_vjp``."""

    @abstractmethod
    def slots(self, parameters: Tensor) -> Slots:
        """What it remembers before the first step."""
        ...

    @abstractmethod
    def _constants(self, step: int) -> tuple[float, ...]:
        """What its functions ask for besides tensors and learning rates."""
        ...

    def update(
        self, parameters: Tensor, slots: Slots, gradient: Tensor, lr: Tensor | float, step: int
    ) -> tuple[Tensor, Slots]:
        """Parameters and slots after step number ``step`` (from 0); arguments are not changed."""
        new = self._run(self.name, (parameters, *slots, gradient), 1 + len(slots), lr, step)
        return new[0], new[1:]

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
        tensors = (*slots, gradient, parameters_cotangent, *slots_cotangent)
        bars = self._run(f"{self.name}_vjp", tensors, len(slots) + 1, lr, step)
        return parameters_cotangent, bars[:-1], bars[-1]

    def _run(
        self, name: str, tensors: tuple[Tensor, ...], results: int, lr: Tensor | float, step: int
    ) -> tuple[Tensor, ...]:
        """What a function says of tensors (N, Θ), by the kernel where it serves."""
        if not fits_kernels(*tensors):
            eager: tuple[Tensor, ...] = getattr(arithmetic, name)(*tensors, lr, *self._constants(step))
            return eager
        new = tuple(map(new_like, tensors[:results]))
        call(getattr(kernels, name), *tensors, *_rates(lr, tensors[0]), *self._constants(step), *new)
        return new


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """s ← ρ s + (1 - ρ) g²;  θ ← θ - lr g / (√s + ε), with s starting at ones as published (Choudhary 2022).

    Attributes:
        decay: ρ.
        epsilon: ε.
    """

    name: ClassVar[str] = "rmsprop"
    decay: float = 0.8
    epsilon: float = 1e-8

    def slots(self, parameters: Tensor) -> Slots:
        """The squared-gradient average, ones."""
        return (torch.ones_like(parameters),)

    def _constants(self, step: int) -> tuple[float, ...]:
        return self.decay, self.epsilon, _TINY


@dataclass(frozen=True)
class SGD(Optimizer):
    """m ← μ m + g;  θ ← θ - lr m.

    Attributes:
        momentum: μ.
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0

    def slots(self, parameters: Tensor) -> Slots:
        """The momentum, zeros."""
        return (torch.zeros_like(parameters),)

    def _constants(self, step: int) -> tuple[float, ...]:
        return (self.momentum,)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with bias correction (Kingma & Ba 2015).

    Attributes:
        beta1: decay of the gradient average.
        beta2: decay of the squared-gradient average.
        epsilon: added to the root.
    """

    name: ClassVar[str] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def slots(self, parameters: Tensor) -> Slots:
        """Both averages, zeros."""
        return torch.zeros_like(parameters), torch.zeros_like(parameters)

    def _constants(self, step: int) -> tuple[float, ...]:
        corrections = 1 / (1 - self.beta1 ** (step + 1)), 1 / (1 - self.beta2 ** (step + 1))
        return self.beta1, self.beta2, *corrections, self.epsilon, _TINY


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
