"""How the mix's advantage changes with width: the question of the project in one picture."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.cross_size import RIVALS, cross_size_table
from analysis.figures.networks import panels
from analysis.judgement import judge
from analysis.load import Run
from analysis.sets import headline_sets, judging_split, of_sets
from analysis.style import FAINT, RIVAL_COLOURS, Axes, Figure, canvas, horizontal_grid, look
from search.schema import USUAL_TRIAL

_LABELS: Final = {"relu": "mixed – ReLU", "best_pure": "mixed – best pure type", "best_usual": "mixed – best usual"}
_MARKERS: Final = {"relu": "o", "best_pure": "s", "best_usual": "^"}
_PANEL: Final = ["trial_id", "task", "architecture", "mixing", "lr_protocol", "depth"]


def advantage_by_width_data(run: Run) -> pd.DataFrame:
    """Paired difference of the mix of each method's headline set to its rivals, one row per size and rival."""
    sets, rows = headline_sets(run), run.evaluations
    # Only what is drawn is resampled: a run may hold many more sets.
    wanted = pd.concat([of_sets(rows, sets), rows[rows["trial_id"] == USUAL_TRIAL]])
    table = judge(cross_size_table(wanted, split=judging_split(rows)), sets)
    rows = table[table["headline"] & table["difference"].notna()]
    columns = [*_PANEL, "method", "width", "learned_width", "learned_depth", "rival", "rival_arm"]
    return rows[[*columns, "difference", "low", "high", "pairs"]].reset_index(drop=True)


def advantage_by_width(data: pd.DataFrame) -> Figure:
    """Advantage of the mix against width on a logarithmic axis, with intervals, one panel per set."""
    shown = list(panels(data, _PANEL))
    with look():
        figure, grid = canvas(len(shown), height=0.7 + 2.9 * len(shown), sharex=True, sharey=True)
        for axes, (title, rows) in zip(grid[:, 0], shown, strict=True):
            axes.set_title(title)
            axes.set_ylabel("advantage of the mix\n[percentage points]")
            _panel(axes, rows)
        grid[-1, 0].set_xlabel("width [neurons per hidden layer]")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    horizontal_grid(axes)
    axes.axhline(0, color=FAINT, linewidth=1.2)
    widths = sorted(int(width) for width in rows["width"].unique())
    place: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    for index, learned in enumerate(sorted(float(width) for width in rows["learned_width"].dropna().unique())):
        axes.axvline(learned, color=FAINT, linewidth=1.0, linestyle=(0, (2, 2)))
        if index == 0:
            axes.annotate("learned here", (learned, 1.0), (4, -4), va="top", fontsize=8.5, color="#606060", **place)
    for slot, rival in enumerate(RIVALS):
        own = rows[rows["rival"] == rival].sort_values("width")
        # Side by side, so that intervals do not cover each other.
        x = own["width"].to_numpy(float) * 1.025 ** (slot - 1)
        y, low, high = (100 * own[column].to_numpy(float) for column in ("difference", "low", "high"))
        ends = np.nan_to_num(np.stack([y - low, high - y]))
        axes.errorbar(
            x, y, np.maximum(ends, 0), color=RIVAL_COLOURS[rival], marker=_MARKERS[rival], markersize=5, capsize=2.5,
            linewidth=1.4, elinewidth=1.1, label=_LABELS[rival],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
