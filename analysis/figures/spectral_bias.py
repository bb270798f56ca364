"""Which frequencies an arm's network fits first."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from analysis.figures.labels import Names, label_right, names_of_arms
from analysis.figures.networks import without_controls
from analysis.load import Run
from analysis.sets import headline_sets, of_sets
from analysis.style import Axes, Figure, arm_colour, arm_order, canvas, horizontal_grid, look, round_ticks
from search.schema import USUAL_TRIAL

_PANEL: Final = ["trial_id", "width", "depth"]


def spectral_bias_data(run: Run) -> pd.DataFrame:
    """Per set, arm and frequency the median inner steps to 10 % error; ``fitted`` is the share of fits that got there.

    The median counts a fit that never got there as longer than all others; it is NaN where most never did.
    """
    rows = without_controls(run.table("spectral_bias"))
    columns = [*_PANEL, "arm", "frequency", "steps", "fitted", "networks", "inner_steps"]
    usual = rows[rows["trial_id"] == USUAL_TRIAL]
    parts = []
    for _, one in headline_sets(run).groupby(["run_id", "trial_id"], sort=False):
        own = of_sets(rows, one)
        sizes = own[["run_id", "trial_id", "width", "depth"]].drop_duplicates()
        parts += [own, usual.drop(columns="trial_id").merge(sizes, on=["run_id", "width", "depth"])]
    records = []
    both = pd.concat(parts, ignore_index=True) if parts else rows.head(0)
    for key, own in both.groupby([*_PANEL, "arm"], sort=False):
        needed: dict[int, list[float]] = {}
        for row in own.to_dict("records"):
            for frequency, steps in zip(row["frequencies"], row["steps_to_fit"], strict=True):
                needed.setdefault(int(frequency), []).append(np.inf if pd.isna(steps) else float(steps))
        for frequency, values in needed.items():
            middle = float(np.median(values))
            record = dict(zip([*_PANEL, "arm"], key, strict=True)) | {"frequency": frequency}
            record |= {"steps": middle if np.isfinite(middle) else np.nan, "networks": len(values)}
            record |= {"fitted": float(np.mean(np.isfinite(values))), "inner_steps": own["inner_steps"].max()}
            records.append(record)
    return pd.DataFrame.from_records(records, columns=columns)


def spectral_bias(data: pd.DataFrame) -> Figure:
    """Steps against frequency on a logarithmic axis, a line for each arm and a panel for each set."""
    shown = [rows for _, rows in data.groupby(_PANEL, sort=False)]
    with look():
        most = max(rows["arm"].nunique() for rows in shown)
        each = max(3.0, 0.17 * most + 0.8)
        figure, grid = canvas(len(shown), height=0.3 + each * len(shown), sharex=True, sharey=True)
        for axes, rows in zip(grid[:, 0], shown, strict=True):
            for arm in reversed(arm_order(rows["arm"])):
                own = rows[rows["arm"] == arm].sort_values("frequency")
                style = {"color": arm_colour(arm), "marker": "o", "markersize": 4}
                axes.plot(own["frequency"], own["steps"], linewidth=2.2 if arm == "mixed" else 1.3, **style)
            first = rows.iloc[0]
            axes.set_title(f"set of {first['trial_id']}, width {first['width']}")
            axes.set_ylabel("inner steps to 10 % error")
            axes.set_xticks(sorted(data["frequency"].unique()))
            axes.set_xlim(data["frequency"].min() - 0.4, data["frequency"].max() + 0.4)
            if data["steps"].notna().any():
                round_ticks(axes.yaxis, data["steps"].min() / 1.2, data["steps"].max() * 1.2)
            horizontal_grid(axes)
        grid[-1, 0].set_xlabel("frequency [periods over the interval]")
        label_right(figure, [_names(axes, rows) for axes, rows in zip(grid[:, 0], shown, strict=True)])
    return figure


def _names(axes: Axes, rows: pd.DataFrame) -> Names:
    last = rows.dropna(subset=["steps"]).sort_values("frequency").drop_duplicates("arm", keep="last")
    return names_of_arms(axes, last.set_index("arm"), "frequency", "steps")
