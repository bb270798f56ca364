"""How the search went: best so far of both methods at equal budgets, and learning curves of the outer loop."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from analysis.comparison import BUDGETS, best_so_far, budget_curves
from analysis.figures.networks import score_measures
from analysis.load import Run, counted_attempts
from analysis.sets import METHODS
from analysis.settings import outer_loss_unit
from analysis.style import METHOD_COLOURS, Axes, Figure, canvas, horizontal_grid, look
from analysis.words import count

_LABELS: Final = {"inner_steps_total": "inner steps per trial", "wall_seconds": "time per trial [s]"}
_DASHES: Final = {"gradient": "-", "evolution": (0, (5, 1.5))}


def best_so_far_data(run: Run) -> pd.DataFrame:
    """Best validation accuracy so far against both budgets; ``measure`` says in which tasks it is skill.

    Rows with an empty ``trial_id`` are means over a method's trials with ``low`` and ``high``; the others are the
    recorded values of single trials.
    """
    steps = counted_attempts(run.steps, run.trials)
    parts = []
    for budget in BUDGETS:
        means = budget_curves(steps, budget, "val_accuracy").assign(trial_id="")
        single = best_so_far(steps, budget, "val_accuracy").rename(columns={"best": "value"}).assign(budget_kind=budget)
        parts += [part for part in (means, single) if len(part)]
    columns = ["task", "budget_kind", "method", "trial_id", "budget", "value", "low", "high", "trials"]
    data = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    return data.assign(measure=score_measures(run, data["task"]))


def best_so_far_figure(data: pd.DataFrame) -> Figure:
    """Mean best so far of each method with its band, and each trial as a thin line; one panel per budget."""
    tasks = list(data["task"].unique())
    with look():
        figure, grid = canvas(len(tasks), len(BUDGETS), width=6.4, height=0.8 + 2.9 * len(tasks), sharey=True)
        for axes_row, task in zip(grid, tasks, strict=True):
            for axes, budget in zip(axes_row, BUDGETS, strict=True):
                _budget_panel(axes, data[(data["task"] == task) & (data["budget_kind"] == budget)])
                axes.set_xlabel(_LABELS[budget])
            measure = data.loc[data["task"] == task, "measure"].iloc[0]
            axes_row[0].set_ylabel(f"best {measure}\nso far [%]")
            if len(tasks) > 1:
                axes_row[0].set_title(task)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=2.6)
    return figure


def _budget_panel(axes: Axes, rows: pd.DataFrame) -> None:
    steps: dict[str, Any] = {"where": "post"}
    for method in [name for name in METHODS if name in set(rows["method"])]:
        own, colour = rows[rows["method"] == method], METHOD_COLOURS[method]
        for _, trial in own[own["trial_id"] != ""].groupby("trial_id"):
            axes.step(trial["budget"], 100 * trial["value"], color=colour, alpha=0.3, linewidth=0.8, **steps)
        mean = own[own["trial_id"] == ""].sort_values("budget")
        x, y, low, high = (mean[column].to_numpy(float) for column in ("budget", "value", "low", "high"))
        axes.fill_between(x, 100 * low, 100 * high, step="post", color=colour, alpha=0.18, linewidth=0)
        label = f"{method} ({count(int(mean['trials'].iloc[0]), 'trial')})"
        axes.step(x, 100 * y, color=colour, linestyle=_DASHES[method], linewidth=2.2, label=label, **steps)
    # Beyond the common budget only one method has values, and there is nothing to compare.
    axes.set_xlim(0, 1.02 * rows.loc[rows["trial_id"] == "", "budget"].max() or 1.0)
    horizontal_grid(axes)


def accuracy_by_outer_step_data(run: Run) -> pd.DataFrame:
    """Validation accuracy, or skill, of probes at every recorded step of every trial, whether it rises or falls."""
    steps = counted_attempts(run.steps, run.trials)
    rows = steps.dropna(subset=["val_accuracy"]).sort_values(["method", "trial_id", "step"])
    rows = rows.assign(measure=score_measures(run, rows["task"]))
    return rows[["method", "run_id", "trial_id", "step", "val_accuracy", "measure"]].reset_index(drop=True)


def accuracy_by_outer_step(data: pd.DataFrame) -> Figure:
    """What probes reach against outer step or generation, one panel per method and one line per trial."""
    label = f"{' or '.join(data['measure'].unique())} [%]"
    return _by_step(data, 100 * data["val_accuracy"], label, marker="o", markersize=3.5)


def outer_loss_data(run: Run) -> pd.DataFrame:
    """Outer loss of every trial and outer step, and its unit."""
    steps = counted_attempts(run.steps, run.trials)
    rows = steps.dropna(subset=["outer_loss"]).sort_values(["method", "trial_id", "step"])
    columns = ["method", "run_id", "trial_id", "step", "outer_loss"]
    return rows[columns].assign(unit=outer_loss_unit([run])).reset_index(drop=True)


def outer_loss(data: pd.DataFrame) -> Figure:
    """Outer loss against outer step or generation, one panel per method and one line per trial."""
    return _by_step(data, data["outer_loss"], f"outer loss [{data['unit'].iloc[0]}]")


def _by_step(data: pd.DataFrame, values: pd.Series[Any], label: str, **style: Any) -> Figure:
    methods = [method for method in METHODS if method in set(data["method"])]
    with look():
        figure, grid = canvas(1, len(methods), width=max(4.6, 3.2 * len(methods)), height=3.0, sharey=True)
        for axes, method in zip(grid[0], methods, strict=True):
            lines = list(data[data["method"] == method].groupby(["run_id", "trial_id"]))
            for place, (_, trial) in enumerate(lines):
                fade = 0.45 + 0.5 * place / max(len(lines) - 1, 1)
                colour = METHOD_COLOURS[method]
                axes.plot(trial["step"], values[trial.index], color=colour, alpha=fade, linewidth=1.1, **style)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title(f"{method}, {count(len(lines), 'trial')}")
            axes.set_xlabel("outer step" if method == "gradient" else "generation")
            horizontal_grid(axes)
        grid[0, 0].set_ylabel(label)
    return figure
