"""What a network is judged by, as one number that is better high, whatever the task: its *merit*.

Where the column ``metric`` says accuracy (or is empty, as in rows of an earlier schema) the merit is the accuracy.
Where it says loss, the merit is minus the natural logarithm of the loss: a difference of merits is then the logarithm
of a ratio of losses, which means the same at every size and in every task (0.1: a loss about 10 % lower), while a
difference of losses is largest where networks are worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

ACCURACY: Final = "accuracy"
LOSS: Final = "loss"

CHANCE: Final[dict[str, float]] = dict.fromkeys(("mnist1d", "digits", "mnist", "fashion_mnist", "cifar10"), 0.1)
"""Accuracy of a guess in each task known here, by its name."""

ABOVE_CHANCE: Final = 0.05
"""How far from a guess to perfection a network may have come and still be at chance level."""


def metric_of(evaluations: pd.DataFrame) -> pd.Series[Any]:
    """``accuracy`` or ``loss`` for every row."""
    if "metric" not in evaluations:
        return pd.Series(ACCURACY, index=evaluations.index, dtype=object)
    return evaluations["metric"].astype(object).where(evaluations["metric"].notna(), ACCURACY)


def merit_of(evaluations: pd.DataFrame) -> pd.Series[float]:
    """The merit of every row; minus infinity for a diverged network without a value, NaN where nothing was recorded."""
    loss = pd.to_numeric(evaluations["loss"]).to_numpy(float, na_value=np.nan)
    accuracy = pd.to_numeric(evaluations["accuracy"]).to_numpy(float, na_value=np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        merit = np.where(metric_of(evaluations) == LOSS, -np.log(loss), accuracy)
    diverged = evaluations["diverged"].fillna(value=False).to_numpy(bool)
    return pd.Series(np.where(np.isnan(merit) & diverged, -np.inf, merit), index=evaluations.index)


def chance_of(evaluations: pd.DataFrame, names: Mapping[str, str]) -> pd.Series[float]:
    """Accuracy of a guess for every row; NaN where it is not known.

    Args:
        evaluations: rows of the evaluations table.
        names: of tasks, by what tables call them; what is not in it has its name there.
    """
    known = CHANCE | {title: CHANCE.get(name, np.nan) for title, name in names.items()}
    return evaluations["task"].map(known).astype(float)


def collapsed(evaluations: pd.DataFrame) -> pd.Series[bool]:
    """Which networks diverged, or are at chance level: their accuracy is at most `ABOVE_CHANCE` of the way up.

    Where nothing else is known of a task, chance is what its diverged networks have, if there are any.

    Args:
        evaluations: rows of the evaluations table, with ``chance`` or with tasks called by their names.
    """
    diverged = evaluations["diverged"].fillna(value=False).astype(bool)
    known = evaluations["chance"] if "chance" in evaluations else chance_of(evaluations, {})
    guess = known.fillna(evaluations["task"].map(_seen(evaluations[diverged]))).to_numpy(float)
    accuracy = pd.to_numeric(evaluations["accuracy"]).to_numpy(float, na_value=np.nan)
    by_accuracy = (metric_of(evaluations) == ACCURACY).to_numpy(bool)
    return diverged | (by_accuracy & (accuracy <= guess + ABOVE_CHANCE * (1 - guess)))


def _seen(diverged: pd.DataFrame) -> dict[str, float]:
    """Chance by task as diverged networks have it, which are given it as their accuracy."""
    found = diverged.dropna(subset=["accuracy"]).groupby("task")["accuracy"]
    return {str(task): float(values.iloc[0]) for task, values in found if values.min() == values.max()}
