"""The variance of the signal from layer to layer before the first training step."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from analysis.figures.labels import Names, label_right, names_of_arms
from analysis.figures.networks import beside_rivals, panels
from analysis.initial_variance import initial_variance_table
from analysis.load import Run
from analysis.sets import headline_sets
from analysis.statistics import Interval
from analysis.style import FAINT, Axes, Figure, arm_colour, arm_order, horizontal_grid, look, round_ticks, stacked
from search.schema import CONTROLS

GAINS: Final = ("no-gain", "mixed-normalized")
"""The controls that say what gain and offset do to the signal."""

_PANEL: Final = ["trial_id", "task", "architecture", "mixing", "depth"]
_ENDS: Final = ("_low", "_high")
_SURE: Final = tuple(str(kind) for kind in Interval if kind not in (Interval.FEW, Interval.NONE))
"""Intervals that are drawn: those of few seeds are no more than their range."""
_SIDES: Final = {"variance_in": "goes into the activation", "variance_out": "comes out of it"}


def initial_variance_data(run: Run) -> pd.DataFrame:
    """`analysis.initial_variance.initial_variance_table` of each headline set beside the usual arms.

    Of several widths the largest one, of controls those with another gain.
    """
    rows = run.table("initial_variance")
    rows = rows[rows["arm"].isin(GAINS) | ~rows["arm"].isin(list(CONTROLS))]
    rows = beside_rivals(rows, headline_sets(run), ["trial_id", "method", "mixing"])
    widest = rows.groupby(_PANEL, dropna=False)["width"].transform("max") if len(rows) else rows["width"]
    return initial_variance_table(rows[rows["width"] == widest])


def initial_variance(data: pd.DataFrame) -> Figure:
    """Two panels for each set, kind of network, mixing and depth, a line for each arm; variances are logarithmic."""
    shown = list(panels(data, _PANEL))
    titles = [f"{title}, width {rows['width'].iloc[0]}" for title, rows in shown]
    most = max(rows["arm"].nunique() for _, rows in shown)
    with look():
        each = max(2.7, 0.17 * most + 1.1)
        figure, parts = stacked(titles, [each] * len(shown), width=7.6)
        drawn = []
        for part, (_, rows) in zip(parts, shown, strict=True):
            grid = part.subplots(1, 2, squeeze=False, sharey=True)
            for axes, (side, words) in zip(grid[0], _SIDES.items(), strict=True):
                _lines(axes, rows, side)
                axes.set_xlabel("layer")
                axes.set_title(words)
                drawn.append((axes, rows, side))
            _limits(grid[0, 0], rows)
            grid[0, 0].set_ylabel("variance at step 0")
        label_right(figure, [_names(axes, rows, side) for axes, rows, side in drawn if rows[side].notna().any()])
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, side: str) -> None:
    axes.axhline(1, color=FAINT, linewidth=1.0)
    for arm in reversed(arm_order(rows["arm"])):
        own = rows[rows["arm"] == arm].sort_values("layer")
        layer, value, low, high = (own[name].to_numpy(float) for name in ("layer", side, f"{side}_low", f"{side}_high"))
        known = own[f"{side}_interval"].isin(_SURE).to_numpy() & (low > 0)
        axes.fill_between(layer[known], low[known], high[known], color=arm_colour(arm), alpha=0.2, linewidth=0)
        dashes = "--" if arm in GAINS else "-"
        width = 2.2 if arm == "mixed" else 1.3
        axes.plot(layer, value, dashes, color=arm_colour(arm), marker="o", markersize=3.5, linewidth=width)
    last = int(rows["layer"].max())
    axes.set_xticks(range(1, last + 1, -(-last // 10)))
    axes.set_xlim(0.7, last + 0.3)
    horizontal_grid(axes)


def _limits(axes: Axes, rows: pd.DataFrame) -> None:
    """A logarithmic axis that holds all that is positive on both sides, and one."""
    shown = [rows[side] for side in _SIDES]
    shown += [rows.loc[rows[f"{side}_interval"].isin(_SURE), f"{side}{end}"] for side in _SIDES for end in _ENDS]
    values = pd.concat(shown).to_numpy(float)
    values = np.append(values[np.isfinite(values) & (values > 0)], 1.0)
    round_ticks(axes.yaxis, float(values.min()) / 1.3, float(values.max()) * 1.3)


def _names(axes: Axes, rows: pd.DataFrame, side: str) -> Names:
    last = rows[rows[side] > 0].sort_values("layer").drop_duplicates("arm", keep="last")
    return names_of_arms(axes, last.set_index("arm"), "layer", side)
