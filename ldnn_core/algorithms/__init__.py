"""Evolution algorithms, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ldnn_core.algorithms._base import Algorithm, State
from ldnn_core.algorithms.cma_es import CmaEs
from ldnn_core.algorithms.genetic import Genetic
from ldnn_core.algorithms.openai_es import OpenaiEs
from ldnn_core.algorithms.snes import Snes

ALGORITHMS: Final[dict[str, Callable[..., Algorithm]]] = {
    "genetic": Genetic,
    "openai_es": OpenaiEs,
    "snes": Snes,
    "sep_cma_es": partial(CmaEs, separable=True),
    "cma_es": CmaEs,
}
"""Every algorithm that a recipe may name: called with spec, seed and its options by keyword."""

__all__ = ["ALGORITHMS", "Algorithm", "CmaEs", "Genetic", "OpenaiEs", "Snes", "State"]
