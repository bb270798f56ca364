"""Training regimes held against the plain one, and their snapshots as ensembles, paired by seed.

Networks of one seed have the same initial weights and batches under every regime.  A regime is held against the regime
that verdicts rest on (`analysis.sets.judging_regime`) with the same arm: by the accuracy of the network after its last
step, and by that of the ensemble of its snapshots.  p-values are of signed ranks, corrected by Holm over all regimes
and sizes of one arm.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.paired import AGAINST, paired_columns
from analysis.sets import in_order, judged, judging_regime, regime_of
from analysis.significance import holm, signed_rank_tests
from analysis.statistics import ENDS, Pairs, Vector, mean_intervals, pair
from analysis.types_of_columns import typed

_ARM: Final = ["run_id", "method", "trial_id", "task", "architecture", "mixing", "lr_protocol", "split", "arm"]
SIZE: Final = ["depth", "width"]

MEANS: Final = (
    "accuracy", "ensemble_accuracy", "ensemble_weighted_accuracy", "member_accuracy", "ensemble_gain",
    "error_correlation", "snapshot_distance",
)  # fmt: skip
"""What is a mean over networks, with an interval.  ``member_accuracy`` is the mean over the snapshots of a network;
``ensemble_gain`` what its ensemble has more than that, seed by seed."""

DIFFERENCES: Final = {"vs_plain": "accuracy", "ensemble_vs_plain": "ensemble_accuracy"}
"""Difference to the plain regime → what it is a difference of."""

COLUMNS: Final = [
    *_ARM, *SIZE, "regime", "plain", "networks", "diverged", "inner_steps", "snapshots",
    *(f"{name}{end}" for name in MEANS for end in ENDS),
    *(
        column
        for name in DIFFERENCES
        for column in (*(f"{name}{end}" for end in ENDS), *(f"{name}_{said}" for said in (*AGAINST, "p", "p_holm")))
    ),
]  # fmt: skip
"""Columns of the table; accuracies and differences are shares (0..1), ``plain`` names the regime compared with."""


def regime_table(evaluations: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, size and regime, usual arms included; the plain regime has no differences.

    Args:
        evaluations: rows of the evaluations table, of one or several runs; those without an accuracy are passed over.
    """
    rows = judged(evaluations.assign(regime=regime_of(evaluations)))
    rows = rows[rows["accuracy"].notna()]
    rows = rows.assign(member_accuracy=[_mean(values) for values in rows["snapshot_accuracies"]])
    rows = rows.assign(ensemble_gain=rows["ensemble_accuracy"] - rows["member_accuracy"])
    plain = judging_regime(rows)
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    compared: dict[str, list[tuple[dict[str, Any], Pairs]]] = {name: [] for name in DIFFERENCES}
    for key, of_size in rows.groupby([*_ARM, *SIZE], sort=False, dropna=False):
        by_regime = {str(regime): own.set_index("seed") for regime, own in of_size.groupby("regime", sort=False)}
        for regime, own in sorted(by_regime.items(), key=lambda one: (one[0] != plain, one[0])):
            record: dict[str, Any] = dict(zip([*_ARM, *SIZE], key, strict=True)) | {"regime": regime, "plain": plain}
            record |= {"networks": len(own), "diverged": int(own["diverged"].fillna(value=False).sum())}
            record |= {"inner_steps": own["inner_steps"].max(), "snapshots": _most(own["snapshot_accuracies"])}
            records.append(record)
            samples += [own[name].to_numpy(float, na_value=np.nan) for name in MEANS]
            if regime == plain or plain not in by_regime:
                continue
            for name, column in DIFFERENCES.items():
                compared[name].append((record, pair(own[column], by_regime[plain][column])))
    for place, estimate in enumerate(mean_intervals(samples)):
        records[place // len(MEANS)] |= estimate.columns(MEANS[place % len(MEANS)])
    for name, found in compared.items():
        _compare(name, found)
    table = typed(pd.DataFrame.from_records(records, columns=COLUMNS))
    return in_order(table, [*_ARM[:-1], *SIZE, "arm"])


def has_regimes(table: pd.DataFrame) -> bool:
    """Whether there is more in it than one regime without ensembles."""
    return len(table["regime"].unique()) > 1 or bool(table["ensemble_accuracy"].notna().any())


def _compare(name: str, found: list[tuple[dict[str, Any], Pairs]]) -> None:
    """Put the differences of that name into the records; what was never measured stays empty."""
    measured = [(record, pairs) for record, pairs in found if len(pairs.differences)]
    columns = paired_columns([(name, pairs) for _, pairs in measured])
    tests = signed_rank_tests([pairs.differences for _, pairs in measured])
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for (record, _), own, test in zip(measured, columns, tests, strict=True):
        record.update(own | {f"{name}_p": test.two_sided})
        families.setdefault(tuple(str(record[column]) for column in _ARM), []).append(record)
    for family in families.values():
        for record, corrected in zip(family, holm([record[f"{name}_p"] for record in family]), strict=True):
            record[f"{name}_p_holm"] = float(corrected)


def _mean(values: Any) -> float:
    return float("nan") if values is None or np.ndim(values) == 0 else float(np.mean(values))


def _most(lists: pd.Series[Any]) -> int:
    return max((len(values) for values in lists if np.ndim(values)), default=0)
