"""The cross-size table: every arm of every set at every size, against the arms it has to beat there.

Differences are paired by seed: networks of one seed share initial weights and batches across arms.

**Selection.** The best pure type and the best usual activation are chosen at each size by their mean on the very
rows that judge them.  The chance that goes into that choice raises the rival's mean, so the mix's advantage over
them is understated: the comparison is conservative for the mix.  No size is chosen: all that were evaluated are
shown, each with its own 95 % interval, so of twenty intervals about one misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.paired import paired_columns
from analysis.sets import PLAIN, SET, in_order, judging_regime, one_rate, regime_of
from analysis.statistics import ENDS, Pairs, Vector, mean_intervals
from analysis.types_of_columns import typed
from search.schema import USUAL_TRIAL

SIZE: Final = ["task", "architecture", "lr_protocol", "split", "depth", "width"]
"""Columns that say under which conditions networks are comparable."""

RIVALS: Final = ("relu", "best_pure", "best_usual")
"""What every arm is compared with."""

_GROUP: Final = [*SET, "mixing", *SIZE]

COLUMNS: Final = [
    *_GROUP, "learned_width", "learned_depth", "is_learned_size", "arm", "seeds", "diverged",
    *(f"accuracy{end}" for end in (*ENDS, "_interval")),
    *(f"vs_{rival}{end}" for rival in RIVALS for end in (*ENDS, "_interval", "_arm", "_pairs", "_lost", "_won")),
    "note",
]  # fmt: skip
"""Columns of the table; accuracies and differences are shares (0..1)."""

NEEDED: Final = [
    *_GROUP, "learned_width", "learned_depth", "arm", "lr", "seed", "regime", "metric", "accuracy", "loss", "diverged",
]  # fmt: skip
"""Columns of evaluations that the table is made of: all that has to be read of a run with millions of them."""


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
    rows = evaluations[[name for name in NEEDED if name in evaluations]]
    counted = (rows["split"] == split) & rows["accuracy"].notna() & rows["arm"].notna() & rows["seed"].notna()
    if "regime" in rows and len({PLAIN if pd.isna(one) else one for one in rows["regime"].unique()}) > 1:
        counted &= regime_of(rows) == judging_regime(rows)
    if not counted.all():
        rows = rows[counted]
    if rows["lr"].min() != rows["lr"].max() or rows["lr"].hasnans:
        rows = one_rate(rows)
    groups = list(_groups(rows))
    # Prepared once for all sets of a size.
    shared: dict[tuple[Any, ...], dict[str, _Networks]] = {}
    for group, networks in groups:
        if group["trial_id"] == USUAL_TRIAL:
            shared.setdefault(_size_of(group), {}).update(networks)
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    compared: list[tuple[dict[str, Any], str, Pairs]] = []
    for group, own in groups:
        if group["trial_id"] == USUAL_TRIAL:
            continue
        for record, accuracies, pairs in _arms(group, own, shared.get(_size_of(group), {})):
            records.append(record)
            samples.append(accuracies)
            compared += [(record, name, differences) for name, differences in pairs.items()]
    for record, estimate in zip(records, mean_intervals(samples), strict=True):
        record.update(estimate.columns("accuracy") | {"accuracy_interval": str(estimate.interval)})
    columns = paired_columns([(name, differences) for _, name, differences in compared])
    for (record, _, _), found in zip(compared, columns, strict=True):
        record.update(found)
    table = pd.DataFrame.from_records(records, columns=COLUMNS)
    return in_order(typed(table), [*_GROUP, "arm"])


@dataclass(frozen=True)
class _Networks:
    """The networks of one arm under one set of conditions, in the order of their seeds."""

    seeds: NDArray[np.int64]
    accuracies: Vector
    diverged: int
    learned: dict[str, Any]


def _groups(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, _Networks]]]:
    """Each set at each size, usual activations as one of the sets, with the networks of its arms in alphabetical order.

    All rows are sorted at once: groups may be many, and rows millions.
    """
    if rows.empty:
        return
    starts, ids, firsts = _numbered(rows, [*_GROUP, "arm"])
    order, numbers, ends = _sorted(starts, ids, rows["seed"].to_numpy(np.int64))
    seeds, accuracies = rows["seed"].to_numpy(np.int64)[order], rows["accuracy"].to_numpy(float)[order]
    diverged = rows["diverged"].to_numpy(bool, na_value=False)[order]
    described = rows.iloc[firsts].astype(object).to_dict("records")
    found: dict[tuple[Any, ...], tuple[dict[str, Any], dict[str, _Networks]]] = {}
    for number, start, end in zip(numbers, np.append(0, ends[:-1]), ends, strict=True):
        values = described[number]
        group = {column: values[column] for column in _GROUP}
        learned = {column: values[column] for column in ("learned_width", "learned_depth")}
        part = slice(start, end)
        networks = _Networks(seeds[part], accuracies[part], int(diverged[part].sum()), learned)
        key = tuple("" if pd.isna(value) else value for value in group.values())
        found.setdefault(key, (group, {}))[1][str(values["arm"])] = networks
    for group, by_arm in found.values():
        yield group, dict(sorted(by_arm.items()))


def _numbered(
    rows: pd.DataFrame, columns: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.intp]]:
    """Where stretches of rows begin that have the same values; of each the number of its values; where that is first.

    Rows come part by part, so that a stretch has as many as an arm has seeds in a part, and a twentieth of the values
    have to be looked up.
    """
    is_start = np.zeros(len(rows), dtype=np.bool_)
    is_start[0] = True
    for column in columns:
        values = rows[column].array
        values = values.codes if isinstance(values, pd.Categorical) else values
        missing = pd.isna(values)
        differs = pd.Series(values[1:] != values[:-1]).to_numpy(bool, na_value=True)
        is_start[1:] |= differs & ~(missing[1:] & missing[:-1])
    starts = np.flatnonzero(is_start)
    ids = np.zeros(len(starts), dtype=np.int64)
    for column in columns:
        codes, distinct = pd.factorize(rows[column].iloc[starts])
        ids = pd.factorize(ids * (len(distinct) + 1) + codes + 1)[0].astype(np.int64)
    return starts, ids, starts[np.unique(ids, return_index=True)[1]]


def _sorted(
    starts: NDArray[np.intp], ids: NDArray[np.int64], seeds: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.intp]]:
    """The order of rows by number and seed, in which each pair is once; the numbers; and where the rows of each end.

    Args:
        starts: where stretches of rows of one number begin.
        ids: of each stretch its number.
        seeds: of each row; of rows that say the same network again the first counts.
    """
    # As a rule the seeds of a stretch rise and do not overlap with those of another: then to sort stretches is enough.
    lengths = np.diff(starts, append=len(seeds))
    by_first = np.lexsort((seeds[starts], ids))
    lengths, ids_in_order = lengths[by_first], ids[by_first]
    behind = np.cumsum(lengths)
    order = np.arange(len(seeds))
    order += np.repeat(starts[by_first] - (behind - lengths), lengths)
    is_last = np.append(np.diff(ids_in_order) != 0, True)
    numbers, ends = ids_in_order[is_last], behind[is_last]
    ordered = seeds[order]
    rises = ordered[1:] > ordered[:-1]
    rises[ends[:-1] - 1] = True
    if rises.all():
        return order, numbers, ends
    of_rows = np.repeat(ids, np.diff(starts, append=len(seeds)))
    order = np.lexsort((seeds, of_rows))
    of_rows, ordered = of_rows[order], seeds[order]
    is_first = np.append(True, (np.diff(of_rows) != 0) | (np.diff(ordered) != 0))
    order, of_rows = order[is_first], of_rows[is_first]
    is_last = np.append(np.diff(of_rows) != 0, True)
    return order, of_rows[is_last], np.flatnonzero(is_last) + 1


def _size_of(group: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple("" if pd.isna(group[column]) else group[column] for column in ("run_id", *SIZE))


def _pair(first: _Networks, second: _Networks) -> Pairs:
    if np.array_equal(first.seeds, second.seeds):
        return Pairs(first.accuracies - second.accuracies, 0)
    common, mine, theirs = np.intersect1d(first.seeds, second.seeds, return_indices=True)
    differences = first.accuracies[mine] - second.accuracies[theirs]
    return Pairs(differences, len(np.union1d(first.seeds, second.seeds)) - len(common))


def _arms(
    group: Mapping[str, Any], own: Mapping[str, _Networks], usual: Mapping[str, _Networks]
) -> Iterator[tuple[dict[str, Any], Vector, dict[str, Pairs]]]:
    """The rows of one set at one size, each with its accuracies and its differences to rivals, which it still needs."""
    # One name is one arm: what a set calls like a usual activation gives way to it, and the note says so.
    clashing = sorted(own.keys() & usual.keys())
    networks = dict(sorted({**own, **usual}.items()))
    accuracies = {arm: found.accuracies for arm, found in networks.items()}
    counted = [found.learned for arm, found in own.items() if arm not in clashing]
    learned = {column: _most(one[column] for one in counted) for column in ("learned_width", "learned_depth")}
    size = {**group, **learned, "is_learned_size": _same_size(group, learned)}
    rivals = {
        "relu": "relu" if "relu" in accuracies else None,
        "best_pure": _best(accuracies, (arm for arm in accuracies if arm.startswith("pure-"))),
        "best_usual": _best(accuracies, iter(usual)),
    }
    note = _missing(rivals, "mixed" in accuracies)
    if clashing:
        words = f"left out, because named like a usual activation: {', '.join(clashing)}"
        note = "; ".join(filter(None, [note, words]))
    for arm, found in networks.items():
        record = {**size, "arm": arm, "seeds": len(found.seeds), "diverged": found.diverged, "note": note}
        others = {f"vs_{rival}": other for rival, other in rivals.items() if other and other != arm}
        record |= {f"{name}_arm": other for name, other in others.items()}
        yield record, found.accuracies, {name: _pair(found, networks[other]) for name, other in others.items()}


def _most(values: Iterable[Any]) -> Any:
    return max((value for value in values if pd.notna(value)), default=pd.NA)


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
