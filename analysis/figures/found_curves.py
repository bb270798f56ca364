"""What the two methods found, on one picture, and how far apart the functions are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.figures.curves import X_LIMIT, activation_curves_data
from analysis.figures.labels import Names, label_right
from analysis.function_space import TYPE, curve_distances, smooth_curve
from analysis.load import Run
from analysis.style import INK, METHOD_COLOURS, Axes, Figure, canvas, cross_hair, look

_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
"""One line style for each type of a set."""


def found_curves_data(run: Run) -> pd.DataFrame:
    """One row per point of the final curves of each method's headline set."""
    curves = activation_curves_data(run)
    return curves[curves["final"].astype(bool)].reset_index(drop=True)


def found_curves(data: pd.DataFrame) -> Figure:
    """All final functions in one panel, and their distances in function space in another."""
    with look():
        figure, ((left,), (right,)) = canvas(2, 1, height=7.4, height_ratios=(1, 1.25))
        cross_hair(left)
        x = np.linspace(-X_LIMIT, X_LIMIT, 400)
        names, ends, colours = [], [], []
        for index, own in data.groupby(TYPE):
            method, trial, k = (str(part) for part in index)
            y = smooth_curve(own)(x)
            left.plot(x, y, color=METHOD_COLOURS[method], linestyle=_DASHES[int(k) % len(_DASHES)])
            names.append(f"{trial}\ntype {k}")
            ends.append(float(y[-1]))
            colours.append(METHOD_COLOURS[method])
        left.set(xlabel="pre-activation", ylabel="activation", xlim=(-X_LIMIT, X_LIMIT), title="final functions")
        table = curve_distances(data)
        distance_table(right, table.to_numpy(float), [f"{trial}\ntype {k}" for _, trial, k in table.index])
        right.set_title("distance under a standard normal")
        label_right(figure, [Names(left, names, [X_LIMIT] * len(names), ends, colours)])
    return figure


def distance_table(axes: Axes, distances: np.ndarray, names: list[str]) -> None:
    """Distances as numbers on squares that are the darker the farther; NaN is a dash."""
    highest = float(np.nanmax(distances, initial=0.0))
    axes.imshow(np.nan_to_num(distances), cmap="Greys", vmin=0, vmax=2.5 * max(highest, 1e-12))
    for i, j in np.ndindex(distances.shape):
        text = "–" if np.isnan(distances[i, j]) else f"{distances[i, j]:.2f}"
        axes.text(j, i, text, ha="center", va="center", color=INK, fontsize=min(10.5, 44 / len(names)))
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
