"""Evolution algorithms, by name."""

from __future__ import annotations

from typing import Final

from ldnn_core.algorithms._base import Algorithm, State
from ldnn_core.algorithms.genetic import Genetic
from ldnn_core.algorithms.sep_cma_es import SepCmaEs

ALGORITHMS: Final[dict[str, type[Genetic] | type[SepCmaEs]]] = {"genetic": Genetic, "sep_cma_es": SepCmaEs}
"""Every algorithm that a recipe may name."""

__all__ = ["ALGORITHMS", "Algorithm", "Genetic", "SepCmaEs", "State"]
