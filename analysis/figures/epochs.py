"""S1: accuracy against epochs by depth."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.labels import Names, label_right, names_of_arms
from analysis.figures.networks import CONDITIONS, headline_networks, panels, where_learned, without_controls
from analysis.load import Run
from analysis.style import Axes, Figure, arm_colour, arm_order, horizontal_grid, look, stacked

_SET: Final = ["trial_id", *CONDITIONS, "width"]


def accuracy_by_epoch_data(run: Run) -> pd.DataFrame:
    """Mean accuracy after every epoch with its standard error, per set, depth and arm, at the width of learning."""
    rows = without_controls(where_learned(headline_networks(run), any_depth=True))
    rows = rows[rows["epoch_accuracies"].notna()]
    columns = [*_SET, "depth", "split", "arm", "epoch", "accuracy", "sem", "networks"]
    parts = []
    for key, own in rows.groupby([*_SET, "depth", "split", "arm"], sort=False, dropna=False):
        # Networks of one arm are trained for equally many epochs, unless settings were changed between evaluations.
        epochs = min(map(len, own["epoch_accuracies"]))
        values = np.array([curve[:epochs] for curve in own["epoch_accuracies"]], dtype=np.float64)
        number = len(values)
        sem = values.std(axis=0, ddof=1) / np.sqrt(number) if number > 1 else np.full(epochs, np.nan)
        part = pd.DataFrame({"epoch": np.arange(1, epochs + 1), "accuracy": values.mean(axis=0), "sem": sem})
        named: dict[str, Any] = dict(zip([*_SET, "depth", "split", "arm"], key, strict=True))
        parts.append(part.assign(networks=number, **named)[columns])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def accuracy_by_epoch(data: pd.DataFrame) -> Figure:
    """A line for each arm with a band of one standard error, a panel for each depth, a row of panels for each set."""
    shown = list(panels(data, _SET))
    depths = sorted(data["depth"].unique())
    titles = [f"{title}, width {rows['width'].iloc[0]}" for title, rows in shown]
    most = max(len(rows["arm"].unique()) for _, rows in shown)
    with look():
        each = max(3.1, 0.17 * most + 1.1)
        figure, parts = stacked(titles, [each] * len(shown), width=max(5.4, 2.5 * len(depths)))
        drawn = []
        for part, (_, rows) in zip(parts, shown, strict=True):
            grid = part.subplots(1, len(depths), squeeze=False, sharey=True)
            for axes, depth in zip(grid[0], depths, strict=True):
                own = rows[rows["depth"] == depth]
                _lines(axes, own)
                axes.set_title(f"{depth} hidden layer{'s' if depth > 1 else ''}", fontsize=9.5)
                axes.set_xlabel("epoch")
                drawn.append((axes, own))
            grid[0, 0].set_ylabel(f"{rows['split'].iloc[0]} accuracy [%]")
        label_right(figure, [_names(axes, own) for axes, own in drawn if len(own)])
    return figure


def _lines(axes: Axes, rows: pd.DataFrame) -> None:
    for arm in reversed(arm_order(rows["arm"])):
        own = rows[rows["arm"] == arm]
        x, y, sem = (own[name].to_numpy(float) for name in ("epoch", "accuracy", "sem"))
        band = 100 * np.nan_to_num(sem)
        axes.fill_between(x, 100 * y - band, 100 * y + band, color=arm_colour(arm), alpha=0.2, linewidth=0)
        axes.plot(x, 100 * y, color=arm_colour(arm), linewidth=2.2 if arm == "mixed" else 1.3)
    axes.locator_params(axis="x", integer=True, nbins=5)
    horizontal_grid(axes)


def _names(axes: Axes, rows: pd.DataFrame) -> Names:
    last = rows.assign(percent=100 * rows["accuracy"]).sort_values("epoch").drop_duplicates("arm", keep="last")
    return names_of_arms(axes, last.set_index("arm"), "epoch", "percent")
