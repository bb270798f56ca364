"""Estimators of the outer gradient, by name."""

from __future__ import annotations

from typing import Final

from ldnn_core.estimators._base import Estimator, OuterGradient
from ldnn_core.estimators.first_order import FirstOrder
from ldnn_core.estimators.unrolled import Unrolled

ESTIMATORS: Final[dict[str, type[Estimator]]] = {"unrolled": Unrolled, "first_order": FirstOrder}
"""Every estimator that a recipe may name."""

__all__ = ["ESTIMATORS", "Estimator", "FirstOrder", "OuterGradient", "Unrolled"]
