"""Which rows belong together: the sets that were evaluated, the one of each method that is spoken about, the split."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from analysis.load import Run, counted_attempts
from analysis.merit import merit_of
from search.schema import USUAL_TRIAL, Status

SET: Final = ["run_id", "method", "trial_id"]
"""Columns that name one activation set."""

CONDITIONS: Final = ["task", "architecture", "mixing", "lr_protocol"]
"""Columns that say under which conditions, beside size and training regime, networks were judged."""

METHODS: Final = ("gradient", "evolution")
"""The two families of methods, in the order in which they are shown."""

PLAIN: Final = "plain"
"""The training regime in which nothing happens beside optimiser and learning rate."""


def in_order(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A frame sorted by the columns, gradient before evolution, with a new index."""
    places = {method: str(place) for place, method in enumerate(METHODS)}

    def key(values: pd.Series[Any]) -> pd.Series[Any]:
        return values.replace(places) if values.name == "method" else values

    return table.sort_values(columns, kind="stable", key=key).reset_index(drop=True)


def judging_split(evaluations: pd.DataFrame) -> str:
    """The split that verdicts rest on: test rows, or validation rows as long as there are no others."""
    splits = set(evaluations["split"].dropna())
    return "val" if splits == {"val"} else "test"


def regime_of(evaluations: pd.DataFrame) -> pd.Series[Any]:
    """The training regime of every row; `PLAIN` where none is recorded."""
    if "regime" not in evaluations:
        return pd.Series(PLAIN, index=evaluations.index, dtype=object)
    return evaluations["regime"].astype(object).where(evaluations["regime"].notna(), PLAIN)


def judging_regime(evaluations: pd.DataFrame) -> str:
    """The regime that verdicts rest on: plain, or the first by name as long as there are no such rows."""
    regimes = sorted(set(regime_of(evaluations)))
    return regimes[0] if regimes and PLAIN not in regimes else PLAIN


def evaluated_sets(evaluations: pd.DataFrame) -> pd.DataFrame:
    """The learned sets that have evaluation rows, one row each with the columns `SET`."""
    learned = evaluations[evaluations["trial_id"] != USUAL_TRIAL]
    return learned[SET].drop_duplicates().sort_values(SET).reset_index(drop=True)


def headline_sets(run: Run) -> pd.DataFrame:
    """The one set of each method that verdicts and figures speak about, with the columns `SET` and ``score``.

    It is the evaluated set with the highest score.  Scores are measured on validation rows, so that nothing is
    chosen by the rows that judge it.

    Args:
        run: the run.
    """
    trials = counted_attempts(run.trials, run.trials)
    scores = trials.loc[trials["status"] == Status.OK, ["run_id", "trial_id", "score"]]
    scored = evaluated_sets(run.evaluations).merge(scores, on=["run_id", "trial_id"], how="left")
    best = scored.sort_values("score", ascending=False, kind="stable", na_position="last")
    best = best.drop_duplicates("method")
    return in_order(best, ["method"])


def of_sets(frame: pd.DataFrame, sets: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame that belong to the given sets, in the order of the frame."""
    names = ["run_id", "trial_id"]
    wanted = pd.MultiIndex.from_frame(sets[names])
    return frame[pd.MultiIndex.from_frame(frame[names]).isin(wanted)]


def one_rate(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Of every arm at every size the rows of one learning rate: that with the highest mean merit, if of several.

    Only tuning leaves several: validation rows, whose best rate is what networks are then judged with.
    """
    arm = ["run_id", "trial_id", "arm", "task", "architecture", "depth", "width", "mixing", "lr_protocol", "split"]
    arm += ["regime"] if "regime" in evaluations else []
    if not evaluations.duplicated([*arm, "seed"]).any():
        return evaluations
    means = evaluations.assign(merit=merit_of(evaluations)).groupby([*arm, "lr"], dropna=False)["merit"].mean()
    best = means.reset_index().sort_values("merit", ascending=False, kind="stable").drop_duplicates(arm)
    kept = evaluations.merge(best[[*arm, "lr"]], on=[*arm, "lr"])
    return kept.drop_duplicates([*arm, "seed"])


def judged(evaluations: pd.DataFrame) -> pd.DataFrame:
    """The networks that judge, without those that only chose learning rates: `judging_split`, and of it `one_rate`."""
    return one_rate(evaluations[evaluations["split"] == judging_split(evaluations)])
