"""Training regimes and ensembles of snapshots as tables: for each arm one of each, a row for each size and regime."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import pandas as pd

from analysis.figures.regimes import regimes_and_ensembles_data
from analysis.load import Run
from analysis.sets import CONDITIONS
from analysis.statistics import ENDS
from analysis.style import arm_order
from analysis.tables import Column, Table
from analysis.words import (
    NOTHING,
    condition_words,
    difference_words,
    p_value,
    percent,
    percent_interval,
    real,
    size_words,
)

_PLACE: Final = (Column("size", numeric=False), Column("regime", numeric=False))


def regime_tables(run: Run, *, arms: Collection[str] | None = None, intervals: bool = True) -> Iterator[Table]:
    """Per headline set and arm: every regime at every size held against the plain one, and its snapshots together.

    Args:
        run: the run; without regimes or snapshots there is no table.
        arms: which arms; None for all but controls.
        intervals: whether means have theirs; differences always do.
    """
    data = regimes_and_ensembles_data(run)
    for (trial, *_), rows in data.groupby(["trial_id", *CONDITIONS], sort=False):
        for arm in arm_order(rows["arm"]):
            own = rows[rows["arm"] == arm]
            is_learned = arm == "mixed" or arm.startswith("pure-")
            subject = f"{arm} of {trial}" if is_learned else f"{arm} beside the set of {trial}"
            about = f"{subject}, {condition_words(own.iloc[0], CONDITIONS)}"
            if arms is None or arm in arms:
                if len(own["regime"].unique()) > 1:
                    yield _regimes(about, own, intervals)
                if own["ensemble_accuracy"].notna().any():
                    yield _ensembles(about, own[own["ensemble_accuracy"].notna()], intervals)


def _regimes(about: str, rows: pd.DataFrame, intervals: bool) -> Table:
    first = rows.iloc[0]
    caption = f"Training regimes on {first['split']} rows, paired by seed, with 95 % intervals: {about}"
    heads = (
        *_PLACE,
        Column("accuracy [%]"),
        Column(f"– {first['plain']} [points]"),
        Column("won [%]"),
        Column("p (Holm)"),
        Column("seeds"),
        Column("diverged"),
    )
    lines = [
        (
            size_words(row),
            row["regime"],
            _accuracy(row, "accuracy", intervals),
            _difference(row, "vs_plain"),
            percent(row["vs_plain_won"], 0),
            p_value(row["vs_plain_p_holm"]),
            str(row["networks"] if pd.isna(row["vs_plain_pairs"]) else row["vs_plain_pairs"]),
            str(row["diverged"]) if row["diverged"] else NOTHING,
        )
        for row in rows.to_dict("records")
    ]
    return Table(caption, heads, tuple(lines)).without_empty_columns()


def _ensembles(about: str, rows: pd.DataFrame, intervals: bool) -> Table:
    first = rows.iloc[0]
    snapshots = "/".join(str(count) for count in sorted(rows["snapshots"].unique()))
    caption = (
        f"Ensembles of {snapshots} snapshots on {first['split']} rows, paired by seed, with 95 % intervals: {about}"
    )
    heads = (
        *_PLACE,
        Column("one [%]"),
        Column("all [%]"),
        Column("weighted [%]"),
        Column("all – one [points]"),
        Column(f"all – {first['plain']} [points]"),
        Column("p (Holm)"),
        Column("error corr."),
        Column("distance"),
    )
    lines = [
        (
            size_words(row),
            row["regime"],
            _accuracy(row, "member_accuracy", intervals),
            _accuracy(row, "ensemble_accuracy", intervals),
            _accuracy(row, "ensemble_weighted_accuracy", intervals),
            _difference(row, "ensemble_gain"),
            _difference(row, "ensemble_vs_plain"),
            p_value(row["ensemble_vs_plain_p_holm"]),
            _real(row, "error_correlation", intervals),
            _real(row, "snapshot_distance", intervals),
        )
        for row in rows.to_dict("records")
    ]
    return Table(caption, heads, tuple(lines)).without_empty_columns()


def _accuracy(row: dict[Any, Any], name: str, with_interval: bool) -> str:
    interval = percent_interval(row[f"{name}_low"], row[f"{name}_high"]) if with_interval else ""
    return f"{percent(row[name])} {interval}".rstrip()


def _difference(row: dict[Any, Any], name: str) -> str:
    return difference_words(*(row[f"{name}{end}"] for end in ENDS), lost=row.get(f"{name}_lost"))


def _real(row: dict[Any, Any], name: str, with_interval: bool) -> str:
    low, high = (row[f"{name}_low"], row[f"{name}_high"]) if with_interval else (None, None)
    return real(row[name], low, high)
