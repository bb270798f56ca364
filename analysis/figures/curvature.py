"""H and S4: how sharply the loss bends around trained networks: trace, near-zero share, spectral densities."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.layouts import arms_in_rows
from analysis.figures.networks import (
    PANEL,
    beside_rivals,
    headline_networks,
    learned_sizes,
    loss_units,
    panels,
    spectra,
    where_learned,
)
from analysis.load import Run
from analysis.sets import headline_sets
from analysis.statistics import Vector, mean_intervals
from analysis.style import Axes, Figure, arm_colour, arm_order, look, stacked

QUANTITIES: Final = {
    "hessian_trace": "trace of the Hessian\n[{unit} / weight²]",
    "near_zero_fraction": "share of eigenvalues\nnear zero [%]",
    "weight_norm": "norm of all weights",
}
"""Columns of ``evaluations`` that the picture by arm shows, each with its label; ``unit`` is that of the loss."""

_FACTORS: Final = {"near_zero_fraction": 100.0}
_GRID: Final = 600
"""Most eigenvalues on the grid on which densities are averaged."""

_FAINTEST: Final = 1e-5
"""Densities below this share of the highest are not shown: they are rounding."""


def curvature_by_arm_data(run: Run) -> pd.DataFrame:
    """Per set, arm and quantity of `QUANTITIES` the mean over networks with a 95 % interval, at the learned size."""
    rows = where_learned(headline_networks(run))
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    for key, own in rows.groupby([*PANEL, "width", "arm"], sort=False, dropna=False):
        for quantity in QUANTITIES:
            values = own[quantity].dropna().to_numpy(float)
            # The weight norm alone says nothing of curvature: it stands beside it, as large weights look flat.
            if len(values) and own["hessian_trace"].notna().any():
                records.append(dict(zip([*PANEL, "width", "arm"], key, strict=True)) | {"quantity": quantity})
                samples.append(values * _FACTORS.get(quantity, 1.0))
    for record, estimate in zip(records, mean_intervals(samples), strict=True):
        record |= {"value": estimate.value, "low": estimate.low, "high": estimate.high, "networks": estimate.n}
    columns = [*PANEL, "width", "arm", "quantity", "value", "low", "high", "networks"]
    data = pd.DataFrame.from_records(records, columns=columns)
    return data.assign(unit=loss_units(run, data["task"]))


def curvature_by_arm(data: pd.DataFrame) -> Figure:
    """A row for every arm and a column for every quantity: means with intervals; one block per set."""
    shown = list(panels(data, [*PANEL, "width"]))
    quantities = [name for name in QUANTITIES if name in set(data["quantity"])]
    titles = [f"{title}, width {rows['width'].iloc[0]}" for title, rows in shown]
    with look():
        figure, parts = stacked(titles, [1.2 + 0.24 * len(rows["arm"].unique()) for _, rows in shown])
        for part, (_, rows) in zip(parts, shown, strict=True):
            arms = arm_order(rows["arm"])
            grid = part.subplots(1, len(quantities), squeeze=False, sharey=True)
            for axes, quantity in zip(grid[0], quantities, strict=True):
                _means(axes, rows[rows["quantity"] == quantity], arms)
                axes.set_xlabel(QUANTITIES[quantity].format(unit=rows["unit"].iloc[0]))
                axes.locator_params(axis="x", nbins=4)
            grid[0, 0].set_yticks(range(len(arms)), arms)
            grid[0, 0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def spectral_densities_data(run: Run) -> pd.DataFrame:
    """Per set and arm the mean spectral density over networks, on a grid that all arms of a panel share."""
    sets = headline_sets(run)
    both = beside_rivals(spectra(run), sets, ["trial_id", "method", "mixing"])
    learned = learned_sizes(run)
    there = both.merge(learned.drop_duplicates(), on=["trial_id", "width", "depth"])
    both = there if len(there) else both
    columns = [*PANEL, "width", "arm", "eigenvalue", "density", "networks"]
    parts = []
    for key, panel in both.groupby([*PANEL, "width"], sort=False, dropna=False):
        grid = _common_grid(panel["eigenvalues"])
        for arm, own in panel.groupby("arm", sort=False):
            densities = [
                np.interp(grid, row["eigenvalues"], row["density"], left=0.0, right=0.0)
                for row in own.to_dict("records")
            ]
            part = pd.DataFrame({"eigenvalue": grid, "density": np.mean(densities, axis=0)})
            named: dict[str, Any] = dict(zip([*PANEL, "width"], key, strict=True))
            parts.append(part.assign(arm=arm, networks=len(own), **named)[columns])
    data = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return data.assign(unit=loss_units(run, data["task"]))


def spectral_densities(data: pd.DataFrame) -> Figure:
    """Density of Hessian eigenvalues, a small panel for each arm; that of the mix is a faint line in all of them."""
    shown = [(f"{title}, width {rows['width'].iloc[0]}", rows) for title, rows in panels(data, [*PANEL, "width"])]
    with look():
        figure, parts, drawn = arms_in_rows(shown)
        for axes, rows, arm in drawn:
            _density(axes, rows, arm)
        for part, (_, rows) in zip(parts, shown, strict=True):
            part.supylabel("density [1 / eigenvalue]", fontsize=10)
            part.supxlabel(f"eigenvalue of the Hessian [{rows['unit'].iloc[0]} per squared weight]", fontsize=10)
    return figure


def _density(axes: Axes, rows: pd.DataFrame, arm: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    lowest = _FAINTEST * rows["density"].max()
    own, mixed = (rows[rows["arm"] == name] for name in (arm, "mixed"))
    axes.set_yscale("log")
    axes.fill_between(own["eigenvalue"], own["density"], lowest, color=arm_colour(arm), alpha=0.3)
    axes.plot(own["eigenvalue"], own["density"], color=arm_colour(arm), linewidth=1.1)
    if arm != "mixed":
        axes.plot(mixed["eigenvalue"], mixed["density"], color=arm_colour("mixed"), linewidth=0.9, alpha=0.9)
    axes.set_ylim(lowest, 2 * rows["density"].max())
    axes.locator_params(axis="x", nbins=4)
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _means(axes: Axes, rows: pd.DataFrame, arms: list[str]) -> None:
    for row in rows.to_dict("records"):
        arm, value, low, high = (row[name] for name in ("arm", "value", "low", "high"))
        place = arms.index(arm)
        if arm == "mixed":
            axes.axvline(value, color=arm_colour(arm), linewidth=0.8, linestyle=(0, (3, 3)))
        if np.isfinite(low):
            axes.plot([low, high], [place, place], color=arm_colour(arm), linewidth=1.6, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=arm_colour(arm), markersize=5.5)
    axes.grid(axis="x", alpha=0.3, linewidth=0.6)


def _common_grid(grids: pd.Series[Any]) -> Vector:
    """Eigenvalues of all grids together, thinned evenly: dense where the grids are dense."""
    every = np.unique(np.concatenate([np.asarray(grid, dtype=np.float64) for grid in grids]))
    return np.asarray(every[np.unique(np.linspace(0, len(every) - 1, _GRID).astype(int))])
