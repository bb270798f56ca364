"""The grid of a scale passport: the mix of one set against every rival at every size, tested and corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.merit import collapsed, merit_of, metric_of
from analysis.passport_label import Rules, Standing
from analysis.scaling import retentions
from analysis.significance import (
    LEVEL,
    SignedRanks,
    against_best,
    chance_of_winning,
    detectable_difference,
    equivalence_margin,
    holm,
    needed_pairs,
    signed_rank_tests,
)
from analysis.statistics import Vector, mean_intervals
from search.schema import CONTROLS

SIZE: Final = ["task", "architecture", "depth", "width"]
"""Columns that name one size."""

BEST_USUAL: Final = "best usual"
BEST_PURE: Final = "best pure"
LEARNED_SINGLE: Final = "learned K = 1"
"""Rivals that may be one of several arms; the others are single arms: relu, and the controls."""

COLUMNS: Final = [
    *SIZE, "metric", "is_learned", "rival", "rival_arm", "advantage", "low", "high", "interval", "pairs", "lost",
    "needed", "won", "won_low", "won_high", "p", "p_holm", "p_small", "p_small_holm", "standing", "detectable",
    "equivalent_within", "retention", "retention_low", "retention_high", "retention_note", "networks", "diverged",
    "collapsed_share", "usual_collapsed_share", "collapses",
]  # fmt: skip


_USED: Final = [
    *SIZE, "arm", "of", "seed", "merit", "judged_by", "broken", "diverged", "learned_width", "learned_depth",
]  # fmt: skip


@dataclass(frozen=True)
class _Cell:
    """The mix against one rival at one size.

    Attributes:
        record: what is known so far, by column.
        by_arm: differences to each arm of the rival with enough pairs, in the order of the seeds.
        shown: differences by seed to the arm with the highest mean.
    """

    record: dict[str, Any]
    by_arm: tuple[Vector, ...]
    shown: pd.Series[float]

    @property
    def finite(self) -> Vector:
        values: Vector = np.asarray(self.shown, dtype=np.float64)
        return values[np.isfinite(values)]


@dataclass(frozen=True)
class Grid:
    """All cells of a passport.

    Attributes:
        table: one row per size and rival, columns `COLUMNS`.
        differences: size → differences by seed to the best usual arm there.
    """

    table: pd.DataFrame
    differences: Mapping[tuple[Any, ...], pd.Series[float]]


def passport_grid(
    own: pd.DataFrame, usual: pd.DataFrame, singles: pd.DataFrame, rules: Rules, chance: Mapping[str, float] | None
) -> Grid:
    """Hold the mix against its rivals at every size at which it, or one of them, has networks.

    Args:
        own: rows of the set: mixed, pure types, controls.
        usual: rows of usual arms under the same conditions.
        singles: rows of sets with one learned type under the same conditions, ``arm`` being the trial's id.
        rules: margins and shares.
        chance: accuracy of a guess by task, where it is not known.
    """
    cells = list(_cells(own, usual, singles, rules, chance))
    _estimate(cells)
    for rival in dict.fromkeys(cell.record["rival"] for cell in cells):
        _test([cell for cell in cells if cell.record["rival"] == rival], rules)
    _retain(cells)
    table = pd.DataFrame.from_records([cell.record for cell in cells], columns=COLUMNS)
    differences = {_key(cell): cell.shown for cell in cells if cell.record["rival"] == BEST_USUAL}
    return Grid(_typed(table), differences)


def _cells(
    own: pd.DataFrame, usual: pd.DataFrame, singles: pd.DataFrame, rules: Rules, chance: Mapping[str, float] | None
) -> Iterator[_Cell]:
    everything = pd.concat([own.assign(of="own"), usual.assign(of="usual"), singles.assign(of="single")])
    everything = everything.assign(
        merit=merit_of(everything), judged_by=metric_of(everything), broken=collapsed(everything, chance)
    )
    everything = everything[_USED]
    rivals = _rivals(everything)
    there = own[SIZE].drop_duplicates()
    sizes = pd.MultiIndex.from_frame(there) if len(there) else pd.MultiIndex.from_arrays([[]] * len(SIZE), names=SIZE)
    for key, rows in everything.groupby(SIZE):
        if key not in sizes:
            continue
        arms = {str(arm): part.set_index("seed")["merit"].dropna() for arm, part in rows.groupby("arm")}
        mixed = rows[(rows["arm"] == "mixed") & (rows["of"] == "own")]
        size = dict(zip(SIZE, key, strict=True)) | _mix(mixed, rows, rules) | {"metric": rows["judged_by"].iloc[0]}
        for rival, names in rivals.items():
            present = {arm: arms[arm] for arm in names if arm in arms}
            yield _cell(size | {"rival": rival}, arms.get("mixed", pd.Series(dtype=float)), present)


def _rivals(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Rival → its arms, those that have networks at any size; best usual and relu always."""
    own = sorted(rows.loc[rows["of"] == "own", "arm"].astype(str).unique())
    usual = sorted(rows.loc[rows["of"] == "usual", "arm"].astype(str).unique())
    singles = sorted(rows.loc[rows["of"] == "single", "arm"].astype(str).unique())
    groups = {BEST_USUAL: usual, "relu": [arm for arm in usual if arm == "relu"]}
    pure = [arm for arm in own if arm.startswith("pure-")]
    optional = {BEST_PURE: pure, LEARNED_SINGLE: singles} | {name: [name] for name in CONTROLS if name in own}
    return groups | {rival: arms for rival, arms in optional.items() if arms}


def _mix(mixed: pd.DataFrame, rows: pd.DataFrame, rules: Rules) -> dict[str, Any]:
    """What a size says about the mix itself."""
    usual = rows[rows["of"] == "usual"].groupby("arm")["broken"].mean()
    lowest = float(usual.min()) if len(usual) else float("nan")
    share = float(mixed["broken"].mean()) if len(mixed) else float("nan")
    many = share >= rules.collapse_share and int(mixed["broken"].sum()) >= 2
    learned = rows.loc[rows["of"] == "own", ["width", "depth", "learned_width", "learned_depth"]].iloc[0]
    pairs = [(learned["width"], learned["learned_width"]), (learned["depth"], learned["learned_depth"])]
    return {
        "is_learned": all(pd.notna(there) and here == there for here, there in pairs),
        "networks": len(mixed),
        "diverged": int(mixed["diverged"].fillna(value=False).sum()),
        "collapsed_share": share,
        "usual_collapsed_share": lowest,
        "collapses": bool(many and lowest < rules.collapse_share),
    }


def _cell(record: dict[str, Any], mixed: pd.Series[float], arms: Mapping[str, pd.Series[float]]) -> _Cell:
    differences = {arm: _differences(mixed, other) for arm, other in arms.items()}
    most = max((len(found) for found in differences.values()), default=0)
    if not most:
        return _Cell(record | {"pairs": 0, "lost": 0}, (), pd.Series(dtype=float))
    # An arm that has hardly a seed in common with the mix can neither be the best nor be beaten.
    counted = {arm: found for arm, found in differences.items() if 2 * len(found) >= most}
    best = max(sorted(counted), key=lambda arm: _mean(arms[arm].loc[counted[arm].index]))
    lost = len(mixed.index.union(arms[best].index)) - len(counted[best])
    record = record | {"rival_arm": best, "pairs": min(map(len, counted.values())), "lost": lost}
    by_arm: tuple[Vector, ...] = tuple(np.asarray(found, dtype=np.float64) for found in counted.values())
    return _Cell(record, by_arm, counted[best])


def _differences(mixed: pd.Series[float], other: pd.Series[float]) -> pd.Series[float]:
    """Mix minus other by seed; zero where both diverged without a value, infinite where one did."""
    common = mixed.index.intersection(other.index).sort_values()
    first, second = mixed.loc[common].to_numpy(float), other.loc[common].to_numpy(float)
    both = np.isneginf(first) & np.isneginf(second)
    with np.errstate(invalid="ignore"):
        return pd.Series(np.where(both, 0.0, first - second), index=common)


def _mean(values: pd.Series[float]) -> float:
    return float(values.mean())


def _estimate(cells: Sequence[_Cell]) -> None:
    for cell, estimate in zip(cells, mean_intervals([cell.finite for cell in cells]), strict=True):
        winning = chance_of_winning(cell.shown.to_numpy(float))
        cell.record.update(
            advantage=estimate.value, low=estimate.low, high=estimate.high, interval=str(estimate.interval),
            won=winning.value, won_low=winning.low, won_high=winning.high,
            equivalent_within=equivalence_margin(estimate),
        )  # fmt: skip


def _test(cells: Sequence[_Cell], rules: Rules) -> None:
    """Tests of one rival, a family over sizes: better or worse, and whether the advantage is below the margin."""
    measured = [cell for cell in cells if cell.record["pairs"]]
    needed = needed_pairs(len(measured))
    family = [cell for cell in measured if cell.record["pairs"] >= needed]
    margins = [rules.margin[str(cell.record["metric"])] for cell in family]
    nothing = _tests(family, [0.0] * len(family))
    small = _tests(family, margins)
    p_values = [test.two_sided for test in nothing]
    p_small = [test.below for test in small]
    for cell in cells:
        cell.record["needed"] = needed
        cell.record["standing"] = Standing.TOO_FEW if cell.record["pairs"] else Standing.NOT_MEASURED
    columns = zip(family, nothing, p_values, holm(p_values), p_small, holm(p_small), strict=True)
    for cell, test, p, corrected, p_below, corrected_below in columns:
        cell.record.update(p=p, p_holm=corrected, p_small=p_below, p_small_holm=corrected_below)
        cell.record["standing"] = _standing(cell.record, test)
        cell.record["detectable"] = detectable_difference(cell.finite, comparisons=len(family))


def _tests(cells: Sequence[_Cell], against: Sequence[float]) -> list[SignedRanks]:
    samples = [sample - value for cell, value in zip(cells, against, strict=True) for sample in cell.by_arm]
    tests = iter(signed_rank_tests(samples))
    return [against_best([next(tests) for _ in cell.by_arm]) for cell in cells]


def _standing(record: Mapping[str, Any], test: SignedRanks) -> Standing:
    if record["p_holm"] <= LEVEL:
        if test.above < test.below and not record["low"] <= 0:
            return Standing.BETTER
        if test.below < test.above and not record["high"] >= 0:
            return Standing.WORSE
    return Standing.NO_ADVANTAGE if record["p_small_holm"] <= LEVEL else Standing.UNCLEAR


def _retain(cells: Sequence[_Cell]) -> None:
    """What is kept at each size of the advantage where the set was learned: same task, same rival."""
    learned: dict[tuple[Any, ...], list[pd.Series[float]]] = {}
    for cell in cells:
        if cell.record["is_learned"] and len(cell.shown):
            learned.setdefault(_family(cell), []).append(cell.shown)
    waiting = []
    for cell in cells:
        there = learned.get(_family(cell), [])
        if there and len(cell.shown):
            # Of a set that was learned at several sizes the mean over them, seed by seed.
            base = pd.concat(there, axis=1).mean(axis=1, skipna=False)
            waiting.append((cell, pd.concat([cell.shown, base], axis=1, join="inner").to_numpy(float)))
        else:
            cell.record["retention_note"] = "not measured" if there else "not measured where it was learned"
    for (cell, _), kept in zip(waiting, retentions([(both[:, 0], both[:, 1]) for _, both in waiting]), strict=True):
        cell.record.update(
            retention=kept.value, retention_low=kept.low, retention_high=kept.high, retention_note=kept.words
        )


def _family(cell: _Cell) -> tuple[Any, ...]:
    return tuple(cell.record[column] for column in ("rival", "task", "architecture"))


def _key(cell: _Cell) -> tuple[Any, ...]:
    return tuple(cell.record[column] for column in SIZE)


_COUNTS: Final = {"depth", "width", "pairs", "lost", "needed", "networks", "diverged"}
_FLAGS: Final = {"is_learned", "collapses"}
_TEXTS: Final = {"task", "architecture", "metric", "rival", "rival_arm", "interval", "standing", "retention_note"}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    for column in table.columns:
        if column in _COUNTS:
            table[column] = table[column].astype("Int64")
        elif column in _FLAGS:
            table[column] = table[column].astype("bool")
        elif column in _TEXTS:
            table[column] = table[column].astype("str")
        else:
            table[column] = table[column].astype(np.float64)
    return table
