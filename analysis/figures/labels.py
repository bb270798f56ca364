"""Names beside what they name, none over another: direct labels in the right margin of a panel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from analysis.statistics import Vector
from analysis.style import arm_colour, arm_order, text_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS: Final = 9.0
"""Size of the type."""
_MARGIN: Final = 15.0
"""Between the panel and the names, in points: room for the lines."""
_LINE: Final = 1.3 * _POINTS / 72
"""Height of a line of it, in inches."""


def spread(places: ArrayLike, gap: float) -> Vector:
    """Places in [0, 1] at least ``gap`` apart and half of it from the ends, with the least sum of squared moves.

    With p the wanted places in rising order, p_i − i·gap must rise: an isotonic regression, whose solution between
    bounds is the free one clipped to them.  What has no room is set evenly around the middle.
    """
    wanted = np.asarray(places, dtype=np.float64)
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    low, high = gap / 2, 1 - gap / 2 - gap * (len(wanted) - 1)
    found = np.empty_like(wanted)
    if high < low:
        found[order] = 0.5 + steps - steps.mean()
    else:
        found[order] = np.clip(scipy.optimize.isotonic_regression(wanted[order] - steps).x, low, high) + steps
    return found


@dataclass(frozen=True)
class Names:
    """What is written beside one panel.

    Attributes:
        axes: the panel; its limits must be final.
        names: of one or more lines each.
        x: of the points that are named, in the units of the axes.
        y: of the points.
        colours: of the points; of the names as far as they can be read.
    """

    axes: Axes
    names: Sequence[str]
    x: ArrayLike
    y: ArrayLike
    colours: Sequence[str]


def names_of_arms(axes: Axes, points: pd.DataFrame, x: str, y: str) -> Names:
    """The names of arms beside a panel, at points given by a frame that has the arms as its index."""
    arms = arm_order(points.index)
    return Names(axes, arms, points.loc[arms, x], points.loc[arms, y], [arm_colour(arm) for arm in arms])


def label_right(figure: Figure, panels: Iterable[Names]) -> None:
    """Write names in the right margins of panels at the heights of their points, moved apart, with thin lines to them.

    To be called once, when all else is drawn: only the layout tells how high a panel is.
    """
    from matplotlib.transforms import offset_copy

    figure.draw_without_rendering()
    for panel in panels:
        axes = panel.axes
        lines = max((name.count("\n") + 1 for name in panel.names), default=1)
        gap = lines * _LINE * figure.get_dpi() / axes.get_window_extent().height
        points = np.column_stack([np.asarray(panel.x, float), np.asarray(panel.y, float)])
        heights = axes.transAxes.inverted().transform(axes.transData.transform(points))[:, 1]
        beside = offset_copy(axes.transAxes, figure, x=_MARGIN, units="points")
        for name, at, height, colour in zip(panel.names, points, spread(heights, gap), panel.colours, strict=True):
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.7, "relpos": (0, 0.5)}
            axes.annotate(
                name,
                (float(at[0]), float(at[1])),
                (1.0, float(height)),
                textcoords=beside,
                color=text_colour(colour),
                fontsize=_POINTS,
                verticalalignment="center",
                arrowprops=line | {"shrinkA": 1, "shrinkB": 0},
                annotation_clip=False,
            )
