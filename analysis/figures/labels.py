"""Names beside what they name, none over another: direct labels in the right margin of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from analysis.statistics import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS: Final = 8.5
"""Size of the type."""
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
        found[order] = np.clip(isotonic_regression(wanted[order] - steps).x, low, high) + steps
    return found


def label_right(axes: Axes, names: Sequence[str], x: ArrayLike, y: ArrayLike, colours: Sequence[str]) -> None:
    """Write each name in the right margin at the height of its point, moved apart, with a thin line to the point.

    The limits of the axes must be final.

    Args:
        axes: the panel.
        names: the labels, of one or more lines each.
        x: of the points, in the units of the axes.
        y: of the points.
        colours: of the names.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # only then the panel has its height
    gap = max(name.count("\n") + 1 for name in names) * _LINE * figure.get_dpi() / axes.get_window_extent().height
    points = axes.transData.transform(np.column_stack([np.asarray(x, float), np.asarray(y, float)]))
    heights = axes.transAxes.inverted().transform(points)[:, 1]
    for name, at, height, colour in zip(names, points, spread(heights, gap), colours, strict=True):
        axes.annotate(
            name,
            tuple(axes.transData.inverted().transform(at)),
            (1.03, float(height)),
            textcoords="axes fraction",
            color=colour,
            fontsize=_POINTS,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 0},
            annotation_clip=False,
        )
