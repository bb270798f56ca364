"""Training regimes and the ensembles of their snapshots, arm by arm."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from analysis.figures.networks import headline_networks, panels, without_controls
from analysis.load import Run
from analysis.regimes import has_regimes, regime_table
from analysis.style import FAINT, INK, Axes, Figure, arm_colour, arm_order, look, stacked

_SET: Final = ["trial_id", "task", "architecture", "mixing", "lr_protocol", "depth"]
_SHOWN: Final = {
    "member_accuracy": ("a snapshot alone", "o", False),
    "accuracy": ("after the last step", "o", True),
    "ensemble_accuracy": ("ensemble of the snapshots", "D", True),
}
"""Column → what it is, its mark, and whether that is filled."""


def regimes_and_ensembles_data(run: Run) -> pd.DataFrame:
    """`analysis.regimes.regime_table` of each headline set beside the usual arms.

    Empty where there is one regime only, and no snapshot.
    """
    table = regime_table(without_controls(headline_networks(run)))
    return table if has_regimes(table) else table.head(0)


def regimes_and_ensembles(data: pd.DataFrame) -> Figure:
    """Regimes from top to bottom, accuracy from left to right; a row of panels for each arm, a panel for each width."""
    from matplotlib.lines import Line2D

    shown = list(panels(data, _SET))
    widths = max(len(rows["width"].unique()) for _, rows in shown)
    regimes = list(dict.fromkeys(data["regime"]))
    each = 0.24 * len(regimes) + 0.35
    heights = [each * rows["arm"].nunique() + 1.1 for _, rows in shown]
    heights[-1] += 0.3
    with look():
        figure, parts = stacked([title for title, _ in shown], heights, width=max(6.4, 1.6 + 2.0 * widths))
        for part, (_, rows) in zip(parts, shown, strict=True):
            arms, columns = arm_order(rows["arm"]), sorted(rows["width"].unique())
            grid = part.subplots(len(arms), len(columns), squeeze=False, sharex=True, sharey=True)
            for line, arm in zip(grid, arms, strict=True):
                for axes, width in zip(line, columns, strict=True):
                    _panel(axes, rows[(rows["arm"] == arm) & (rows["width"] == width)], arm, regimes)
                line[0].set_ylabel(arm, rotation=0, ha="right", va="center", labelpad=8)
            for axes, width in zip(grid[0], columns, strict=True):
                axes.set_title(f"width {width}")
            grid[-1, len(columns) // 2].set_xlabel(f"{rows['split'].iloc[0]} accuracy [%]")
        handles = []
        for name, (words, mark, filled) in _SHOWN.items():
            if data[name].notna().any():
                face = INK if filled else "white"
                handles.append(Line2D([], [], color=INK, linestyle="", marker=mark, markerfacecolor=face, label=words))
        parts[-1].legend(handles=handles, loc="outside lower right", ncols=len(handles))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, arm: str, regimes: list[str]) -> None:
    colour = arm_colour(arm)
    plain = rows[rows["regime"] == rows["plain"]]
    if len(plain):
        axes.axvline(100 * float(plain["accuracy"].iloc[0]), color=FAINT, linewidth=1.0, linestyle=(0, (2, 2)))
    for place, (name, (_, mark, filled)) in enumerate(_SHOWN.items()):
        own = rows[rows[name].notna()]
        y = np.array([regimes.index(regime) for regime in own["regime"]]) + 0.22 * (place - 1)
        x, low, high = (100 * own[f"{name}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        ends = np.maximum(np.nan_to_num(np.stack([x - low, high - x])), 0)
        axes.errorbar(
            x, y, xerr=ends, color=colour, marker=mark, markerfacecolor=colour if filled else "white", markersize=4.5,
            linestyle="", elinewidth=1.1,
        )  # fmt: skip
    axes.set_yticks(range(len(regimes)), regimes)
    axes.set_ylim(len(regimes) - 0.45, -0.55)
    axes.grid(axis="x", color=FAINT, alpha=0.25, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
