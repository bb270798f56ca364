"""The base functions as numpy functions, to draw them as references where torch is not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import special

from analysis.statistics import Vector

_FUNCTIONS: Final[dict[str, Callable[[Vector], Vector]]] = {
    "zero": np.zeros_like,
    "identity": lambda x: x,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "sin": np.sin,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * special.expit(x),
    "gelu": lambda x: x * special.ndtr(x),
    "hat": lambda x: np.maximum(0.0, 1.0 - np.abs(x - 1.0)),
}


def base_function(name: str) -> Callable[[Vector], Vector] | None:
    """The base function of that name, or None if it is not known."""
    return _FUNCTIONS.get(name)
