"""Layouts that several figures share: small panels of arms, and wide ones with room for the names of arms."""

from __future__ import annotations

from typing import Final, TypeAlias

import pandas as pd

from analysis.style import Axes, Figure, SubFigure, arm_colour, arm_order, canvas, horizontal_grid, stacked, text_colour

Titled: TypeAlias = list[tuple[str, pd.DataFrame]]
"""Title and rows of each set."""

_IN_A_ROW: Final = 4
"""Arms side by side: with four, a number on an axis still has room for its name on a phone."""


def arms_in_rows(shown: Titled) -> tuple[Figure, list[SubFigure], list[tuple[Axes, pd.DataFrame, str]]]:
    """A part for each set with a small panel for each arm, all with the same axes.

    Returns:
        The figure, its parts, and each panel with the rows of all arms of its set and its own arm.
    """
    lines = [-(-rows["arm"].nunique() // _IN_A_ROW) for _, rows in shown]
    figure, parts = stacked([title for title, _ in shown], [0.7 + 1.75 * count for count in lines])
    panels = []
    for part, count, (_, rows) in zip(parts, lines, shown, strict=True):
        arms = arm_order(rows["arm"])
        every = list(part.subplots(count, _IN_A_ROW, squeeze=False, sharex=True, sharey=True).flat)
        for axes in every[len(arms) :]:
            axes.set_axis_off()
        for place, arm in enumerate(arms):
            every[place].set_title(arm, color=text_colour(arm_colour(arm)), fontweight="bold", fontsize=9.5)
            # Panels share their axes, which hides the names of ticks above an empty place.
            every[place].tick_params(labelbottom=place + _IN_A_ROW >= len(arms))
            horizontal_grid(every[place])
            panels.append((every[place], rows, arm))
    return figure, parts, panels


def wide_panels(shown: Titled, *, xlabel: str, ylabel: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A panel for each set, as high as the names of its arms: the figure, and each panel with its rows."""
    each = max(3.2, 0.17 * max(rows["arm"].nunique() for _, rows in shown) + 0.8)
    figure, grid = canvas(len(shown), height=0.3 + each * len(shown), sharex=True, sharey=True)
    for axes, (title, rows) in zip(grid[:, 0], shown, strict=True):
        axes.set(title=f"{title}, width {rows['width'].iloc[0]}", ylabel=ylabel)
        horizontal_grid(axes)
    grid[-1, 0].set_xlabel(xlabel)
    return figure, [(axes, rows) for axes, (_, rows) in zip(grid[:, 0], shown, strict=True)]
