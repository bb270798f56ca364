"""Training regimes and ensembles of snapshots as tables: one for each arm, a row for each size and regime."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import pandas as pd

from analysis.figures.regimes import regimes_and_ensembles_data
from analysis.load import Run
from analysis.statistics import MIN_PAIRS
from analysis.style import arm_order
from analysis.tables import Column, Table
from analysis.words import NOTHING, percent, percent_interval, points, real

_TABLE: Final = ["trial_id", "task", "architecture", "mixing", "lr_protocol"]


def regime_tables(run: Run, *, arms: Collection[str] | None = None, intervals: bool = True) -> Iterator[Table]:
    """Per headline set and arm: every regime at every size, beside the plain one.

    Args:
        run: the run; without regimes or snapshots there is no table.
        arms: which arms; None for all but controls.
        intervals: whether accuracies have theirs; differences always do.
    """
    data = regimes_and_ensembles_data(run)
    for key, rows in data.groupby(_TABLE, sort=False):
        trial, *conditions = (str(part) for part in key)
        for arm in arm_order(rows["arm"]):
            if arms is None or arm in arms:
                own = rows[rows["arm"] == arm]
                is_learned = arm == "mixed" or arm.startswith("pure-")
                subject = f"{arm} of {trial}" if is_learned else f"{arm} beside the set of {trial}"
                words = ", ".join([subject, *conditions[:-1], f"lr {conditions[-1]}"])
                split = own["split"].iloc[0]
                brackets = f"95 % intervals, none of fewer than {MIN_PAIRS} seeds claims anything"
                caption = f"Training regimes, {words}; {split} rows, paired by seed; {brackets}"
                yield _table(caption, own, intervals)


def _table(caption: str, rows: pd.DataFrame, intervals: bool) -> Table:
    plain = rows["plain"].iloc[0]
    heads = (
        Column("size", numeric=False),
        Column("regime", numeric=False),
        Column("accuracy [%]"),
        Column(f"– {plain} [points]"),
        Column("p (Holm)"),
        Column("a snapshot [%]"),
        Column("ensemble [%]"),
        Column("weighted [%]"),
        Column("ensemble – a snapshot [points]"),
        Column(f"ensemble – that of {plain} [points]"),
        Column("p (Holm) of ensembles"),
        Column("correlation of errors"),
        Column("distance of snapshots"),
        Column("seeds"),
    )
    lines = []
    for row in rows.to_dict("records"):
        depth = "" if row["depth"] == 1 else f", depth {row['depth']}"
        lines.append((
            f"width {row['width']}{depth}", str(row["regime"]), _accuracy(row, "accuracy", intervals),
            _difference(row, "vs_plain"), _p_value(row["vs_plain_p_holm"]),
            _accuracy(row, "member_accuracy", False), _accuracy(row, "ensemble_accuracy", intervals),
            _accuracy(row, "ensemble_weighted_accuracy", False), _difference(row, "ensemble_gain"),
            _difference(row, "ensemble_vs_plain"), _p_value(row["ensemble_vs_plain_p_holm"]),
            _real(row, "error_correlation", intervals), _real(row, "snapshot_distance", intervals), _networks(row),
        ))  # fmt: skip
    return Table(caption, heads, tuple(lines)).without_empty_columns()


def _accuracy(row: dict[Any, Any], name: str, with_interval: bool) -> str:
    interval = percent_interval(row[f"{name}_low"], row[f"{name}_high"]) if with_interval else ""
    return f"{percent(row[name])} {interval}".rstrip()


def _difference(row: dict[Any, Any], name: str) -> str:
    return points(row[name], row[f"{name}_low"], row[f"{name}_high"], signed=True)


def _real(row: dict[Any, Any], name: str, with_interval: bool) -> str:
    low, high = (row[f"{name}_low"], row[f"{name}_high"]) if with_interval else (None, None)
    return real(row[name], low, high)


def _p_value(value: Any) -> str:
    return NOTHING if pd.isna(value) else f"{value:.2g}"


def _networks(row: dict[Any, Any]) -> str:
    diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
    return f"{row['networks']}{diverged}"
