"""The functions that a sub-network adds to, and that usual networks use as they are.

Each comes with its slope in closed form, because the fast path differentiates by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class BaseFunction:
    """An elementwise function R → R.

    Attributes:
        value: tensor of any shape → tensor of that shape.
        slope: the first derivative, likewise; at a kink the value that automatic differentiation uses.
        kinks: where the slope jumps, so that no smooth table can stand for the function; it is straight in between.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    kinks: tuple[float, ...] = ()

    @property
    def kinked(self) -> bool:
        """Whether there are kinks."""
        return bool(self.kinks)


def _hat(x: Tensor) -> Tensor:
    return F.relu(x) - 2 * F.relu(x - 1) + F.relu(x - 2)


def _hat_slope(x: Tensor) -> Tensor:
    return (x > 0).to(x) - 2 * (x > 1).to(x) + (x > 2).to(x)


def _sigmoid_slope(x: Tensor) -> Tensor:
    p = torch.sigmoid(x)
    return p * (1 - p)


def _silu_slope(x: Tensor) -> Tensor:
    p = torch.sigmoid(x)
    return p * (1 + x * (1 - p))


def _gelu_slope(x: Tensor) -> Tensor:
    cdf = 0.5 * (1 + torch.erf(x * 0.5**0.5))
    density = torch.exp(-0.5 * x * x) * 0.3989422804014327  # 1 / sqrt(2 pi)
    return cdf + x * density


BASE_FUNCTIONS: Final[dict[str, BaseFunction]] = {
    "zero": BaseFunction(torch.zeros_like, torch.zeros_like),
    "identity": BaseFunction(lambda x: x, torch.ones_like),
    "sigmoid": BaseFunction(torch.sigmoid, _sigmoid_slope),
    "tanh": BaseFunction(torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
    "sin": BaseFunction(torch.sin, torch.cos),
    "elu": BaseFunction(F.elu, lambda x: torch.exp(x.clamp(max=0))),
    "relu": BaseFunction(F.relu, lambda x: (x > 0).to(x), kinks=(0.0,)),
    "silu": BaseFunction(F.silu, _silu_slope),
    "gelu": BaseFunction(F.gelu, _gelu_slope),
    "hat": BaseFunction(_hat, _hat_slope, kinks=(0.0, 1.0, 2.0)),
}
"""By name.  ``hat`` is the piecewise-linear bump 0, 1, 0 on the points 0, 1, 2 (science: spectral bias)."""


def base_function(name: str) -> BaseFunction:
    """The base function of that name.

    Raises:
        ValueError: there is none; the words list all.
    """
    try:
        return BASE_FUNCTIONS[name]
    except KeyError:
        allowed = ", ".join(BASE_FUNCTIONS)
        raise ValueError(f"a base function must be one of {allowed}, but got {name!r}") from None
