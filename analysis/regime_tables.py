"""Training regimes and ensembles of snapshots as tables: for each arm one of each, a row for each size and regime."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Final

import pandas as pd

from analysis.figures.regimes import regimes_and_ensembles_data
from analysis.load import Run
from analysis.sets import CONDITIONS
from analysis.statistics import ENDS
from analysis.style import arm_order
from analysis.tables import Cells, Column, Row, Table, percent_cell
from analysis.words import NOTHING, condition_words, difference_words, number, p_value, percent, size_words

_PLACE: Final[Cells] = {
    Column("size", numeric=False): size_words,
    Column("regime", numeric=False): lambda row: str(row["regime"]),
}


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
    cells: Cells = {
        **_PLACE,
        Column("accuracy [%]"): partial(percent_cell, name="accuracy", with_interval=intervals),
        Column(f"– {first['plain']} [points]"): partial(_difference, "vs_plain"),
        Column("won [%]"): lambda row: percent(row["vs_plain_won"], 0),
        Column("p (Holm)"): lambda row: p_value(row["vs_plain_p_holm"]),
        Column("seeds"): lambda row: str(row["networks"] if pd.isna(row["vs_plain_pairs"]) else row["vs_plain_pairs"]),
        Column("diverged"): lambda row: str(row["diverged"] or NOTHING),
    }
    return Table.of(caption, rows.to_dict("records"), cells)


def _ensembles(about: str, rows: pd.DataFrame, intervals: bool) -> Table:
    first = rows.iloc[0]
    snapshots = "/".join(str(count) for count in sorted(rows["snapshots"].unique()))
    caption = (
        f"Ensembles of {snapshots} snapshots on {first['split']} rows, paired by seed, with 95 % intervals: {about}"
    )
    cells: Cells = {
        **_PLACE,
        Column("one [%]"): partial(percent_cell, name="member_accuracy", with_interval=intervals),
        Column("all [%]"): partial(percent_cell, name="ensemble_accuracy", with_interval=intervals),
        Column("weighted [%]"): partial(percent_cell, name="ensemble_weighted_accuracy", with_interval=intervals),
        Column("all – one [points]"): partial(_difference, "ensemble_gain"),
        Column(f"all – {first['plain']} [points]"): partial(_difference, "ensemble_vs_plain"),
        Column("p (Holm)"): lambda row: p_value(row["ensemble_vs_plain_p_holm"]),
        Column("error corr."): partial(_real, "error_correlation", intervals),
        Column("distance"): partial(_real, "snapshot_distance", intervals),
    }
    return Table.of(caption, rows.to_dict("records"), cells)


def _difference(name: str, row: Row) -> str:
    return difference_words(*(row[f"{name}{end}"] for end in ENDS), lost=row.get(f"{name}_lost"))


def _real(name: str, with_interval: bool, row: Row) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ENDS)
    return number(value, 3) + (f" [{low:.3f}, {high:.3f}]" if with_interval and pd.notna(low) else "")
