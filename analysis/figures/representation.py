"""F6: joint density of accuracy and normalised participation ratio, where the set was learned."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import scipy

from analysis.figures.labels import label_right, names_of_arms
from analysis.figures.layouts import wide_panels
from analysis.figures.networks import PANEL, headline_networks, panels, where_learned, without_controls
from analysis.load import Run
from analysis.statistics import Vector
from analysis.style import Figure, arm_colour, arm_order, look

FEWEST: Final = 8
"""Networks of an arm below which its density is not estimated, and dots are all there is."""

_SHARE: Final = 0.5


def accuracy_and_participation_data(run: Run) -> pd.DataFrame:
    """One row per network of a learned or usual arm: ``accuracy`` and ``ratio``, the participation ratio r = R / N."""
    rows = without_controls(where_learned(headline_networks(run)))
    rows = rows.rename(columns={"participation_ratio_normalized": "ratio"})
    rows = rows[(rows["metric"] == "accuracy") & rows["accuracy"].notna() & rows["ratio"].notna()]
    return rows[[*PANEL, "width", "split", "arm", "seed", "accuracy", "ratio"]].reset_index(drop=True)


def density_region(x: Vector, y: Vector, share: float, *, points: int = 80) -> tuple[Vector, Vector, Vector, float]:
    """The smallest region that holds a share of a Gaussian KDE (Scott's bandwidth) of points in the plane.

    Returns:
        grid of x (points,), grid of y (points,), density (points, points) with y along the first axis, and the density
        at the border of the region.

    Raises:
        numpy.linalg.LinAlgError: the points lie on a line.
    """
    density = scipy.stats.gaussian_kde(np.stack([x, y]))
    grids = [np.linspace(v.min() - 0.6 * np.ptp(v), v.max() + 0.6 * np.ptp(v), points) for v in (x, y)]
    values = density(np.stack([part.ravel() for part in np.meshgrid(*grids)])).reshape(points, points)
    falling = np.sort(values, axis=None)[::-1]
    inside = np.cumsum(falling) / falling.sum()
    return grids[0], grids[1], values, float(falling[np.searchsorted(inside, share)])


def accuracy_and_participation(data: pd.DataFrame) -> Figure:
    """Dots of all networks and, per arm, the region that holds half of the density; one panel per set."""
    shown = list(panels(data.assign(percent=100 * data["accuracy"]), [*PANEL, "width"]))
    xlabel, ylabel = f"{data['split'].iloc[0]} accuracy [%]", "participation ratio r = R / N"
    names = []
    with look():
        figure, drawn = wide_panels(shown, xlabel=xlabel, ylabel=ylabel)
        for axes, rows in drawn:
            for arm in reversed(arm_order(rows["arm"])):
                x, y = (rows.loc[rows["arm"] == arm, name].to_numpy(float) for name in ("percent", "ratio"))
                axes.plot(x, y, "o", color=arm_colour(arm), markersize=2.4, alpha=0.5, markeredgewidth=0)
                if not _has_area(x, y):
                    continue
                across, up, density, border = density_region(x, y, _SHARE)
                axes.contourf(across, up, density, [border, density.max()], colors=[arm_colour(arm)], alpha=0.25)
                axes.contour(across, up, density, [border], colors=[arm_colour(arm)], linewidths=1.3)
            axes.margins(0.12)
            names.append(names_of_arms(axes, rows.groupby("arm")[["percent", "ratio"]].mean(), "percent", "ratio"))
        label_right(figure, names)
    return figure


def _has_area(x: Vector, y: Vector) -> bool:
    """Whether points are enough, and spread enough in both directions, to estimate a density in the plane."""
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return False
    return bool(abs(np.corrcoef(x, y)[0, 1]) < 0.9999)
