"""The grid of a scale passport: the mix of one set against every rival at every size, tested and corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.passport_cells import BEST_USUAL, SIZE, Cell, cells_of
from analysis.passport_label import KIND, Rules, Standing
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
from analysis.statistics import mean_intervals
from analysis.types_of_columns import typed

COLUMNS: Final = {
    "task": "as in evaluations",
    "architecture": "as in evaluations",
    "depth": "hidden layers",
    "width": "neurons per hidden layer",
    "metric": "accuracy: advantages are shares (0..1) | loss: natural logarithms of a ratio of losses",
    "is_learned": "whether the set was learned at this width and depth",
    "rival": "best usual | relu | best pure | learned K = 1 | a control",
    "rival_arm": "of several arms the one with the highest mean there; a trial's id for learned K = 1",
    "advantage": "mean difference of mixed to that arm, paired by seed, in the unit of metric",
    "low": "lower end of its 95 % interval; null if there is none",
    "high": "upper end",
    "interval": "bca | percentile | few | point | none: how it was obtained",
    "pairs": "seeds that both have; of several arms the fewest",
    "lost": "seeds that only one of the two has",
    "needed": "fewest pairs that any claim at so many sizes needs",
    "won": "share of pairs won, ties half",
    "won_low": "lower end of its 95 % interval (Wilson)",
    "won_high": "upper end",
    "p": "two-sided, signed ranks, mixed against the rival (the best of its arms, whichever that is)",
    "p_holm": "the same after Holm's correction over the sizes of this rival",
    "p_small": "one-sided: signed ranks as low if the advantage were as large as the margin",
    "p_small_holm": "the same after Holm's correction over the sizes of this rival",
    "standing": "better | worse | no advantage | unclear | too few seeds | not measured",
    "detectable": "true difference that would be found with a chance of 80 %, correction included",
    "equivalent_within": "m of: equivalent within plus or minus m; null for few pairs",
    "retention": "advantage here by advantage where it was learned; null if undefined",
    "retention_low": "lower end of its 95 % interval (Fieller)",
    "retention_high": "upper end",
    "retention_note": "why it is undefined; empty if it is not",
    "networks": "networks of the arm mixed",
    "diverged": "how many of them diverged",
    "collapsed_share": "share of them that diverged or are at chance level",
    "usual_collapsed_share": "the same of the usual arm that has the lowest",
    "collapses": "whether that is a collapse by the rules",
}  # fmt: skip
"""Columns of the table and what they are."""


@dataclass(frozen=True)
class Grid:
    """All cells of a passport.

    Attributes:
        table: one row per size and rival, columns `COLUMNS`.
        differences: size → differences by seed to the best usual arm there.
    """

    table: pd.DataFrame
    differences: Mapping[tuple[Any, ...], pd.Series[float]]


def passport_grid(own: pd.DataFrame, usual: pd.DataFrame, singles: pd.DataFrame, rules: Rules) -> Grid:
    """Hold the mix against its rivals at every size at which it, or one of them, has networks.

    Args:
        own: rows of the set: mixed, pure types, controls.
        usual: rows of usual arms under the same conditions.
        singles: rows of sets with one learned type under the same conditions, ``arm`` being the trial's id.
        rules: margins and shares.
    """
    cells = list(cells_of(own, usual, singles, rules))
    _estimate(cells)
    for rival in dict.fromkeys(cell.record["rival"] for cell in cells):
        _test([cell for cell in cells if cell.record["rival"] == rival], rules)
    _retain(cells)
    table = pd.DataFrame.from_records([cell.record for cell in cells], columns=list(COLUMNS))
    differences = {_key(cell): cell.shown for cell in cells if cell.record["rival"] == BEST_USUAL}
    return Grid(typed(table), differences)


def _estimate(cells: Sequence[Cell]) -> None:
    for cell, estimate in zip(cells, mean_intervals([cell.finite for cell in cells]), strict=True):
        winning = chance_of_winning(cell.shown.to_numpy(float))
        cell.record.update(
            advantage=estimate.value, low=estimate.low, high=estimate.high, interval=str(estimate.interval),
            won=winning.value, won_low=winning.low, won_high=winning.high,
            equivalent_within=equivalence_margin(estimate),
        )  # fmt: skip


def _test(cells: Sequence[Cell], rules: Rules) -> None:
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


def _tests(cells: Sequence[Cell], against: Sequence[float]) -> list[SignedRanks]:
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


def _retain(cells: Sequence[Cell]) -> None:
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


def _family(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell.record[column] for column in ("rival", *KIND))


def _key(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell.record[column] for column in SIZE)
