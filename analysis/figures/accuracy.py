"""F3, right, F5, S3 and F4: every arm's networks, as violins where the set was learned and as boxes by width."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import scipy

from analysis.figures.layouts import arms_in_rows
from analysis.figures.networks import CONDITIONS, PANEL, headline_networks, panels, where_learned
from analysis.load import Run
from analysis.statistics import Vector
from analysis.style import Axes, Figure, arm_colour, arm_order, canvas, horizontal_grid, look, round_ticks

_COLUMNS: Final = [*PANEL, "method", "learned_width", "learned_depth", "split", "arm", "width", "seed"]
_SET: Final = ["trial_id", *CONDITIONS]
_STANDARDISED_BY: Final = {"van_der_pol": "inputs"}
"""Regression → what its targets are standardised by, if not by themselves: there they are the next inputs."""


def accuracy_by_width_data(run: Run) -> pd.DataFrame:
    """One row per network of each method's headline set, its usual rivals repeated for every set."""
    rows = headline_networks(run)
    rows = rows[(rows["metric"] == "accuracy") & rows["accuracy"].notna()]
    return rows[[*_COLUMNS, "accuracy"]].reset_index(drop=True)


def arm_violins_data(run: Run) -> pd.DataFrame:
    """The same at the size at which each set was learned; empty if it was not evaluated there."""
    return where_learned(accuracy_by_width_data(run))


def loss_violins_data(run: Run) -> pd.DataFrame:
    """Networks that are judged by their loss, where each set was learned; ``diverged`` ones have none."""
    rows = where_learned(headline_networks(run))
    rows = rows[(rows["metric"] == "loss") & (rows["loss"].gt(0) | rows["diverged"].fillna(value=False).astype(bool))]
    return rows[[*_COLUMNS, "loss", "diverged"]].reset_index(drop=True)


def arm_violins(data: pd.DataFrame) -> Figure:
    """Violins of accuracy per arm, one panel per set and learned size, each network a dot and ReLU's mean a line."""
    with look():
        figure, drawn = _violins(data.assign(shown=100 * data["accuracy"]), height=3.0, sharey=True)
        for axes, title, rows in drawn:
            axes.set_title(f"{title}, width {rows['width'].iloc[0]}")
            axes.set_ylabel(f"{rows['split'].iloc[0]} accuracy [%]")
    return figure


def loss_violins(data: pd.DataFrame) -> Figure:
    """Violins of the loss per arm on a logarithmic axis, one panel per set, task and learned size."""
    with look():
        figure, drawn = _violins(data.assign(shown=data["loss"]), height=3.2, logarithmic=True)
        for axes, title, rows in drawn:
            for place, arm in enumerate(arm_order(rows["arm"])):
                if lost := int(rows.loc[rows["arm"] == arm, "loss"].isna().sum()):
                    where = (place, 1.0)
                    axes.annotate(f"{lost}†", where, xycoords=axes.get_xaxis_transform(), ha="center", fontsize=8)
            if rows["loss"].notna().any():
                round_ticks(axes.yaxis, rows["loss"].min() / 1.3, rows["loss"].max() * 1.5)
            axes.set_title(f"{title}, {rows['task'].iloc[0]}, width {rows['width'].iloc[0]}", pad=12)
            unit = f"variance of the training {_STANDARDISED_BY.get(rows['task'].iloc[0], 'targets')}"
            axes.set_ylabel(f"{rows['split'].iloc[0]} mean squared error\n[{unit}]")
    return figure


def accuracy_by_width(data: pd.DataFrame) -> Figure:
    """Boxes of accuracy by size, a small panel for each arm; the medians of the mix are a line in all of them."""
    shown = [(_learned_at(title, rows), rows) for title, rows in panels(data, _SET)]
    low, high = 100 * data["accuracy"].min(), 100 * data["accuracy"].max()
    room = 0.04 * (high - low) or 1.0
    with look():
        figure, parts, drawn = arms_in_rows(shown)
        for axes, rows, arm in drawn:
            _boxes_of_arm(axes, rows, arm)
            axes.set_ylim(low - room, high + room)
        for part, (_, rows) in zip(parts, shown, strict=True):
            part.supylabel(f"{rows['split'].iloc[0]} accuracy [%]", fontsize=10)
            several = len(rows["depth"].unique()) > 1
            part.supxlabel(f"width{' × depth' if several else ''} [neurons per hidden layer]", fontsize=10)
    return figure


def violin_shape(values: Vector, *, points: int = 120) -> tuple[Vector, Vector]:
    """Outline of a violin: heights between the extremes, and half widths that are 1 at most (Gaussian KDE, Scott).

    Args:
        values: at least three, not all equal.
        points: how many heights.
    """
    heights = np.linspace(values.min(), values.max(), points)
    density = scipy.stats.gaussian_kde(values)(heights)
    return heights, density / density.max()


def _boxes_of_arm(axes: Axes, rows: pd.DataFrame, arm: str) -> None:
    sizes = sorted({(int(depth), int(width)) for depth, width in zip(rows["depth"], rows["width"], strict=True)})
    depths = sorted({depth for depth, _ in sizes})
    mixed = rows[rows["arm"] == "mixed"].groupby(["depth", "width"])["accuracy"].median()
    for depth in depths if arm != "mixed" else []:
        own = mixed[mixed.index.get_level_values("depth") == depth]
        places = [sizes.index(size) for size in own.index]
        style: dict[str, Any] = {"color": arm_colour("mixed"), "linewidth": 1.1, "marker": ".", "markersize": 3}
        axes.plot(places, 100 * own.to_numpy(float), zorder=1, **style)
    for place, (depth, width) in enumerate(sizes):
        chosen = rows[(rows["width"] == width) & (rows["depth"] == depth) & (rows["arm"] == arm)]
        _box(axes, place, 0.55, 100 * chosen["accuracy"].to_numpy(float), arm_colour(arm))
        if place and depth != sizes[place - 1][0]:
            axes.axvline(place - 0.5, color="#dddddd", linewidth=0.8)
    names = [f"{width} × {depth}" if len(depths) > 1 else str(width) for depth, width in sizes]
    crowded = sum(len(name) + 1 for name in names) > 16
    axes.set_xticks(range(len(names)), names, rotation=90 if crowded else 0)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _learned_at(title: str, rows: pd.DataFrame) -> str:
    learned = ", ".join(str(width) for width in sorted(rows["learned_width"].dropna().unique()))
    return f"{title}, learned at width {learned}" if learned else title


def _name_arms(axes: Axes, names: list[str]) -> None:
    crowded = len(names) * max(map(len, names)) > 70
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _violins(
    data: pd.DataFrame, *, height: float, logarithmic: bool = False, **sharing: Any
) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]]]:
    """Violins of the column ``shown``: the figure, and of each panel the axes, its title and its rows."""
    shown = list(panels(data.sort_values(["depth", "width"], kind="stable"), [*PANEL, "width"]))
    figure, grid = canvas(len(shown), height=0.3 + height * len(shown), **sharing)
    for axes, (_, rows) in zip(grid[:, 0], shown, strict=True):
        arms = arm_order(rows["arm"])
        for place, arm in enumerate(arms):
            values = rows.loc[rows["arm"] == arm, "shown"].dropna().to_numpy(float)
            if len(values):
                mean = _violin(axes, place, values, arm_colour(arm), logarithmic=logarithmic)
                if arm == "relu":
                    axes.axhline(mean, color=arm_colour("relu"), linewidth=0.9, linestyle=(0, (4, 3)))
        _name_arms(axes, arms)
        horizontal_grid(axes)
    return figure, [(axes, *panel) for axes, panel in zip(grid[:, 0], shown, strict=True)]


def _violin(axes: Axes, place: int, values: Vector, colour: str, *, logarithmic: bool) -> float:
    """One arm, and its mean, a geometric one on a logarithmic axis."""
    measured = np.log(values) if logarithmic else values
    # A density needs a spread to be estimated from; without one the dots say it all.
    if len(values) >= 3 and np.ptp(measured) > 1e-12 * np.abs(measured).max():
        heights, half = violin_shape(measured)
        heights = np.exp(heights) if logarithmic else heights
        axes.fill_betweenx(
            heights,
            place - 0.42 * half,
            place + 0.42 * half,
            facecolor=colour,
            edgecolor=colour,
            alpha=0.28,
            linewidth=0.8,
        )
    # Dots of equal height are spread evenly; no chance is involved, so that a figure is the same each time.
    beside = 0.13 * np.sin(2.4 * np.arange(len(values))) if len(values) > 1 else np.zeros(len(values))
    axes.plot(place + beside, values, "o", color=colour, markersize=2.6, alpha=0.75, markeredgewidth=0)
    mean = float(np.exp(measured.mean()) if logarithmic else measured.mean())
    axes.plot([place - 0.24, place + 0.24], [mean] * 2, color=colour, linewidth=2.2, solid_capstyle="butt")
    return mean


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
