"""S5: what was learned from different base functions, and how odd or even it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from analysis.figures.base_functions import base_function
from analysis.figures.found_curves import distance_table
from analysis.figures.labels import Names, label_right
from analysis.function_space import TYPE, curve_distances, curve_points, parities, set_distance
from analysis.load import Run, counted_attempts
from analysis.sets import of_sets
from analysis.style import FAINT, canvas, look
from search.schema import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TYPE_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73")


def curves_by_base_data(run: Run) -> pd.DataFrame:
    """Points of the final curves of each base function's best set, with ``odd``: the odd share of a curve's energy.

    Empty unless sets were learned from at least two base functions.
    """
    trials = counted_attempts(run.trials, run.trials)
    good = trials[(trials["status"] == Status.OK) & trials["copied_from"].isna()]
    best = good.sort_values("score", ascending=False, kind="stable").drop_duplicates("base").sort_values("base")
    rows = counted_attempts(run.activations, run.trials)
    rows = of_sets(rows[rows["final"].fillna(value=False).astype(bool)], best)
    columns = ["base", "method", "trial_id", "type_index"]
    points = curve_points(rows.sort_values(["base", "type_index"]), columns)
    if points["base"].nunique() < 2:
        return points.head(0).assign(odd=pd.Series(dtype=float))
    shares = parities(points)["odd_share"].rename("odd").reset_index()
    return points.merge(shares, on=TYPE)


def curves_by_base(data: pd.DataFrame, *, x_limit: float = 4.0) -> Figure:
    """A panel for each base function with the curves of its best set, and the distances of the sets from each other.

    Args:
        data: what `curves_by_base_data` returns, not empty.
        x_limit: the curves are shown on [-x_limit, x_limit].
    """
    bases = list(data["base"].unique())
    trials = [str(data.loc[data["base"] == base, "trial_id"].iloc[0]) for base in bases]
    columns = 2
    lines = -(-(len(bases) + 1) // columns)
    with look():
        figure, grid = canvas(lines, columns, width=6.4, height=0.3 + 2.6 * lines)
        places = list(grid.flat)
        for axes, base, trial in zip(places, bases, trials, strict=False):
            own = data[data["base"] == base]
            _curves(axes, own, x_limit)
            axes.set_title(f"from {base} ({trial})")
        for axes in places[: len(bases) : columns]:
            axes.set_ylabel("activation")
        for axes in places[max(0, len(bases) - columns) : len(bases)]:
            axes.set_xlabel("pre-activation")
        distances = _distances(data, trials)
        distance_table(places[len(bases)], distances, [f"from {base}" for base in bases])
        places[len(bases)].set_title("distance of the sets")
        for axes in places[len(bases) + 1 :]:
            axes.set_axis_off()
        label_right(
            figure,
            [_names(axes, data[data["base"] == base], x_limit) for axes, base in zip(places, bases, strict=False)],
        )
    return figure


def _curves(axes: Axes, rows: pd.DataFrame, x_limit: float) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.5)
    axes.axvline(0, color=FAINT, linewidth=0.5)
    x = np.linspace(-x_limit, x_limit, 400)
    reference = base_function(str(rows["base"].iloc[0]))
    if reference is not None:
        axes.plot(x, reference(x), color="black", linewidth=1.0, linestyle=(0, (4, 3)))
    for k, own in rows.groupby("type_index"):
        axes.plot(x, _smooth(own)(x), color=_TYPE_COLOURS[int(str(k)) % len(_TYPE_COLOURS)])
    axes.set_xlim(-x_limit, x_limit)


def _names(axes: Axes, rows: pd.DataFrame, x_limit: float) -> Names:
    own = rows.drop_duplicates("type_index")
    names = [f"type {row['type_index']}\n{100 * row['odd']:.0f} % odd" for row in own.to_dict("records")]
    heights = [float(_smooth(rows[rows["type_index"] == k])(x_limit)) for k in own["type_index"]]
    colours = [_TYPE_COLOURS[int(k) % len(_TYPE_COLOURS)] for k in own["type_index"]]
    return Names(axes, names, [x_limit] * len(names), heights, colours)


def _smooth(rows: pd.DataFrame) -> Akima1DInterpolator:
    return Akima1DInterpolator(rows["x"].to_numpy(float), rows["y"].to_numpy(float), method="makima")


def _distances(data: pd.DataFrame, trials: list[str]) -> np.ndarray:
    """Between sets, their types matched as well as can be; NaN between sets of unequally many types."""
    table = curve_distances(data)
    types = data.drop_duplicates(["trial_id", "type_index"])["trial_id"].value_counts()
    return np.array(
        [[set_distance(table, a, b) if types[a] == types[b] else np.nan for b in trials] for a in trials], dtype=float
    )
