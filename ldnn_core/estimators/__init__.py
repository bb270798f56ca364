"""Estimators of the outer gradient, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ldnn_core.estimators._base import Carry, Estimator, OuterGradient
from ldnn_core.estimators.particles import Es, Pes
from ldnn_core.estimators.reverse import FirstOrder, Truncated, Unrolled

ESTIMATORS: Final[dict[str, Callable[..., Estimator]]] = {
    "unrolled": Unrolled,
    "truncated": Truncated,
    "first_order": FirstOrder,
    "es": Es,
    "pes": Pes,
}
"""Every estimator that a recipe may name."""

__all__ = ["ESTIMATORS", "Carry", "Es", "Estimator", "FirstOrder", "OuterGradient", "Pes", "Truncated", "Unrolled"]
