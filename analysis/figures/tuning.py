"""What the sampler varied: which of it mattered, and how the score depends on it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.figures.networks import score_measures
from analysis.importance import FEWEST_BEST, importances, sampled_values
from analysis.load import Run
from analysis.sets import METHODS
from analysis.style import FAINT, METHOD_COLOURS, Axes, Figure, canvas, horizontal_grid, look, round_ticks

_LABELS: Final = {
    "inner_lr": "learning rate\nof the inner loop",
    "outer_lr": "learning rate\nof the outer loop",
    "mutation_scale": "mutation scale\n[initial bounds]",
    "width": "width [neurons\nper hidden layer]",
    "num_types": "types in a set, K",
    "base": "base function",
}
_IN_A_ROW: Final = 3


def parameter_importance_data(run: Run) -> pd.DataFrame:
    """Share of each sampled parameter in the importance (PED-ANOVA), per method that has enough trials."""
    return importances(run)


def parameter_importance(data: pd.DataFrame) -> Figure:
    """Bars of importance, the longest first, a panel for each method."""
    methods = [method for method in METHODS if method in set(data["method"])]
    most = data.groupby("method").size().max()
    with look():
        figure, grid = canvas(
            1, len(methods), width=max(4.4, 3.2 * len(methods)), height=1.2 + 0.42 * most, sharex=True
        )
        for axes, method in zip(grid[0], methods, strict=True):
            own = data[data["method"] == method].sort_values("importance", ascending=False)
            axes.barh(range(len(own)), 100 * own["importance"], color=METHOD_COLOURS[method], height=0.6)
            for place, share in enumerate(own["importance"]):
                where: dict[str, Any] = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
                axes.annotate(f"{100 * share:.0f} %", (100 * share, place), (4, 0), **where)
            axes.set_yticks(range(len(own)), own["parameter"])
            axes.set_ylim(len(own) - 0.4, -0.6)
            axes.set_xlim(0, 100)
            axes.set_xticks(range(0, 101, 25))
            axes.set_xlabel("share of the importance [%]")
            axes.set_title(f"{method}, {own['trials'].iloc[0]} trials")
    return figure


def score_slices_data(run: Run) -> pd.DataFrame:
    """Sampled values and scores of all trials, without parameters that had the same value in all trials of a method.

    ``measure`` says what the score is.
    """
    values = sampled_values(run)
    varied = values.groupby(["method", "parameter"])["value"].transform(lambda own: len(set(own)) > 1)
    rows = values[varied.astype(bool)] if len(values) else values
    space = (run.config.get("search") or {}).get("space") or {}
    logs = {name: bool(isinstance(entry, dict) and entry.get("log")) for name, entry in space.items()}
    tasks = rows["trial_id"].map(run.trials.drop_duplicates("trial_id").set_index("trial_id")["task"])
    rows = rows.assign(log=[logs.get(name, False) for name in rows["parameter"]], measure=score_measures(run, tasks))
    return rows.reset_index(drop=True)


def score_slices(data: pd.DataFrame) -> Figure:
    """Score against each sampled parameter, each trial a dot, the later the darker; each method's best has a ring."""
    drawn = data.drop_duplicates(["method", "parameter"])
    shown = [(m, p) for m in METHODS for p in _LABELS | dict.fromkeys(drawn["parameter"]) if _holds(drawn, m, p)]
    columns = len(shown) if len(shown) < _IN_A_ROW else 2 if len(shown) == 4 else _IN_A_ROW
    lines = -(-len(shown) // columns)
    with look():
        figure, grid = canvas(lines, columns, width=0.8 + 2.2 * columns, height=0.3 + 2.5 * lines, sharey=True)
        for axes, (method, parameter) in zip(grid.flat, shown, strict=False):
            _slice(axes, data[(data["method"] == method) & (data["parameter"] == parameter)], method)
            axes.set_xlabel(_LABELS.get(parameter, parameter))
            axes.set_title(method, color=METHOD_COLOURS[method], fontweight="bold", fontsize=9.5)
            horizontal_grid(axes)
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel(f"{' or '.join(data['measure'].unique())} [%]")
    return figure


def _slice(axes: Axes, rows: pd.DataFrame, method: str) -> None:
    is_word = isinstance(rows["value"].iloc[0], str)
    words = sorted(set(rows["value"])) if is_word else []
    x = np.array([words.index(value) if is_word else value for value in rows["value"]], dtype=np.float64)
    y = 100 * rows["score"].to_numpy(float)
    order = rows["number"].to_numpy(float)
    shades = 0.3 + 0.6 * (order - order.min()) / max(np.ptp(order), 1.0)
    style: dict[str, Any] = {"color": METHOD_COLOURS[method], "marker": "o", "linewidth": 0, "markeredgewidth": 0}
    for at, height, shade in zip(x, y, shades, strict=True):
        axes.plot([at], [height], markersize=5.5, alpha=float(shade), **style)
    best = int(np.argmax(y))
    axes.plot(
        [x[best]], [y[best]], "o", markersize=11, markerfacecolor="none", markeredgecolor=FAINT, markeredgewidth=1.4
    )
    if is_word:
        axes.set_xticks(range(len(words)), words)
        axes.set_xlim(-0.5, len(words) - 0.5)
    elif rows["log"].iloc[0]:
        round_ticks(axes.xaxis, float(x.min()) / 1.15, float(x.max()) * 1.15, at_most=4)
    else:
        axes.locator_params(axis="x", nbins=5)


def _holds(rows: pd.DataFrame, method: str, parameter: str) -> bool:
    return bool(((rows["method"] == method) & (rows["parameter"] == parameter)).any())


BEST_WORDS: Final = f"the best tenth of the trials, at least {FEWEST_BEST}"
"""What the importance is about, for captions."""
