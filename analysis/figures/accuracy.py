"""F3, right, and F4: test accuracy of every arm, as violins where the set was learned and as boxes by width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.load import Run
from analysis.sets import headline_sets, judging_split, of_sets
from analysis.statistics import Vector
from analysis.style import arm_colour, arm_order, canvas, horizontal_grid, look
from search.schema import USUAL_TRIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL: Final = ["trial_id", "task", "lr_protocol", "depth"]
"""Columns that say which panel a network belongs to."""

_SHARED: Final = ["run_id", "task", "architecture", "lr_protocol", "split", "width", "depth"]
_COLUMNS: Final = [*PANEL, "method", "learned_width", "split", "arm", "width", "seed", "accuracy"]


def accuracy_by_width_data(run: Run) -> pd.DataFrame:
    """One row per network of each method's headline set, its usual rivals repeated for every set."""
    rows = run.evaluations
    rows = rows[(rows["split"] == judging_split(rows)) & rows["accuracy"].notna()]
    usual = rows[rows["trial_id"] == USUAL_TRIAL]
    parts = []
    for chosen in headline_sets(run).itertuples():
        own = rows[(rows["run_id"] == chosen.run_id) & (rows["trial_id"] == chosen.trial_id)]
        names = own[[*_SHARED, "trial_id", "method", "learned_width", "learned_depth"]].drop_duplicates()
        rivals = usual.drop(columns=["trial_id", "method", "learned_width", "learned_depth"])
        parts += [own, rivals.merge(names, on=_SHARED)]
    return pd.concat(parts, ignore_index=True)[_COLUMNS] if parts else pd.DataFrame(columns=_COLUMNS)


def arm_violins_data(run: Run) -> pd.DataFrame:
    """The same at the size at which each set was learned; empty if it was not evaluated there."""
    rows = run.evaluations
    depths = of_sets(rows, headline_sets(run))[["trial_id", "learned_depth"]].drop_duplicates("trial_id")
    data = accuracy_by_width_data(run).merge(depths, on="trial_id", how="left")
    there = (data["width"] == data["learned_width"]) & (data["depth"] == data["learned_depth"])
    return data[there.fillna(False).astype(bool)][_COLUMNS].reset_index(drop=True)


def arm_violins(data: pd.DataFrame) -> Figure:
    """Violins of accuracy per arm, one panel per set and learned size, each network a dot and ReLU's mean a line.

    Args:
        data: what `arm_violins_data` returns, not empty.
    """
    panels = _panels(data.sort_values(["depth", "width"], kind="stable"), [*PANEL, "width"])
    with look():
        figure, grid = canvas(len(panels), height=0.3 + 3.0 * len(panels), sharey=True)
        for axes, (title, rows) in zip(grid[:, 0], panels, strict=True):
            arms = arm_order(rows["arm"])
            for place, arm in enumerate(arms):
                _violin(axes, place, 100 * rows.loc[rows["arm"] == arm, "accuracy"].to_numpy(float), arm_colour(arm))
            relu = rows.loc[rows["arm"] == "relu", "accuracy"]
            if len(relu):
                axes.axhline(100 * relu.mean(), color=arm_colour("relu"), linewidth=0.9, linestyle=(0, (4, 3)))
            crowded = sum(map(len, arms)) > 70
            axes.set_xticks(range(len(arms)), arms, rotation=30 if crowded else 0, ha="right" if crowded else "center")
            axes.set_title(f"{title}, width {rows['width'].iloc[0]}")
            axes.set_ylabel(f"{rows['split'].iloc[0]} accuracy [%]")
            horizontal_grid(axes)
    return figure


def accuracy_by_width(data: pd.DataFrame) -> Figure:
    """Boxes of accuracy by width and arm, one panel per set.

    Args:
        data: what `accuracy_by_width_data` returns, not empty.
    """
    from matplotlib.patches import Patch

    panels = _panels(data, PANEL)
    arms = arm_order(data["arm"])
    pitch = 0.84 / len(arms)
    with look():
        figure, grid = canvas(len(panels), height=0.7 + 3.1 * len(panels), width=8.4, sharey=True)
        for axes, (title, rows) in zip(grid[:, 0], panels, strict=True):
            widths = sorted(rows["width"].unique())
            for place, width in enumerate(widths):
                for slot, arm in enumerate(arms):
                    chosen = rows[(rows["width"] == width) & (rows["arm"] == arm)]
                    at = place + (slot - (len(arms) - 1) / 2) * pitch
                    _box(axes, at, 0.8 * pitch, 100 * chosen["accuracy"].to_numpy(float), arm_colour(arm))
                if place:
                    axes.axvline(place - 0.5, color="#dddddd", linewidth=0.8)
            axes.set_xticks(range(len(widths)), [str(width) for width in widths])
            axes.set_xlim(-0.5, len(widths) - 0.5)
            learned = ", ".join(str(width) for width in sorted(rows["learned_width"].dropna().unique()))
            axes.set_title(f"{title}, learned at width {learned}" if learned else title)
            axes.set_ylabel(f"{rows['split'].iloc[0]} accuracy [%]")
            horizontal_grid(axes)
        grid[-1, 0].set_xlabel("width [neurons per hidden layer]")
        patches = [Patch(facecolor=arm_colour(arm), alpha=0.75, edgecolor=arm_colour(arm), label=arm) for arm in arms]
        figure.legend(
            handles=patches, loc="outside upper center", ncols=min(len(arms), 9), handlelength=1.1, columnspacing=1.2
        )
    return figure


def _panels(data: pd.DataFrame, by: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each panel with its title, in the order of the data."""
    varying = [column for column in PANEL[1:] if len(data[column].unique()) > 1]
    panels = []
    for _, rows in data.groupby(by, sort=False):
        first = rows.iloc[0]
        extra = [f"depth {first[column]}" if column == "depth" else str(first[column]) for column in varying]
        panels.append((", ".join([f"set of {first['trial_id']}", *extra]), rows))
    return panels


def _violin(axes: Axes, place: int, values: Vector, colour: str) -> None:
    # A density needs a spread to be estimated from; without one the dots say it all.
    if len(values) >= 3 and np.ptp(values) > 0:
        for body in axes.violinplot([values], [place], widths=0.84, showextrema=False)["bodies"]:  # type: ignore[attr-defined]
            body.set(facecolor=colour, edgecolor=colour, alpha=0.28, linewidth=0.8)
    # Dots of equal height are spread evenly; no chance is involved, so that a figure is the same each time.
    spread = 0.13 * np.sin(2.4 * np.arange(len(values))) if len(values) > 1 else np.zeros(len(values))
    axes.plot(place + spread, values, "o", color=colour, markersize=2.6, alpha=0.75, markeredgewidth=0)
    axes.plot([place - 0.24, place + 0.24], [values.mean()] * 2, color=colour, linewidth=2.2, solid_capstyle="butt")


def _box(axes: Axes, at: float, width: float, values: Vector, colour: str) -> None:
    if not len(values):
        return
    line: dict[str, Any] = {"color": colour, "linewidth": 1.0}
    axes.boxplot(
        [values],
        positions=[at],
        widths=width,
        patch_artist=True,
        manage_ticks=False,
        showcaps=False,
        boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.75, "linewidth": 0.8},
        medianprops={"color": "white", "linewidth": 1.4, "solid_capstyle": "butt"},
        whiskerprops=line,
        flierprops={"marker": ".", "markersize": 3, "markerfacecolor": colour, "markeredgecolor": colour},
    )
