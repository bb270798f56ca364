"""What one objective costs in another: the trials of a search for several objectives, and its Pareto set."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import pandas as pd

from analysis.figures.networks import score_measures
from analysis.load import Run
from analysis.pareto import objectives_of, pareto_front, pareto_table
from analysis.sets import METHODS
from analysis.style import FAINT, METHOD_COLOURS, Axes, Figure, canvas, horizontal_grid, look
from search.schema import OBJECTIVES

OBJECTIVE_LABELS: Final = {
    "score": "{measure} [%]",
    "cross_size_drop": "cross-size drop [points]",
    "num_params": "weights and biases",
    "flatness": "Hessian trace per parameter",
}
"""Objective → its label; ``measure`` is what the score is."""
_FACTORS: Final = {"score": 100.0, "cross_size_drop": 100.0}
_MARKERS: Final = {"gradient": "o", "evolution": "s"}


def pareto_set_data(run: Run) -> pd.DataFrame:
    """One row per trial and pair of objectives.

    Columns: ``method``, ``trial_id``, ``x_objective``, ``y_objective``, ``x``, ``y``, ``front`` (in the Pareto set of
    all objectives), ``pair_front`` (in that of these two) and ``measure`` (what the score is).
    """
    rows = pareto_table(run)
    tasks = rows["trial_id"].map(run.trials.drop_duplicates("trial_id").set_index("trial_id")["task"])
    rows = rows.assign(measure=score_measures(run, tasks))
    parts = []
    for second, first in combinations(objectives_of(run), 2):
        pair = rows[[first, second]].to_numpy(float)
        part = rows[["method", "trial_id", "front", "measure"]].assign(
            x_objective=first, y_objective=second, x=pair[:, 0], y=pair[:, 1]
        )
        part["pair_front"] = pareto_front(pair, [OBJECTIVES[first], OBJECTIVES[second]])
        parts.append(part)
    columns = ["method", "trial_id", "x_objective", "y_objective", "x", "y", "front", "pair_front", "measure"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def pareto_set(data: pd.DataFrame) -> Figure:
    """A panel per pair of objectives: trials faint, the Pareto set strong, the front of the pair as a line."""
    pairs = list(dict.fromkeys(zip(data["x_objective"], data["y_objective"], strict=True)))
    columns = min(len(pairs), 2)
    lines = -(-len(pairs) // columns)
    with look():
        figure, grid = canvas(lines, columns, width=0.8 + 3.0 * columns, height=0.6 + 2.8 * lines)
        for axes, (first, second) in zip(grid.flat, pairs, strict=False):
            _panel(axes, data[(data["x_objective"] == first) & (data["y_objective"] == second)], first, second)
        for axes in list(grid.flat)[len(pairs) :]:
            axes.set_axis_off()
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, first: str, second: str) -> None:
    x, y = rows["x"] * _FACTORS.get(first, 1.0), rows["y"] * _FACTORS.get(second, 1.0)
    line = rows.assign(x=x, y=y)[rows["pair_front"]].sort_values(["x", "y"])
    axes.plot(line["x"], line["y"], color=FAINT, linewidth=1.0, drawstyle=_drawstyle(first, second), zorder=1)
    for method in METHODS:
        own = rows["method"] == method
        if own.any():
            style: dict[str, Any] = {"color": METHOD_COLOURS[method], "marker": _MARKERS[method], "linewidth": 0}
            axes.plot(x[own & ~rows["front"]], y[own & ~rows["front"]], alpha=0.3, markersize=4, **style)
            axes.plot(
                x[own & rows["front"]], y[own & rows["front"]], markersize=7, label=f"{method}, in the set", **style
            )
    measure = " or ".join(rows["measure"].unique())
    axes.set_xlabel(OBJECTIVE_LABELS[first].format(measure=measure))
    axes.set_ylabel(OBJECTIVE_LABELS[second].format(measure=measure))
    axes.locator_params(axis="x", nbins=5)  # small numbers have long names
    horizontal_grid(axes)


def _drawstyle(first: str, second: str) -> str:
    """Steps through points that some trial is at least as good as; a straight line would promise better ones."""
    return "steps-post" if OBJECTIVES[first] == "min" else "steps-pre"
