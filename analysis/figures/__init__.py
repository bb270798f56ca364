"""Figures: each is a function from a run to a tidy frame, and one from that frame to a matplotlib figure.

`FIGURES` names them all.  Importing this package does not import matplotlib; drawing does.
"""

from analysis.figures.registry import (
    FIGURES,
    METHODS_COMPARED,
    QUESTIONS,
    REGIMES_COMPARED,
    FigureRecipe,
    MissingDataError,
    figure,
)

__all__ = [
    "FIGURES",
    "METHODS_COMPARED",
    "QUESTIONS",
    "REGIMES_COMPARED",
    "FigureRecipe",
    "MissingDataError",
    "figure",
]
