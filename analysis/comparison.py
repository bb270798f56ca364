"""Gradient against evolution at equal budgets: best so far against inner steps and against seconds, and final sets.

A trial's best so far is a step function: it changes only where the search recorded a value.  The methods are compared
up to the smaller of their two budgets, that of a method being that of its longest trial.  A trial that ended earlier
keeps its best; ``carried`` counts such trials.  Intervals are over trials, so they hold both chance and what the
sampler varied between trials; a method with one trial has no interval.

A best so far is the highest of noisy probes, above what its set is worth, and the more so the more probes there were.
What a trial delivers is the set after its last step; `final_sets` compares those, on networks of their own.

Outer losses are not compared: evolution's is that of the best candidate, a minimum over a noisy population, while the
gradient's is the mean of one set, so that their difference would favour evolution by construction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.cross_size import SIZE
from analysis.function_space import (
    TYPE,
    curve_distances,
    curve_points,
    mean_density,
    measured_distances,
    set_distance,
)
from analysis.load import Run, counted_attempts
from analysis.merit import LOSS, metric_of
from analysis.paired import AGAINST, paired_columns
from analysis.sets import CONDITIONS, METHODS, headline_sets, judged, judging_regime, of_sets, regime_of
from analysis.settings import pooling_sentence, regressions
from analysis.statistics import ENDS, Interval, Vector, difference_of_means, mean_intervals, pair
from analysis.words import condition_words, count, number, percent, points, seconds, size_words, varying

BUDGETS: Final = {"inner_steps_total": "inner steps", "wall_seconds": "seconds"}
"""Columns of the steps table by which budgets are measured, and their units."""

PROBES: Final = (
    "A best so far is the highest of noisy probes, more than what a trial delivers: the set after its last step"
)
"""What a reader of values at equal budgets must know."""

LEARNED_AND_JUDGED: Final = ["learned_on", *CONDITIONS]
"""Columns of final sets that say on which task they were learned, and under which conditions they are compared."""

_CURVE_COLUMNS: Final = [
    "task", "budget_kind", "metric", "method", "budget", "value", "low", "high", "trials",
]  # fmt: skip
_EQUAL_COLUMNS: Final = [
    "task", "budget_kind", "measure", "budget",
    *(f"{method}{end}" for method in METHODS for end in (*ENDS, "_trials", "_carried")),
    *(f"difference{end}" for end in ENDS), "interval",
]  # fmt: skip
_FINAL_COLUMNS: Final = [
    "learned_on", *SIZE, "mixing", *(f"{method}_trial" for method in METHODS), *METHODS,
    *(f"difference{end}" for end in ENDS), *AGAINST,
]  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Gradient against evolution.

    Attributes:
        equal_budget: the best so far at the largest budget that both methods reached, and gradient minus evolution;
            ``measure`` is accuracy, or skill where the task is a regression.
        final_sets: of each task the best set of each method that was learned on it (by validation score), on judging
            rows, paired by seed.
        sentences: the same in words.
    """

    equal_budget: pd.DataFrame
    final_sets: pd.DataFrame
    sentences: tuple[str, ...]


def compare(*runs: Run) -> Comparison:
    """Compare the two methods over all trials of the given runs, and say if they were told different things.

    Raises:
        ValueError: no run is given, or one is given twice.
    """
    if not runs:
        raise ValueError("compare needs at least one run, but got none; give the folders of the runs to compare.")
    ids = [str(run.info.get("run_id", run.path)) for run in runs]
    if len(set(ids)) < len(ids):
        raise ValueError(f"compare needs different runs, but got {', '.join(ids)}; give each run once.")
    steps = pd.concat([counted_attempts(run.steps, run.trials) for run in runs], ignore_index=True)
    by_loss = regressions(runs)
    equal = pd.concat([equal_budget(steps, budget, by_loss) for budget in BUDGETS], ignore_index=True)
    best = best_sets(runs)
    networks = pd.concat([judged(run.evaluations) for run in runs], ignore_index=True)
    finals = final_sets(networks, best)
    pooled = pooling_sentence(runs)
    sentences = (
        *([pooled] if pooled else []),
        *_missing_methods(steps),
        *_equal_sentences(equal),
        *_final_sentences(finals),
        *_judged_by_loss(runs),
        *_distance_sentences(runs, networks, best, finals),
    )
    return Comparison(equal, finals, sentences)


def best_so_far(steps: pd.DataFrame, budget: str, metric: str) -> pd.DataFrame:
    """Every recorded value of each trial with the best up to it: columns of the trial, ``budget``, ``best``.

    Args:
        steps: rows of the steps table, one attempt of each trial.
        budget: a key of `BUDGETS`.
        metric: ``val_accuracy``, of which the highest is the best, or ``outer_loss``, of which the lowest is.
    """
    trial = ["task", "method", "run_id", "trial_id"]
    rows = steps.dropna(subset=[metric, budget]).sort_values([*trial, "step"])
    best = rows.groupby(trial)[metric]
    rows = rows.assign(best=best.cummax() if metric == "val_accuracy" else best.cummin(), budget=rows[budget])
    return rows[[*trial, "step", "budget", "best"]].astype({"budget": "float64"}).reset_index(drop=True)


def budget_curves(steps: pd.DataFrame, budget: str, metric: str, *, points_on_grid: int = 200) -> pd.DataFrame:
    """Mean best so far of each method on a grid up to the common budget, with intervals over trials.

    The value is empty at budgets at which a trial of the method has not recorded anything yet.
    """
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    for task, rows in best_so_far(steps, budget, metric).groupby("task"):
        grid = np.linspace(0.0, _common_budget(rows), points_on_grid)
        for method, own in rows.groupby("method"):
            values = _on_grid(own, grid)
            for place, at in enumerate(grid):
                record = {"task": task, "budget_kind": budget, "metric": metric, "method": method, "budget": at}
                records.append(record | {"trials": len(values)})
                column = values[:, place]
                samples.append(column if np.isfinite(column).all() else column[:0])
    for record, estimate in zip(records, mean_intervals(samples), strict=True):
        record |= {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return pd.DataFrame.from_records(records, columns=_CURVE_COLUMNS)


def equal_budget(steps: pd.DataFrame, budget: str, by_loss: Collection[str] = ()) -> pd.DataFrame:
    """Best validation accuracy or skill so far of both methods at the largest budget that both reached.

    One row per task, with their unpaired difference.

    Args:
        steps: as for `best_so_far`.
        budget: a key of `BUDGETS`.
        by_loss: tasks that are regressions.
    """
    records = []
    for task, rows in best_so_far(steps, budget, "val_accuracy").groupby("task"):
        if set(METHODS) - set(rows["method"]):
            continue
        common = _common_budget(rows)
        measure = "skill" if task in by_loss else "accuracy"
        record: dict[str, Any] = {"task": task, "budget_kind": budget, "measure": measure, "budget": common}
        values: dict[str, Vector] = {}
        for method in METHODS:
            own = rows[rows["method"] == method]
            # A trial without a record up to there has no value to compare.
            found = _on_grid(own, np.array([common]))[:, 0]
            values[method] = found[np.isfinite(found)]
            ends = own.groupby(["run_id", "trial_id"])["budget"].max()
            record |= {f"{method}_trials": len(values[method]), f"{method}_carried": int((ends < common).sum())}
        for method, estimate in zip(METHODS, mean_intervals([values[name] for name in METHODS]), strict=True):
            record |= estimate.columns(method)
        difference = difference_of_means(values["gradient"], values["evolution"])
        records.append(record | difference.columns("difference") | {"interval": str(difference.interval)})
    return pd.DataFrame.from_records(records, columns=_EQUAL_COLUMNS)


def best_sets(runs: Sequence[Run]) -> pd.DataFrame:
    """Of each task, ``learned_on``, and method the headline set with the highest score in any of the runs.

    Scores of different tasks are different things, a skill where it is a regression.
    """
    sets = [headline_sets(run).assign(learned_on=next(iter(run.tasks), "")) for run in runs]
    best = pd.concat(sets, ignore_index=True).sort_values("score", ascending=False, kind="stable")
    return best.drop_duplicates(["learned_on", "method"])


def final_sets(rows: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """The mix of the best sets at every size, gradient against evolution, paired by seed.

    Seeds pair only if both networks were trained under the same conditions; the mean accuracies are over the pairs.

    Args:
        rows: of the evaluations tables of the compared runs, those that judge.
        best: the `best_sets` of these runs.
    """
    alike = (rows["arm"] == "mixed") & rows["accuracy"].notna() & (regime_of(rows) == judging_regime(rows))
    chosen = best[["run_id", "trial_id", "learned_on"]]
    mixed = rows[alike].merge(chosen, on=["run_id", "trial_id"])
    place = ["learned_on", *SIZE, "mixing"]
    records = []
    found = []
    for key, group in mixed.groupby(place, dropna=False):
        own = {str(method): part.set_index("seed") for method, part in group.groupby("method")}
        if set(METHODS) - set(own):
            continue
        pairs = pair(*(own[method]["accuracy"] for method in METHODS))
        common = own["gradient"].index.intersection(own["evolution"].index)
        record: dict[str, Any] = dict(zip(place, key, strict=True))
        for method in METHODS:
            record[f"{method}_trial"] = own[method]["trial_id"].iloc[0]
            record[method] = own[method].loc[common, "accuracy"].mean() if len(common) else float("nan")
        records.append(record)
        found.append(("difference", pairs))
    filled = [record | own for record, own in zip(records, paired_columns(found, prefixed=False), strict=True)]
    return pd.DataFrame.from_records(filled, columns=_FINAL_COLUMNS)


def budget_words(kind: str, budget: float) -> str:
    """A budget with its unit."""
    return seconds(budget) if kind == "wall_seconds" else f"{number(budget, 0)} {BUDGETS[kind]}"


def _common_budget(rows: pd.DataFrame) -> float:
    return float(rows.groupby("method")["budget"].max().min())


def _on_grid(rows: pd.DataFrame, grid: Vector) -> Vector:
    """Best so far of each trial at each budget of the grid, shape (trials, grid); NaN before its first record."""
    curves = []
    for _, trial in rows.groupby(["run_id", "trial_id"]):
        reached = trial["budget"].to_numpy(float)
        place = np.searchsorted(reached, grid, side="right") - 1
        best = trial["best"].to_numpy(float)
        curves.append(np.where(place >= 0, best[np.maximum(place, 0)], np.nan))
    return np.stack(curves)


def _missing_methods(steps: pd.DataFrame) -> Iterator[str]:
    missing = [method for method in METHODS if method not in set(steps["method"])]
    if missing:
        yield f"There are no recorded steps of {' and '.join(missing)}: there is nothing to compare at equal budget."


def _equal_sentences(table: pd.DataFrame) -> Iterator[str]:
    several = len(table["task"].unique()) > 1
    for row in table.to_dict("records"):
        task = f" ({row['task']})" if several else ""
        where = f"At {budget_words(row['budget_kind'], row['budget'])} per trial{task}"
        silent = [method for method in METHODS if row[f"{method}_trials"] == 0]
        if silent:
            yield f"{where}, {' and '.join(silent)} had not recorded any validation {row['measure']} yet."
            continue
        means = ", ".join(f"{method} {percent(row[method])} %" for method in METHODS)
        yield f"{where}, mean best validation {row['measure']}: {means}; {_told_apart(row, _trial_counts(row))}."
    if len(table):
        yield f"{PROBES}."


def _final_sentences(table: pd.DataFrame) -> Iterator[str]:
    said = varying(table, LEARNED_AND_JUDGED)
    for _, rows in table.groupby(LEARNED_AND_JUDGED, dropna=False):
        first = rows.iloc[0]
        names = f"gradient ({first['gradient_trial']}) and evolution ({first['evolution_trial']})"
        where = f", {condition_words(first, said)}" if said else ""
        parts = []
        for row in rows.to_dict("records"):
            evidence = count(row["pairs"], "seed") + (f", {row['lost']} without a partner" if row["lost"] else "")
            parts.append(f"{size_words(row)}: {_told_apart(row, evidence)}")
        yield f"Final sets, {names}{where}, on {first['split']} rows: {'; '.join(parts)}."


def _judged_by_loss(runs: Sequence[Run]) -> Iterator[str]:
    """Networks without an accuracy are in none of these tables."""
    if any((metric_of(run.evaluations) == LOSS).any() for run in runs):
        yield "Final sets judged by loss are not compared here; `ldnn passport` holds each of them against its rivals."


def _distance_sentences(
    runs: Sequence[Run], networks: pd.DataFrame, best: pd.DataFrame, finals: pd.DataFrame
) -> Iterator[str]:
    """How far apart the two sets that are compared are, as functions."""
    rows = pd.concat([counted_attempts(run.activations, run.trials) for run in runs], ignore_index=True)
    rows = rows[rows["final"].fillna(value=False).astype(bool)]
    mixed = networks[networks["arm"] == "mixed"]
    columns = ["learned_on", *(f"{method}_trial" for method in METHODS)]
    for learned_on, *trials in finals[columns].drop_duplicates().itertuples(index=False):
        sets = best[best["learned_on"] == learned_on]
        own = curve_points(of_sets(rows, sets), TYPE)
        sizes = own[["trial_id", "type_index"]].drop_duplicates()["trial_id"].value_counts().tolist()
        if len(sizes) != len(METHODS) or len(set(sizes)) != 1:  # without curves, or with unequal numbers of types
            continue
        distance = number(set_distance(curve_distances(own), *trials), 2)
        density = mean_density(of_sets(mixed, sets))
        here = ""
        if density is not None:
            measured = number(set_distance(measured_distances(own, density), *trials), 2)
            here = f", and by {measured} where the pre-activations of their networks lie"
        yield (
            f"The functions of {' and '.join(trials)} differ by {distance} (root mean square under a standard normal, "
            f"types matched as well as can be){here}."
        )


def _trial_counts(row: dict[Any, Any]) -> str:
    return " and ".join(count(row[f"{method}_trials"], "trial") for method in METHODS)


def _told_apart(row: dict[Any, Any], evidence: str) -> str:
    value, low, high = (row[f"difference{end}"] for end in ENDS)
    if pd.isna(value):
        return f"no difference can be given ({evidence})"
    words = f"difference {points(value, low, high, signed=True)} points ({evidence})"
    if row["interval"] == Interval.NONE:
        return f"{words}, no interval, because one of them has a single value"
    if row["interval"] == Interval.FEW:
        return f"{words}, too few for a claim"
    if low > 0 or high < 0:
        return f"{words}, {'gradient' if low > 0 else 'evolution'} is better"
    return f"{words}, no clear difference"
