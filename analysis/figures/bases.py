"""S5: what was learned from different base functions, and how odd or even it is."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from analysis.figures.base_functions import base_function
from analysis.figures.curves import X_LIMIT
from analysis.figures.found_curves import distance_table
from analysis.figures.labels import Names, label_right
from analysis.function_space import TYPE, curve_distances, curve_points, parities, set_distance, smooth_curve
from analysis.load import Run, counted_attempts
from analysis.sets import of_sets
from analysis.style import Axes, Figure, canvas, cross_hair, look
from analysis.words import count
from search.schema import Status

_TYPE_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73")


def curves_by_base_data(run: Run) -> pd.DataFrame:
    """Points of the final curves of the best set from each base function with each number of types, ``num_types``.

    ``odd`` is the odd share of a curve's energy.  Empty unless sets were learned from at least two base functions.
    """
    trials = counted_attempts(run.trials, run.trials)
    good = trials[(trials["status"] == Status.OK) & trials["copied_from"].isna()]
    good = good.sort_values("score", ascending=False, kind="stable")
    best = good.drop_duplicates(["base", "num_types"]).sort_values(["base", "num_types"])
    rows = counted_attempts(run.activations, run.trials)
    rows = of_sets(rows[rows["final"].fillna(value=False).astype(bool)], best)
    columns = ["base", "num_types", "method", "trial_id", "type_index"]
    points = curve_points(rows.sort_values(["base", "num_types", "type_index"]), columns)
    if points["base"].nunique() < 2:
        return points.head(0).assign(odd=pd.Series(dtype=float))
    shares = parities(points)["odd_share"].rename("odd").reset_index()
    return points.merge(shares, on=TYPE)


def curves_by_base(data: pd.DataFrame) -> Figure:
    """A panel for each set with its curves, and how far apart the sets are that have equally many types.

    With several numbers of types there is a row for each base function, and a column for each number of types.
    """
    sets = dict(iter(data.groupby(["base", "num_types"], sort=False)))
    bases, counts = list(data["base"].unique()), sorted(data["num_types"].unique())
    columns = max(2, len(counts))
    order = [(base, number) for base in bases for number in counts]
    lines = -(-len(order) // columns)
    with look():
        height = 0.3 + (2.6 if len(counts) == 1 else 2.0) * (lines + len(counts))
        figure, grid = canvas(lines + len(counts), columns, width=3.2 * columns, height=height)
        places = dict(zip(order, grid.flat, strict=False))
        shown = [(axes, sets[key]) for key, axes in places.items() if key in sets]
        lowest = {place % columns: axes for place, (key, axes) in enumerate(places.items()) if key in sets}
        for axes, own in shown:
            _curves(axes, own)
            one = own.iloc[0]
            types = f", {count(int(one['num_types']), 'type')}\n" if len(counts) > 1 else " "
            axes.set_title(f"from {one['base']}{types}({one['trial_id']})")
            if axes in lowest.values():
                axes.set_xlabel("pre-activation")
            if axes in set(grid[:, 0]):
                axes.set_ylabel("activation")
        for axes in set(grid[:lines].flat) - {axes for axes, _ in shown}:
            axes.set_axis_off()
        for line, number in enumerate(counts, start=lines):
            whole = grid[line, 0].get_gridspec()[line, :]
            for axes in grid[line]:
                axes.remove()
            _distances(figure.add_subplot(whole), data[data["num_types"] == number])
        label_right(figure, [_names(axes, own) for axes, own in shown])
    return figure


def _curves(axes: Axes, rows: pd.DataFrame) -> None:
    cross_hair(axes)
    x = np.linspace(-X_LIMIT, X_LIMIT, 400)
    reference = base_function(str(rows["base"].iloc[0]))
    if reference is not None:
        axes.plot(x, reference(x), color="black", linewidth=1.0, linestyle=(0, (4, 3)))
    for k, own in rows.groupby("type_index"):
        axes.plot(x, smooth_curve(own)(x), color=_TYPE_COLOURS[int(str(k)) % len(_TYPE_COLOURS)])
    axes.set_xlim(-X_LIMIT, X_LIMIT)


def _names(axes: Axes, rows: pd.DataFrame) -> Names:
    own = rows.drop_duplicates("type_index")
    names = [f"type {row['type_index']}\n{100 * row['odd']:.0f} % odd" for row in own.to_dict("records")]
    heights = [float(smooth_curve(rows[rows["type_index"] == k])(X_LIMIT)) for k in own["type_index"]]
    colours = [_TYPE_COLOURS[int(k) % len(_TYPE_COLOURS)] for k in own["type_index"]]
    return Names(axes, names, [X_LIMIT] * len(names), heights, colours)


def _distances(axes: Axes, data: pd.DataFrame) -> None:
    """Between sets of equally many types, their types matched as well as can be."""
    table = curve_distances(data)
    trials = data.drop_duplicates("trial_id").set_index("trial_id")["base"]
    between = [[set_distance(table, one, other) for other in trials.index] for one in trials.index]
    distance_table(axes, np.array(between), [f"from {base}" for base in trials])
    axes.set_aspect("auto")  # six numbers in a line need more room than squares give them
    axes.set_title(f"distance of the sets with {count(int(data['num_types'].iloc[0]), 'type')}")
