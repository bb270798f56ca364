"""Which evaluation rows a scale passport is about: one set, one protocol, and its rivals under the same conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from analysis.merit import ACCURACY, LOSS, metric_of
from analysis.sets import PLAIN, judging_split, one_rate, regime_of
from analysis.words import count
from search.schema import USUAL_TRIAL

_PREFERRED: Final = {"lr_protocol": ("per_arm_size", "tuned"), "mixing": ("within_layer",), "regime": (PLAIN,)}
"""Which rows a passport is about if there are several kinds: the fairer protocol (by its name of today or that of
earlier rows), the mix within layers, nothing special in the training."""


class PassportError(ValueError):
    """There are no rows to make a passport of, or it is not clear which; the words say what to do."""


@dataclass(frozen=True)
class PassportRows:
    """What a passport is made of.

    Attributes:
        own: rows of the set: mixed, pure types, controls.
        usual: rows of usual arms.
        singles: rows of sets with one learned type, named by their trials.
        notes: what was left out and what else has to be known about the rows, as sentences.
    """

    own: pd.DataFrame
    usual: pd.DataFrame
    singles: pd.DataFrame
    notes: tuple[str, ...]


def passport_rows(
    evaluations: pd.DataFrame,
    *,
    trial_id: str,
    run_id: str | None,
    split: str | None,
    lr_protocol: str | None,
    mixing: str | None,
    regime: str | None,
) -> PassportRows:
    """Choose the rows; the arguments are those of `analysis.scale_passport`.

    Raises:
        PassportError: the trial has no such rows, several runs have it, or networks are judged by something unknown.
    """
    rows = _of_one_run(evaluations, trial_id, run_id)
    rows = rows[rows["split"] == (split or judging_split(rows))].assign(regime=regime_of(rows))
    notes: list[str] = []
    for column, value in (("lr_protocol", lr_protocol), ("mixing", mixing), ("regime", regime)):
        rows, left_out = _of_one_kind(rows, trial_id, column, value)
        notes += left_out
    rates, rows = len(rows), one_rate(rows)
    if len(rows) < rates:
        words = f"{count(rates - len(rows), 'row')} of other learning rates left out"
        notes.append(f"{words}: of each arm at each size the best one is kept, by these very rows.")
    own = rows[rows["trial_id"] == trial_id]
    if own.empty:
        asked = {"split": split, "lr_protocol": lr_protocol, "mixing": mixing, "regime": regime}
        words = ", ".join(f"{name} {value}" for name, value in asked.items() if value) or "judged by test rows"
        raise PassportError(f"{trial_id} has no evaluation rows that are {words}; `ldnn evaluate` trains networks.")
    usual = rows[rows["trial_id"] == USUAL_TRIAL]
    clashing = sorted(set(own["arm"]) & set(usual["arm"]))
    if clashing:
        notes.append(f"Left out, because named like a usual activation: {', '.join(clashing)}.")
    own = own[~own["arm"].isin(clashing)]
    others = rows[~rows["trial_id"].isin([trial_id, USUAL_TRIAL])]
    learned_singles = others[(others["num_types"] == 1).fillna(value=False) & (others["arm"] == "mixed")]
    if (own["num_types"] == 1).fillna(value=False).all():  # then the mix is its only type
        own = own[~own["arm"].str.startswith("pure-")]
    singles = learned_singles.assign(arm=learned_singles["trial_id"])
    return PassportRows(own, usual, singles, (*notes, *_about(rows, own)))


def _of_one_run(evaluations: pd.DataFrame, trial_id: str, run_id: str | None) -> pd.DataFrame:
    if evaluations.empty:
        raise PassportError("No network has been evaluated yet; `ldnn evaluate` trains those that a passport needs.")
    own = evaluations[(evaluations["trial_id"] == trial_id) & (trial_id != USUAL_TRIAL)]
    if own.empty:
        known = ", ".join(sorted(set(evaluations["trial_id"].dropna()) - {USUAL_TRIAL})) or "none"
        raise PassportError(f"A trial must have evaluation rows, but {trial_id!r} has none; these have: {known}.")
    runs = sorted(own["run_id"].dropna().unique())
    if run_id is None and len(runs) > 1:
        raise PassportError(f"{trial_id} must be of one run, but {', '.join(runs)} have it; say which by run_id.")
    return evaluations[evaluations["run_id"] == (run_id or runs[0])]


def _of_one_kind(
    rows: pd.DataFrame, trial_id: str, column: str, value: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    found = sorted(rows.loc[rows["trial_id"] == trial_id, column].dropna().astype(str).unique())
    chosen = value or next((name for name in (*_PREFERRED[column], *found) if name in found), "")
    others = ", ".join(name for name in found if name != chosen)
    words = (f"Rows of {column} {others} are left out; this is about {chosen}.",) if others else ()
    # What has no types has no way of mixing them.
    of_usual = (rows["trial_id"] == USUAL_TRIAL) & (column == "mixing")
    return rows[(rows[column] == chosen) | of_usual], words


def _about(rows: pd.DataFrame, own: pd.DataFrame) -> list[str]:
    """What has to be known about the rows that were chosen."""
    unknown = sorted(set(metric_of(rows)) - {ACCURACY, LOSS})
    if unknown:
        raise PassportError(f"Networks must be judged by accuracy or loss, but these are by {', '.join(unknown)}.")
    notes = []
    versions = sorted(rows["schema_version"].dropna().unique()) if "schema_version" in rows else []
    if len(versions) > 1:
        notes.append(f"Rows were written under schema versions {', '.join(map(str, versions))}.")
    if own["split"].iloc[0] != "test":
        notes.append("These are validation rows, which also chose the sets: the test is still to come.")
    return notes
