"""The cross-size table: every arm of every set at every size, against the arms it has to beat there.

Differences are paired by seed: networks of one seed share initial weights and batches across arms.

**Selection.** The best pure type and the best usual activation are chosen at each size by their mean on the very
rows that judge them.  The chance that goes into that choice raises the rival's mean, so the mix's advantage over
them is understated: the comparison is conservative for the mix.  No size is chosen: all that were evaluated are
shown, each with its own 95 % interval, so of twenty intervals about one misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.sets import SET, in_order, judging_regime, one_rate, regime_of
from analysis.statistics import Pairs, Vector, mean_intervals, share_won
from search.schema import USUAL_TRIAL

SIZE: Final = ["task", "architecture", "lr_protocol", "split", "depth", "width"]
"""Columns that say under which conditions networks are comparable."""

RIVALS: Final = ("relu", "best_pure", "best_usual")
"""What every arm is compared with."""

_ESTIMATE: Final = ("", "_low", "_high", "_interval")
_AGAINST: Final = ("_arm", "_pairs", "_lost", "_won")
_GROUP: Final = [*SET, "mixing", *SIZE]

_USED: Final = [*_GROUP, "arm", "seed", "accuracy", "diverged", "learned_width", "learned_depth"]

COLUMNS: Final = [
    *_GROUP, "learned_width", "learned_depth", "is_learned_size", "arm", "seeds", "diverged",
    *(f"accuracy{end}" for end in _ESTIMATE),
    *(f"vs_{rival}{end}" for rival in RIVALS for end in (*_ESTIMATE, *_AGAINST)),
    "note",
]  # fmt: skip
"""Columns of the table; accuracies and differences are shares (0..1)."""


def cross_size_table(evaluations: pd.DataFrame, *, split: str = "test") -> pd.DataFrame:
    """One row per set, size and arm, usual arms included.

    ``vs_relu``, ``vs_best_pure`` and ``vs_best_usual`` are the mean paired differences of the arm to that rival; beside
    each stand its interval (``…_low``, ``…_high``, ``…_interval``), the rival's arm, the pairs, the seeds lost for want
    of a partner, and the share of seeds won (ties half).  They are empty where the arm is its own rival, or where the
    rival has no rows; ``note`` says the latter.

    Args:
        evaluations: rows of the evaluations table, of one or several runs; those without an accuracy are passed over,
            and those of other training regimes than `judging_regime`.
        split: which judging rows count: test or val.
    """
    alike = (evaluations["split"] == split) & (regime_of(evaluations) == judging_regime(evaluations))
    rows = one_rate(evaluations[alike & evaluations["accuracy"].notna()])[_USED].dropna(subset=["arm", "seed"])
    shared: dict[Any, pd.DataFrame] = dict(list(rows[rows["trial_id"] == USUAL_TRIAL].groupby(["run_id", *SIZE])))
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    targets: list[tuple[dict[str, Any], str]] = []
    for key, own in rows[rows["trial_id"] != USUAL_TRIAL].groupby(_GROUP, dropna=False):
        group: dict[str, Any] = dict(zip(_GROUP, key, strict=True))
        usual = shared.get((group["run_id"], *(group[column] for column in SIZE)), rows.iloc[:0])
        for record, to_estimate in _arms(group, own, usual):
            records.append(record)
            samples.extend(to_estimate.values())
            targets.extend((record, prefix) for prefix in to_estimate)
    for (record, prefix), estimate in zip(targets, mean_intervals(samples), strict=True):
        found = (estimate.value, estimate.low, estimate.high, str(estimate.interval))
        record.update((f"{prefix}{end}", value) for end, value in zip(_ESTIMATE, found, strict=True))
    return _typed(pd.DataFrame.from_records(records, columns=COLUMNS))


def _arms(
    group: Mapping[str, Any], own: pd.DataFrame, usual: pd.DataFrame
) -> Iterator[tuple[dict[str, Any], dict[str, Vector]]]:
    """The rows of one set at one size, each with the samples whose mean and interval it still needs."""
    usual_arms = [str(arm) for arm in usual["arm"].unique()]
    # One name is one arm: what a set calls like a usual activation gives way to it, and the note says so.
    clashing = sorted(set(own["arm"]) & set(usual_arms))
    own = own[~own["arm"].isin(clashing)]
    table = _Networks.of(pd.concat([own, usual]) if len(usual) else own)
    learned = {column: own[column].max() for column in ("learned_width", "learned_depth")}
    size = {**group, **learned, "is_learned_size": _same_size(group, learned)}
    rivals = {
        "relu": "relu" if "relu" in table.arms else None,
        "best_pure": table.best(arm for arm in table.arms if arm.startswith("pure-")),
        "best_usual": table.best(usual_arms),
    }
    note = _missing(rivals, "mixed" in table.arms)
    if clashing:
        note = "; ".join(
            filter(None, [note, f"left out, because named like a usual activation: {', '.join(clashing)}"])
        )
    for arm in table.arms:
        accuracy = table.accuracy(arm)
        record = {**size, "arm": arm, "seeds": len(accuracy), "diverged": table.diverged(arm), "note": note}
        samples = {"accuracy": accuracy}
        for rival, other in rivals.items():
            if other is None or other == arm:
                continue
            pairs = table.pairs(arm, other)
            record |= {f"vs_{rival}_arm": other, f"vs_{rival}_pairs": len(pairs.differences)}
            record |= {f"vs_{rival}_lost": pairs.lost, f"vs_{rival}_won": share_won(pairs.differences)}
            samples[f"vs_{rival}"] = pairs.differences
        yield record, samples


@dataclass(frozen=True)
class _Networks:
    """The networks of one size as arrays: thousands of pairs are formed of them, for which frames are too slow.

    Attributes:
        arms: arm → its column, in alphabetical order.
        accuracies: by seed (in rising order) and arm, NaN where there is no network.
        counts: diverged networks by arm.
    """

    arms: dict[str, int]
    accuracies: Vector
    counts: NDArray[np.intp]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Networks:
        names, columns = np.unique(rows["arm"].to_numpy(str), return_inverse=True)
        seeds, lines = np.unique(rows["seed"].to_numpy(np.int64), return_inverse=True)
        accuracies = np.full((len(seeds), len(names)), np.nan)
        accuracies[lines, columns] = rows["accuracy"].to_numpy(np.float64)
        diverged = rows["diverged"].fillna(value=False).to_numpy(bool)
        counts = np.bincount(columns[diverged], minlength=len(names))
        return cls({str(name): place for place, name in enumerate(names)}, accuracies, counts)

    def accuracy(self, arm: str) -> Vector:
        """Of all networks of the arm, in the order of their seeds."""
        values: Vector = self.accuracies[:, self.arms[arm]]
        return values[~np.isnan(values)]

    def diverged(self, arm: str) -> int:
        return int(self.counts[self.arms[arm]])

    def pairs(self, first: str, second: str) -> Pairs:
        """As `analysis.statistics.pair`."""
        both = self.accuracies[:, [self.arms[first], self.arms[second]]]
        there = ~np.isnan(both)
        common = both[there.all(axis=1)]
        return Pairs(common[:, 0] - common[:, 1], int(there.any(axis=1).sum()) - len(common))

    def best(self, arms: Iterable[str]) -> str | None:
        """The arm with the highest mean; the first in alphabetical order of those that are equal."""
        return max(sorted(arms), key=lambda arm: float(self.accuracy(arm).mean()), default=None)


def _same_size(group: Mapping[str, Any], learned: Mapping[str, Any]) -> bool:
    pairs = ((group["width"], learned["learned_width"]), (group["depth"], learned["learned_depth"]))
    return all(pd.notna(here) and pd.notna(there) and here == there for here, there in pairs)


def _missing(rivals: Mapping[str, str | None], has_mixed: bool) -> str:
    words = {"relu": "relu", "best_pure": "any pure type", "best_usual": "any usual activation"}
    absent = [words[rival] for rival, arm in rivals.items() if arm is None]
    if not has_mixed:
        absent.insert(0, "mixed")
    return f"no rows of {', '.join(absent)} at this size" if absent else ""


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """The same column types whatever the rows are, also when there are none."""
    for column in table.columns:
        if column in {"depth", "width", "learned_width", "learned_depth", "seeds", "diverged"} or column.endswith(
            ("_pairs", "_lost")
        ):
            table[column] = table[column].astype("Int64")
        elif column == "is_learned_size":
            table[column] = table[column].astype("bool")
        elif column.endswith(("_low", "_high", "_won")) or column in {"accuracy", *(f"vs_{rival}" for rival in RIVALS)}:
            table[column] = table[column].astype(np.float64)
        else:
            table[column] = table[column].astype("str")
    return in_order(table, [*_GROUP, "arm"])
