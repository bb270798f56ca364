"""Which sampled values decided a search: PED-ANOVA (Watanabe, Bansal, Hutter 2023), from the table of trials alone.

The importance of a parameter is the Pearson divergence between two densities of its values: that of the best trials,
and that of all trials, `Σ p_all (p_best / p_all - 1)²`.  A parameter that does not matter has the same values in both.
Densities are Parzen estimates on a grid (Scott's rule, with one prior as wide as the range), as in the paper's program.
It sees each parameter alone and no interactions, and says nothing of values that were never sampled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import ndtr

from analysis.load import Run, counted_attempts
from analysis.statistics import Vector
from search.schema import Status

FEWEST: Final = 20
"""Trials of a method below which no importance is given."""
BEST_SHARE: Final = 0.1
"""Share of the trials that are called the best."""
FEWEST_BEST: Final = 5
"""How many they are at least."""

_CELLS: Final = 50
_TINY: Final = 1e-12


def sampled_values(run: Run) -> pd.DataFrame:
    """What was sampled: one row per trial that ended ok and parameter, with ``value`` and the trial's ``score``."""
    trials = counted_attempts(run.trials, run.trials)
    trials = trials[(trials["status"] == Status.OK) & trials["score"].notna() & trials["copied_from"].isna()]
    columns = ["method", "trial_id", "number", "score", "parameter", "value"]
    records = [
        {name: row[name] for name in columns[:4]} | {"parameter": str(parameter), "value": value}
        for row in trials.to_dict("records")
        for parameter, value in _params(row["params"]).items()
        if isinstance(value, int | float | str)
    ]
    return pd.DataFrame.from_records(records, columns=columns)


def importances(run: Run) -> pd.DataFrame:
    """Per method with at least `FEWEST` trials and parameter: ``importance``, shares that sum to 1, and ``trials``."""
    values = sampled_values(run)
    search = run.config.get("search")
    space = (search.get("space") if isinstance(search, Mapping) else None) or {}
    records = []
    for method, own in values.groupby("method"):
        trials = own["trial_id"].nunique()
        if trials < FEWEST:
            continue
        divergences = {}
        for parameter, rows in own.groupby("parameter"):
            cells, count = _cells(rows["value"].tolist(), space.get(parameter) or {})
            if count > 1:
                scores = rows["score"].to_numpy(float)
                is_number = not isinstance(rows["value"].iloc[0], str)
                divergences[str(parameter)] = divergence(cells, count, scores, ordered=is_number)
        total = sum(divergences.values())
        for parameter, found in divergences.items():
            share = found / total if total > 0 else 1 / len(divergences)
            records.append({"method": method, "parameter": parameter, "importance": share, "trials": trials})
    return pd.DataFrame.from_records(records, columns=["method", "parameter", "importance", "trials"])


def divergence(cells: np.ndarray, count: int, scores: Vector, *, ordered: bool) -> float:
    """Pearson divergence of the best trials' density from that of all.

    Args:
        cells: the cell of the grid in which the value of each trial lies, from 0.
        count: how many cells there are.
        scores: of the trials; high is good.
        ordered: whether neighbouring cells are alike (numbers), or not (choices).
    """
    wanted = max(math.ceil(BEST_SHARE * len(scores)), FEWEST_BEST)
    best = scores >= np.sort(scores)[-min(wanted, len(scores))]
    density = _smooth if ordered else _plain
    top, every = density(cells[best], count) + _TINY, density(cells, count) + _TINY
    return float(every @ np.square(top / every - 1))


def _smooth(cells: np.ndarray, count: int) -> Vector:
    """Parzen estimate on the cells: truncated normals around the values, and one prior around the middle."""
    rising = np.sort(cells).astype(np.float64)
    n = len(rising)
    deviation = math.sqrt(float(np.square(rising - rising.mean()).sum()) / max(1, n - 1))
    between = rising[min(3 * n // 4, n - 1)] - rising[max(n // 4 - 1, 0)]
    width = max(1.059 * min(between / 1.34, deviation) * n**-0.2, 0.5 / 1.64)
    means = np.append(rising, (count - 1) / 2)[:, None]
    widths = np.append(np.full(n, width), float(count))[:, None]
    borders = ndtr((np.arange(count + 1) - 0.5 - means) / widths)
    masses = np.diff(borders, axis=1) / (borders[:, -1:] - borders[:, :1])
    return np.asarray(masses.mean(axis=0))


def _plain(cells: np.ndarray, count: int) -> Vector:
    """Shares of the choices, each trial's choice smoothed by 1 / (different choices seen + 1) for every choice."""
    n = len(cells)
    prior = 1 / (len(np.unique(cells)) + 1)
    masses = np.full((n + 1, count), prior)
    masses[np.arange(n), cells] += 1
    return np.asarray((masses / masses.sum(axis=1, keepdims=True)).mean(axis=0))


def _cells(values: list[Any], entry: Any) -> tuple[np.ndarray, int]:
    """The cell of each value, and how many cells there are: of a range from low to high, or one for each choice."""
    if isinstance(values[0], str) or "choices" in entry:
        choices = list(entry.get("choices") or sorted(set(values), key=str))
        choices += sorted(set(values) - set(choices), key=str)
        return np.array([choices.index(value) for value in values]), len(choices)
    numbers = np.array(values, dtype=np.float64)
    low, high = float(entry.get("low", numbers.min())), float(entry.get("high", numbers.max()))
    if low == high:
        return np.zeros(len(numbers), dtype=np.int64), 1
    if entry.get("log"):
        low, high, numbers = math.log(low), math.log(high), np.log(numbers)
    count = _CELLS
    if entry.get("step"):
        count = min(round((high - low) / float(entry["step"])) + 1, _CELLS)
    places = np.ceil((numbers - low) / ((high - low) / (count - 1)) - 0.5).astype(np.int64)
    return np.clip(places, 0, count - 1), count


def _params(text: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}
