"""Training regimes: the network at the end, its snapshots alone, and all of them as an ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.figures.networks import headline_networks, panels, where_learned
from analysis.load import Run
from analysis.sets import PLAIN
from analysis.statistics import Vector, mean_intervals
from analysis.style import FAINT, arm_colour, canvas, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SET: Final = ["trial_id", "task", "architecture", "mixing", "lr_protocol", "depth", "width"]
_SHOWN: Final = {"members": ("snapshots alone", "|"), "last": ("end", "o"), "ensemble": ("ensemble", "D")}
"""Accuracies of a network that keeps snapshots: what they are called, and their mark."""


def ensembles_by_regime_data(run: Run) -> pd.DataFrame:
    """Means over networks with intervals, for the mix and ReLU in each regime, where each set was learned.

    ``quantity`` is members (mean accuracy of the snapshots), last (accuracy at the end), ensemble (accuracy of all
    snapshots together) or correlation (of the snapshots' errors).
    """
    rows = where_learned(headline_networks(run))
    rows = rows[rows["snapshot_accuracies"].notna() & rows["accuracy"].notna() & rows["arm"].isin(["mixed", "relu"])]
    measured: dict[str, Any] = {
        "members": [float(np.mean(values)) for values in rows["snapshot_accuracies"]],
        "last": rows["accuracy"],
        "ensemble": rows["ensemble_accuracy"],
        "correlation": rows["error_correlation"],
    }
    rows = rows.assign(**measured)
    columns = [*_SET, "regime", "arm"]
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    for key, own in rows.groupby(columns, sort=False, dropna=False):
        for quantity in measured:
            records.append(dict(zip(columns, key, strict=True)) | {"quantity": quantity, "networks": len(own)})
            samples.append(own[quantity].to_numpy(float))
    found = [
        record | {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
        for record, estimate in zip(records, mean_intervals(samples), strict=True)
    ]
    return pd.DataFrame.from_records(found, columns=[*columns, "quantity", "networks", "mean", "low", "high"])


def ensembles_by_regime(data: pd.DataFrame) -> Figure:
    """Left, the accuracies of each regime, right, how alike the snapshots err; a row of panels for each set and arm.

    Args:
        data: what `ensembles_by_regime_data` returns, not empty.
    """
    shown = [(title, arm, own) for title, rows in panels(data, _SET) for arm, own in rows.groupby("arm")]
    regimes = sorted(set(data["regime"]), key=lambda regime: (regime != PLAIN, regime))
    with look():
        height = 1.3 + 0.3 * len(regimes)
        figure, grid = canvas(len(shown), 2, width=7.0, height=0.4 + height * len(shown), sharex="col", sharey=True)
        for (left, right), (title, arm, own) in zip(grid, shown, strict=True):
            for place, (quantity, (name, mark)) in enumerate(_SHOWN.items()):
                _marks(left, own[own["quantity"] == quantity], regimes, 100, (place - 1) * 0.2, mark, name)
            _marks(right, own[own["quantity"] == "correlation"], regimes, 1, 0.0, "s", None)
            left.set_yticks(range(len(regimes)), regimes)
            left.set_ylim(len(regimes) - 0.45, -0.55)
            left.set_title(f"{arm}, {title}, width {own['width'].iloc[0]}")
        grid[-1, 0].set_xlabel("accuracy [%]")
        grid[-1, 1].set_xlabel("correlation of the snapshots' errors")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(_SHOWN))
    return figure


def _marks(
    axes: Axes, rows: pd.DataFrame, regimes: list[str], unit: float, beside: float, mark: str, name: str | None
) -> None:
    places = np.array([regimes.index(regime) for regime in rows["regime"]], dtype=float) + beside
    mean, low, high = (unit * rows[column].to_numpy(float) for column in ("mean", "low", "high"))
    colour = arm_colour(str(rows["arm"].iloc[0]))
    axes.hlines(places, low, high, color=colour, linewidth=1.2)
    style: dict[str, Any] = {"markersize": 11 if mark == "|" else 6, "markerfacecolor": colour, "linestyle": "none"}
    axes.plot(mean, places, mark, color=colour, label=name, **style)
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
