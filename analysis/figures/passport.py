"""The scale passport as a heat map: the mix's advantage over every rival at every size."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.networks import panels
from analysis.load import Run
from analysis.merit import ACCURACY
from analysis.passport import Passport
from analysis.passport_label import Standing
from analysis.passport_table import headline_passports
from analysis.style import INK, Axes, Figure, canvas, look

_PANEL: Final = ["trial_id", "task", "architecture"]
_COLUMNS: Final = [
    *_PANEL, "method", "label", "metric", "depth", "width", "is_learned", "rival", "rival_arm", "advantage", "low",
    "high", "standing", "collapses",
]  # fmt: skip
_MARKS: Final = {Standing.BETTER: "▲", Standing.WORSE: "▼", Standing.NO_ADVANTAGE: "="}
_CELL: Final = (1.25, 0.5)
"""Width and height of a cell in inches: two lines of text."""


def scale_passport_data(run: Run) -> pd.DataFrame:
    """One row per headline set, size and rival that could be compared."""
    return passport_heat_data(*headline_passports(run)[0])


def passport_heat_data(*passports: Passport) -> pd.DataFrame:
    """The same for passports that there are already; ``label`` is empty where there is none."""
    parts = [
        passport.grid.assign(
            trial_id=passport.trial_id, method=passport.method, label="" if passport.label is None else passport.label
        )
        for passport in passports
    ]
    if not parts:
        return pd.DataFrame(columns=_COLUMNS)
    rows = pd.concat(parts, ignore_index=True)
    return rows.loc[rows["advantage"].notna(), _COLUMNS].reset_index(drop=True)


def scale_passport_figure(data: pd.DataFrame) -> Figure:
    """A panel per set, task and kind of network, widths from left to right, depths and rivals from top to bottom."""
    shown = list(panels(data, _PANEL))
    lines = [len(rows[["depth", "rival"]].drop_duplicates()) for _, rows in shown]
    widths = max(len(rows["width"].unique()) for _, rows in shown)
    height = sum(lines) * _CELL[1] + 0.75 * len(shown) + 0.55
    with look():
        width = max(7.2, 1.9 + _CELL[0] * widths)
        figure, grid = canvas(len(shown), width=width, height=height, height_ratios=lines)
        for axes, (title, rows) in zip(grid[:, 0], shown, strict=True):
            axes.set_title(f"{title}: {rows['label'].iloc[0] or 'no label'}")
            _heat(axes, rows)
        grid[-1, 0].set_xlabel(f"width [neurons per hidden layer]   {_legend(data)}")
    return figure


def _legend(data: pd.DataFrame) -> str:
    meanings = {mark: str(standing) for standing, mark in _MARKS.items() if standing in set(data["standing"])}
    return "   ".join(f"{mark} {meaning}" for mark, meaning in meanings.items())


def _heat(axes: Axes, rows: pd.DataFrame) -> None:
    from matplotlib.patches import Rectangle

    widths = sorted(int(width) for width in rows["width"].unique())
    by_depth = rows.sort_values("depth", kind="stable")
    lines = list(dict.fromkeys(zip(by_depth["depth"], by_depth["rival"], strict=True)))
    values = np.full((len(lines), len(widths)), np.nan)
    cells: dict[tuple[int, int], dict[Any, Any]] = {}
    for row in rows.to_dict("records"):
        place = (lines.index((row["depth"], row["rival"])), widths.index(int(row["width"])))
        values[place] = 100 * row["advantage"]
        cells[place] = row
    # Colours are as strong for a gain as for a loss; a collapse does not bleach the rest.
    sound = [abs(values[place]) for place, row in cells.items() if not row["collapses"]]
    reach = max([1.0, *sound])
    axes.imshow(values, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    for (line, column), row in cells.items():
        dark = abs(100 * row["advantage"]) > 0.6 * reach
        axes.text(
            column, line, _words(row), ha="center", va="center", fontsize=8, color="white" if dark else INK,
            linespacing=1.15,
        )  # fmt: skip
        if row["is_learned"]:
            axes.add_patch(
                Rectangle((column - 0.5, line - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.6, zorder=3)
            )
    axes.set_xticks(range(len(widths)), [str(width) for width in widths])
    depths = [depth for depth, _ in lines]
    for line in range(1, len(lines)):
        if depths[line] != depths[line - 1]:
            axes.axhline(line - 0.5, color="white", linewidth=3, zorder=1.5)
    several_depths = len(set(depths)) > 1
    names = [f"{rival}, depth {depth}" if several_depths else str(rival) for depth, rival in lines]
    axes.set_yticks(range(len(lines)), names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    unit = "percentage points" if rows["metric"].iloc[0] == ACCURACY else "log points of loss"
    axes.set_ylabel(f"mixed against\n[{unit}]")


def _words(row: dict[Any, Any]) -> str:
    mark = _MARKS.get(row["standing"], "")
    head = f"{_rounded(row['advantage']):+.1f} {mark}".rstrip()
    tail = "collapse" if row["collapses"] else ""
    if not tail and pd.notna(row["low"]):
        tail = f"[{_rounded(row['low']):.1f}, {_rounded(row['high']):.1f}]"
    return f"{head}\n{tail}".rstrip()


def _rounded(value: float) -> float:
    # Adding zero turns minus zero into zero.
    return round(100 * value, 1) + 0.0
