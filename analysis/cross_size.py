"""The cross-size table: every arm of every set at every size, against the arms it has to beat there.

Differences are paired by seed: networks of one seed share initial weights and batches across arms.

**Selection.** The best pure type and the best usual activation are chosen at each size by their mean on the very
rows that judge them.  The chance that goes into that choice raises the rival's mean, so the mix's advantage over
them is understated: the comparison is conservative for the mix.  No size is chosen: all that were evaluated are
shown, each with its own 95 % interval, so of twenty intervals about one misses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.sets import SET, in_order, one_rate
from analysis.statistics import Pairs, Vector, mean_intervals, share_won
from search.schema import USUAL_TRIAL

SIZE: Final = ["task", "architecture", "lr_protocol", "split", "depth", "width"]
"""Columns that say under which conditions networks are comparable."""

RIVALS: Final = ("relu", "best_pure", "best_usual")
"""What every arm is compared with."""

_ESTIMATE: Final = ("", "_low", "_high", "_interval")
_AGAINST: Final = ("_arm", "_pairs", "_lost", "_won")
_GROUP: Final = [*SET, "mixing", *SIZE]

COLUMNS: Final = [
    *_GROUP, "learned_width", "learned_depth", "is_learned_size", "arm", "seeds", "diverged",
    *(f"accuracy{end}" for end in _ESTIMATE),
    *(f"vs_{rival}{end}" for rival in RIVALS for end in (*_ESTIMATE, *_AGAINST)),
    "note",
]  # fmt: skip
"""Columns of the table; accuracies and differences are shares (0..1)."""


NEEDED: Final = [
    *_GROUP, "learned_width", "learned_depth", "arm", "lr", "seed", "metric", "accuracy", "loss", "diverged",
]  # fmt: skip
"""Columns of evaluations that the table is made of: all that has to be read of a run with millions of them."""

_IN_GROUP: Final = ["arm", "seed", "accuracy", "diverged", "learned_width", "learned_depth"]


def cross_size_table(evaluations: pd.DataFrame, *, split: str = "test") -> pd.DataFrame:
    """One row per set, size and arm, usual arms included.

    ``vs_relu``, ``vs_best_pure`` and ``vs_best_usual`` are the mean paired differences of the arm to that rival; beside
    each stand its interval (``…_low``, ``…_high``, ``…_interval``), the rival's arm, the pairs, the seeds lost for want
    of a partner, and the share of seeds won (ties half).  They are empty where the arm is its own rival, or where the
    rival has no rows; ``note`` says the latter.

    Args:
        evaluations: rows of the evaluations table, of one or several runs; those without an accuracy are passed over.
        split: which judging rows count: test or val.
    """
    rows = evaluations[NEEDED]
    counted = (rows["split"] == split) & rows["accuracy"].notna()
    if not counted.all():
        rows = rows[counted]
    if rows["lr"].min() != rows["lr"].max() or rows["lr"].hasnans:
        rows = one_rate(rows)
    is_usual = rows["trial_id"] == USUAL_TRIAL
    usual_rows = _groups(rows[is_usual], ["run_id", *SIZE], dropna=True)
    # Prepared once for all sets of a size.
    shared = {key: _by_arm(usual) for key, usual in usual_rows}
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    targets: list[tuple[dict[str, Any], str]] = []
    for key, own in _groups(rows[~is_usual], _GROUP, dropna=False):
        group: dict[str, Any] = dict(zip(_GROUP, key, strict=True))
        usual = shared.get((group["run_id"], *(group[column] for column in SIZE)), {})
        for record, to_estimate in _arms(group, own, usual):
            records.append(record)
            samples.extend(to_estimate.values())
            targets.extend((record, prefix) for prefix in to_estimate)
    for (record, prefix), estimate in zip(targets, mean_intervals(samples), strict=True):
        found = (estimate.value, estimate.low, estimate.high, str(estimate.interval))
        record.update((f"{prefix}{end}", value) for end, value in zip(_ESTIMATE, found, strict=True))
    return _typed(pd.DataFrame.from_records(records, columns=COLUMNS))


def _groups(rows: pd.DataFrame, by: list[str], *, dropna: bool) -> Iterator[tuple[Any, pd.DataFrame]]:
    """The groups with the columns that are looked at in them: the others need not be sorted for it."""
    yield from rows[_IN_GROUP].groupby([rows[column] for column in by], dropna=dropna, observed=True)


@dataclass(frozen=True)
class _Networks:
    """The networks of one arm under one set of conditions, in the order of their seeds."""

    seeds: NDArray[np.int64]
    accuracies: Vector
    diverged: int


def _by_arm(rows: pd.DataFrame) -> dict[str, _Networks]:
    """The networks of every arm, arms in alphabetical order."""
    codes, arms = pd.factorize(rows["arm"])
    seeds, accuracies = rows["seed"].to_numpy(np.int64), rows["accuracy"].to_numpy(float)
    diverged = rows["diverged"].to_numpy(bool, na_value=False)
    order = np.lexsort((seeds, codes))
    counts = np.bincount(codes, minlength=len(arms))
    ends = np.cumsum(counts)
    # Of rows that say the same network again the first counts.
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(codes[order]) != 0) | (np.diff(seeds[order]) != 0)
    parts = {
        str(arm): order[end - count : end][is_first[end - count : end]]
        for arm, end, count in zip(arms, ends, counts, strict=True)
    }
    return {
        arm: _Networks(seeds[part], accuracies[part], int(diverged[part].sum())) for arm, part in sorted(parts.items())
    }


def _pair(first: _Networks, second: _Networks) -> Pairs:
    if np.array_equal(first.seeds, second.seeds):
        return Pairs(first.accuracies - second.accuracies, 0)
    common, mine, theirs = np.intersect1d(first.seeds, second.seeds, return_indices=True)
    differences = first.accuracies[mine] - second.accuracies[theirs]
    return Pairs(differences, len(np.union1d(first.seeds, second.seeds)) - len(common))


def _arms(
    group: Mapping[str, Any], own: pd.DataFrame, usual: Mapping[str, _Networks]
) -> Iterator[tuple[dict[str, Any], dict[str, Vector]]]:
    """The rows of one set at one size, each with the samples whose mean and interval it still needs."""
    learned_arms = _by_arm(own)
    # One name is one arm: what a set calls like a usual activation gives way to it, and the note says so.
    clashing = sorted(learned_arms.keys() & usual.keys())
    networks = dict(sorted({**learned_arms, **usual}.items()))
    accuracies = {arm: found.accuracies for arm, found in networks.items()}
    counted = own[~own["arm"].isin(clashing)] if clashing else own
    learned = {column: counted[column].max() for column in ("learned_width", "learned_depth")}
    size = {**group, **learned, "is_learned_size": _same_size(group, learned)}
    rivals = {
        "relu": "relu" if "relu" in accuracies else None,
        "best_pure": _best(accuracies, (arm for arm in accuracies if arm.startswith("pure-"))),
        "best_usual": _best(accuracies, iter(usual)),
    }
    note = _missing(rivals, "mixed" in accuracies)
    if clashing:
        note = "; ".join(
            filter(None, [note, f"left out, because named like a usual activation: {', '.join(clashing)}"])
        )
    for arm, found in networks.items():
        record = {**size, "arm": arm, "seeds": len(found.seeds), "diverged": found.diverged, "note": note}
        samples = {"accuracy": found.accuracies}
        for rival, other in rivals.items():
            if other is None or other == arm:
                continue
            pairs = _pair(found, networks[other])
            record |= {f"vs_{rival}_arm": other, f"vs_{rival}_pairs": len(pairs.differences)}
            record |= {f"vs_{rival}_lost": pairs.lost, f"vs_{rival}_won": share_won(pairs.differences)}
            samples[f"vs_{rival}"] = pairs.differences
        yield record, samples


def _same_size(group: Mapping[str, Any], learned: Mapping[str, Any]) -> bool:
    pairs = ((group["width"], learned["learned_width"]), (group["depth"], learned["learned_depth"]))
    return all(pd.notna(here) and pd.notna(there) and here == there for here, there in pairs)


def _best(accuracies: Mapping[str, Vector], arms: Iterator[str]) -> str | None:
    """The arm with the highest mean; the first in alphabetical order of those that are equal."""
    return max(sorted(arms), key=lambda arm: float(accuracies[arm].mean()), default=None)


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
