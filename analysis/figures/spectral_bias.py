"""Which frequencies an arm's network fits first."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.labels import label_right, names_of_arms
from analysis.figures.layouts import wide_panels
from analysis.figures.networks import beside_rivals, panels, without_controls
from analysis.load import Run
from analysis.sets import headline_sets
from analysis.style import Figure, arm_colour, arm_order, look, round_ticks

_PANEL: Final = ["trial_id", "width", "depth"]


def spectral_bias_data(run: Run) -> pd.DataFrame:
    """Per set, arm and frequency the median inner steps to 10 % error; ``fitted`` is the share of fits that got there.

    The median counts a fit that never got there as longer than all others; it is NaN where most never did.
    """
    rows = without_controls(run.table("spectral_bias"))
    columns = [*_PANEL, "arm", "frequency", "steps", "fitted", "networks", "inner_steps"]
    records = []
    both = beside_rivals(rows, headline_sets(run), ["trial_id", "method"])
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
    xlabel, ylabel = "frequency [periods over the interval]", "inner steps to 10 % error"
    names = []
    with look():
        figure, drawn = wide_panels(list(panels(data, _PANEL)), xlabel=xlabel, ylabel=ylabel)
        for axes, rows in drawn:
            for arm in reversed(arm_order(rows["arm"])):
                own = rows[rows["arm"] == arm].sort_values("frequency")
                style: dict[str, Any] = {"color": arm_colour(arm), "marker": "o", "markersize": 4}
                axes.plot(own["frequency"], own["steps"], linewidth=2.2 if arm == "mixed" else 1.3, **style)
            axes.set_xticks(sorted(data["frequency"].unique()))
            axes.set_xlim(data["frequency"].min() - 0.4, data["frequency"].max() + 0.4)
            if data["steps"].notna().any():
                round_ticks(axes.yaxis, data["steps"].min() / 1.2, data["steps"].max() * 1.2)
            last = rows.dropna(subset=["steps"]).sort_values("frequency").drop_duplicates("arm", keep="last")
            names.append(names_of_arms(axes, last.set_index("arm"), "frequency", "steps"))
        label_right(figure, names)
    return figure
