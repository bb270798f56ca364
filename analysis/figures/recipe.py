"""What the registry says about one figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.load import Run
from analysis.style import Figure


class MissingDataError(ValueError):
    """A run has no rows for a figure; the words name the command that makes them."""


@dataclass(frozen=True)
class FigureRecipe:
    """How one figure is made.

    Attributes:
        title: what the figure shows, in a few words.
        caption: what to see, and how to read it.
        data: run → the tidy frame that is drawn; empty if the run has no rows for it.
        draw: that frame, not empty → the figure.
        needs: the rows it is made from.
        command: what makes those rows; RUN stands for the run folder, RECIPE for the recipe of a new run.
        limits: what it cannot say.
    """

    title: str
    caption: str
    data: Callable[[Run], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    needs: str
    command: str
    limits: str = ""
