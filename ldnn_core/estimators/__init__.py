"""Estimators of the outer gradient, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ldnn_core.estimators._base import Carry, Estimator, OuterGradient
from ldnn_core.estimators.es import Es
from ldnn_core.estimators.pes import Pes
from ldnn_core.estimators.truncated import FirstOrder, Truncated
from ldnn_core.estimators.unrolled import Unrolled

ESTIMATORS: Final[dict[str, Callable[..., Estimator]]] = {
    "unrolled": Unrolled,
    "truncated": Truncated,
    "first_order": FirstOrder,
    "es": Es,
    "pes": Pes,
}
"""Every estimator that a recipe may name."""

__all__ = ["ESTIMATORS", "Carry", "Es", "Estimator", "FirstOrder", "OuterGradient", "Pes", "Truncated", "Unrolled"]
