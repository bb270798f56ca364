"""F3, left: how the learned activations changed during the search."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.base_functions import base_function
from analysis.function_space import curve_points, smooth_curve
from analysis.load import Run, counted_attempts
from analysis.sets import METHODS, headline_sets, of_sets
from analysis.style import Axes, Figure, canvas, cross_hair, look, outer_step_colours

X_LIMIT: Final = 4.0
"""Curves are shown from minus to plus this; more of them is stored."""

_COLUMNS: Final = ["method", "trial_id", "type_index", "base", "step", "final"]


def activation_curves_data(run: Run) -> pd.DataFrame:
    """One row per point of every recorded curve of each method's headline set.

    Before anything is evaluated, the first trial of each method stands in for its headline set.
    """
    rows = counted_attempts(run.activations, run.trials)
    sets = headline_sets(run)[["run_id", "method", "trial_id"]]
    first = rows[~rows["method"].isin(sets["method"])].sort_values("trial_id").drop_duplicates("method")
    rows = of_sets(rows, pd.concat([sets, first[["run_id", "method", "trial_id"]]]))
    rows = rows.sort_values(["method", "type_index", "step"])
    return curve_points(rows, _COLUMNS)


def activation_curves(data: pd.DataFrame) -> Figure:
    """Curves coloured by outer step, one row of panels per method and one panel per type."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    methods = [method for method in METHODS if method in set(data["method"])]
    types = sorted(data["type_index"].unique())
    size = {"height": 0.5 + 2.6 * len(methods), "width": max(4.4, 3.2 * len(types))}
    with look():
        figure, grid = canvas(len(methods), len(types), sharex=True, sharey="row", **size)
        for axes_row, method in zip(grid, methods, strict=True):
            own = data[data["method"] == method]
            colours = ScalarMappable(Normalize(0, max(int(own["step"].max()), 1)), outer_step_colours())
            for axes, k in zip(axes_row, types, strict=True):
                _panel(axes, own[own["type_index"] == k])
                axes.set_title(f"{own['trial_id'].iloc[0]}, type {k}")
                axes.set_xlim(-X_LIMIT, X_LIMIT)
                axes.xaxis.set_major_locator(MaxNLocator(5, prune="both"))
            unit = "outer step" if method == "gradient" else "generation"
            bar: dict[str, Any] = {"label": unit, "ticks": MaxNLocator(6, integer=True), "pad": 0.02, "fraction": 0.05}
            figure.colorbar(colours, ax=list(axes_row), **bar)
            axes_row[0].set_ylabel("activation")
        for axes in grid[-1]:
            axes.set_xlabel("pre-activation")
        if grid[0][0].get_legend_handles_labels()[1]:
            grid[0][0].legend(loc="best", handlelength=2.2)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    cross_hair(axes)
    colours = outer_step_colours()
    last = rows["step"].max()
    for step in sorted(rows["step"].unique()):
        curve = rows[rows["step"] == step]
        x = np.linspace(max(-X_LIMIT, curve["x"].min()), min(X_LIMIT, curve["x"].max()), 400)
        y = smooth_curve(curve)(x)
        axes.plot(x, y, color=colours(step / max(last, 1)), linewidth=2.4 if step == last else 1.2)
    base = rows["base"].iloc[0] if len(rows) else ""
    if (reference := base_function(base)) is not None:
        x = np.linspace(-X_LIMIT, X_LIMIT, 400)
        axes.plot(x, reference(x), color="black", linewidth=1.1, linestyle=(0, (4, 3)), label=f"base: {base}", zorder=5)
