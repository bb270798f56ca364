"""The Pareto set of a search for several objectives: the trials that no other trial beats in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.load import Run, counted_attempts
from search.schema import OBJECTIVES, Status


def objectives_of(run: Run) -> tuple[str, ...]:
    """What a run's search optimised; the score alone where its configuration does not say."""
    search = run.config.get("search")
    named = search.get("objectives") if isinstance(search, dict) else None
    return tuple(name for name in named or ("score",) if name in OBJECTIVES)


def pareto_front(values: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Which points no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better; of equal points none does.

    Args:
        values: (points, objectives), finite.
        directions: ``"max"`` or ``"min"`` for each objective.

    Returns:
        (points,) bool.

    Raises:
        ValueError: a direction is neither, there are not as many as objectives, or a value is not finite.
    """
    if set(directions) - {"max", "min"} or values.ndim != 2 or values.shape[1] != len(directions):
        raise ValueError(
            "values (points, objectives) and a direction max or min for each objective are needed, but got the shape "
            f"{values.shape} and ({', '.join(directions)})"
        )
    if not np.isfinite(values).all():
        raise ValueError("the values of a Pareto set must be finite; leave out points that lack one")
    costs = values * np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    is_front = np.zeros(len(costs), dtype=bool)
    # In lexicographic order whatever dominates a point comes before it, and if anything does, so does a front point.
    front = np.empty((0, costs.shape[1]))
    for place in np.lexsort(costs.T[::-1]):
        point = costs[place]
        if not ((front <= point).all(axis=1) & (front < point).any(axis=1)).any():
            is_front[place] = True
            front = np.vstack([front, point])
    return is_front


def pareto_table(run: Run) -> pd.DataFrame:
    """The trials of a run that ended ok and have a value for every objective, of all methods together.

    Returns:
        columns ``run_id``, ``method``, ``trial_id``, one per objective of the run, and ``front``: whether the trial is
        in the Pareto set.  Front first, then best of the first objective first.  Empty for a single objective.
    """
    names = objectives_of(run)
    columns = ["run_id", "method", "trial_id", *names]
    trials = counted_attempts(run.trials, run.trials)
    trials = trials[trials["status"] == Status.OK].dropna(subset=[*names])[columns]
    if len(names) < 2 or trials.empty:
        return trials.head(0).assign(front=pd.Series(dtype=bool))
    values = trials[[*names]].to_numpy(float)
    rows = trials.assign(front=pareto_front(values, [OBJECTIVES[name] for name in names]))
    ascending = [False, *(OBJECTIVES[name] == "min" for name in names), True]
    return rows.sort_values(["front", *names, "trial_id"], ascending=ascending).reset_index(drop=True)


def pareto_sentence(run: Run) -> str | None:
    """How many trials are in the Pareto set, in words; None for a single objective."""
    names = objectives_of(run)
    if len(names) < 2:
        return None
    rows = pareto_table(run)
    directions = {"max": "high", "min": "low"}
    wanted = ", ".join(f"{directions[OBJECTIVES[name]]} {name}" for name in names)
    front = rows.loc[rows["front"], "trial_id"]
    listed = f": {', '.join(front[:8])}{' and others' if len(front) > 8 else ''}" if len(front) else ""
    return f"Pareto set for {wanted}: {len(front)} of {len(rows)} trials that have all values{listed}."
