"""What most figures start from: the networks of each method's headline set beside those of the usual activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from analysis.load import Run
from analysis.sets import headline_sets, judging_split, of_sets, one_rate
from analysis.settings import regressions
from search.schema import CONTROLS, USUAL_TRIAL

CONDITIONS: Final = ["task", "architecture", "mixing", "regime", "lr_protocol"]
"""Columns that say under which conditions networks were trained."""

PANEL: Final = ["trial_id", *CONDITIONS, "depth"]
"""Columns that say which panel a network belongs to."""

_LEARNED: Final = ["trial_id", "method", "mixing", "learned_width", "learned_depth"]
_SHARED: Final = ["run_id", "task", "architecture", "regime", "lr_protocol", "split", "width", "depth"]


def headline_networks(run: Run) -> pd.DataFrame:
    """Judged networks of each method's headline set, those of the usual activations repeated for every set.

    All columns of ``evaluations``; ``metric`` and ``regime`` are filled in where they are null.
    """
    rows, split = run.evaluations, judging_split(run.evaluations)
    rows = rows[rows["split"] == split]
    # Only validation rows hold several learning rates: networks are judged with the one that did best on them.
    rows = one_rate(rows) if split == "val" else rows
    rows = rows.assign(metric=rows["metric"].fillna("accuracy"), regime=rows["regime"].fillna("plain"))
    return beside_rivals(rows, headline_sets(run), _LEARNED)


def spectra(run: Run) -> pd.DataFrame:
    """The table of spectral densities, its ``regime`` filled in where it is null."""
    rows = run.table("spectra")
    return rows.assign(regime=rows["regime"].fillna("plain"))


def beside_rivals(rows: pd.DataFrame, sets: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The rows of each set with those of the usual activations under the same conditions, set after set.

    Args:
        rows: with ``run_id``, ``trial_id``, ``width``, ``depth`` and those of the conditions that its table has.
        sets: with ``run_id`` and ``trial_id``.
        names: columns of a set's rows that its rivals' rows take over; how usual activations are mixed means nothing.
    """
    shared = [column for column in _SHARED if column in rows.columns]
    usual = rows[rows["trial_id"] == USUAL_TRIAL].drop(columns=names)
    parts = []
    for chosen in sets.itertuples():
        own = rows[(rows["run_id"] == chosen.run_id) & (rows["trial_id"] == chosen.trial_id)]
        parts += [own, usual.merge(own[[*shared, *names]].drop_duplicates(), on=shared)]
    return pd.concat([part for part in parts if len(part)] or [rows.head(0)], ignore_index=True)[list(rows.columns)]


def where_learned(networks: pd.DataFrame, *, any_depth: bool = False) -> pd.DataFrame:
    """Those networks that have the size at which the set was learned, or its width at any depth."""
    there = networks["width"] == networks["learned_width"]
    if not any_depth:
        there &= networks["depth"] == networks["learned_depth"]
    return networks[there.fillna(value=False).astype(bool)].reset_index(drop=True)


def without_controls(networks: pd.DataFrame) -> pd.DataFrame:
    """Learned and usual arms only, for pictures that would be crowded with the controls in them."""
    return networks[~networks["arm"].isin(list(CONTROLS))]


def learned_sizes(run: Run) -> pd.DataFrame:
    """``trial_id``, ``width`` and ``depth`` at which the headline sets were learned, as far as evaluations say it."""
    rows = of_sets(run.evaluations, headline_sets(run))[["trial_id", "learned_width", "learned_depth"]]
    names = {"learned_width": "width", "learned_depth": "depth"}
    return rows.dropna().drop_duplicates().rename(columns=names).reset_index(drop=True)


def panels(data: pd.DataFrame, by: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each panel with its title, in the order of the data; what is the same for all is not in titles."""
    varying = [column for column in PANEL[1:] if column in by and len(data[column].unique()) > 1]
    for _, rows in data.groupby(by, sort=False, dropna=False):
        first = rows.iloc[0]
        extra = [f"depth {first[column]}" if column == "depth" else str(first[column]) for column in varying]
        yield ", ".join([f"set of {first['trial_id']}", *extra]), rows


def score_measures(run: Run, tasks: pd.Series[Any]) -> pd.Series[Any]:
    """What ``score`` and ``val_accuracy`` are in the task of each row: validation accuracy or, in regression, skill."""
    return _by_regression(run, tasks, "validation accuracy", "validation skill")


def loss_units(run: Run, tasks: pd.Series[Any]) -> pd.Series[Any]:
    """The unit of the training loss in the task of each row."""
    return _by_regression(run, tasks, "nat", "squared error")


def _by_regression(run: Run, tasks: pd.Series[Any], other: str, regression: str) -> pd.Series[Any]:
    return tasks.isin(list(regressions([run]))).map({False: other, True: regression}).astype(object)
