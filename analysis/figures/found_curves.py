"""What the two methods found, on one picture, and how far apart the functions are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from analysis.figures.curves import activation_curves_data
from analysis.function_space import TYPE, curve_distances
from analysis.load import Run
from analysis.style import FAINT, INK, METHOD_COLOURS, canvas, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
"""One line style for each type of a set."""


def found_curves_data(run: Run) -> pd.DataFrame:
    """One row per point of the final curves of each method's headline set."""
    curves = activation_curves_data(run)
    return curves[curves["final"].astype(bool)].reset_index(drop=True)


def found_curves(data: pd.DataFrame, *, x_limit: float = 4.0) -> Figure:
    """All final functions in one panel, and their distances in function space in another.

    Args:
        data: what `found_curves_data` returns, not empty.
        x_limit: the curves are shown on [-x_limit, x_limit].
    """
    with look():
        figure, ((left, right),) = canvas(1, 2, height=4.2, width=8.4)
        left.axhline(0, color=FAINT, linewidth=0.5)
        left.axvline(0, color=FAINT, linewidth=0.5)
        x = np.linspace(-x_limit, x_limit, 400)
        for index, own in data.groupby(TYPE):
            method, trial, k = (str(part) for part in index)
            y = Akima1DInterpolator(own["x"].to_numpy(float), own["y"].to_numpy(float), method="makima")(x)
            left.plot(x, y, color=METHOD_COLOURS[method], linestyle=_DASHES[int(k)], label=f"{trial}, type {k}")
        left.set(xlabel="pre-activation", ylabel="activation", xlim=(-x_limit, x_limit), title="final functions")
        # Beside the curves there is no place for it that is free whatever they are.
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=data["method"].nunique(), handlelength=2.6)
        table = curve_distances(data)
        distances = table.to_numpy(float)
        names = [f"{trial}\ntype {k}" for _, trial, k in table.index]
        right.imshow(distances, cmap="Greys", vmin=0, vmax=2.5 * max(distances.max(), 1e-12))
        for i, j in np.ndindex(distances.shape):
            right.text(j, i, f"{distances[i, j]:.2f}", ha="center", va="center", color=INK)
        right.set_xticks(range(len(names)), names, rotation=90)
        right.set_yticks(range(len(names)), names)
        right.tick_params(length=0)
        right.spines[:].set_visible(False)
        right.set_title("distance under a standard normal")
    return figure
