"""The cells of a scale passport: at every size the differences of the mix to each rival, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.merit import collapsed, merit_of, metric_of
from analysis.passport_label import KIND, Rules
from analysis.statistics import Vector
from search.schema import CONTROLS

SIZE: Final = [*KIND, "depth", "width"]
"""Columns that name one size."""

BEST_USUAL: Final = "best usual"
BEST_PURE: Final = "best pure"
LEARNED_SINGLE: Final = "learned K = 1"
"""Rivals that may be one of several arms; the others are single arms: relu, and the controls."""


@dataclass(frozen=True)
class Cell:
    """The mix against one rival at one size.

    Attributes:
        record: what is known so far, by column of the grid.
        by_arm: differences to each arm of the rival with enough pairs, in the order of the seeds.
        shown: differences by seed to the arm with the highest mean.
    """

    record: dict[str, Any]
    by_arm: tuple[Vector, ...]
    shown: pd.Series[float]

    @property
    def finite(self) -> Vector:
        """The differences that are numbers, shape (pairs with a value on both sides,)."""
        values: Vector = np.asarray(self.shown, dtype=np.float64)
        return values[np.isfinite(values)]


def cells_of(own: pd.DataFrame, usual: pd.DataFrame, singles: pd.DataFrame, rules: Rules) -> Iterator[Cell]:
    """All cells, size by size; the arguments are those of `analysis.passport_grid.passport_grid`."""
    of = {"own": own, "usual": usual, "single": singles}
    rivals = _rivals({name: sorted(rows["arm"].astype(str).unique()) for name, rows in of.items()})
    rows = pd.concat([frame.assign(of=name) for name, frame in of.items()], ignore_index=True)
    rows = rows.assign(
        merit=merit_of(rows), judged_by=metric_of(rows), broken=collapsed(rows),
        diverged=rows["diverged"].fillna(value=False).astype(bool),
    )  # fmt: skip
    merits = rows.pivot_table(
        index=[*SIZE, "seed"], columns="arm", values="merit", aggfunc="first", observed=True, dropna=True
    )
    shares = rows.groupby([*SIZE, "of", "arm"])[["broken", "diverged"]].agg(["sum", "mean", "size"])
    places = rows[rows["of"] == "own"].groupby(SIZE)[["learned_width", "learned_depth"]].first()
    metrics = rows.groupby(SIZE)["judged_by"].first()
    for place in places.reset_index().to_dict("records"):
        key = tuple(place[column] for column in SIZE)
        size = {str(column): place[column] for column in SIZE} | {"metric": metrics[key]}
        size |= {"is_learned": _is_learned(place)} | _mix(shares.loc[key], rules)
        here = merits.loc[key] if key in merits.index else merits.iloc[:0].droplevel(list(range(len(SIZE))))
        for rival, arms in rivals.items():
            yield _cell(size | {"rival": rival}, here, [arm for arm in arms if arm in here])


def _rivals(arms: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Rival → its arms, those that have networks at any size; best usual and relu always."""
    own, usual = arms["own"], arms["usual"]
    groups = {BEST_USUAL: usual, "relu": [arm for arm in usual if arm == "relu"]}
    optional = {BEST_PURE: [arm for arm in own if arm.startswith("pure-")], LEARNED_SINGLE: arms["single"]}
    optional |= {name: [name] for name in CONTROLS if name in own}
    return groups | {rival: names for rival, names in optional.items() if names}


def _is_learned(place: Mapping[Any, Any]) -> bool:
    pairs = [(place[name], place[f"learned_{name}"]) for name in ("width", "depth")]
    return all(pd.notna(there) and bool(here == there) for here, there in pairs)


def _mix(shares: pd.DataFrame, rules: Rules) -> dict[str, Any]:
    """What a size says about the mix itself; ``shares`` by ``of`` and ``arm``."""
    of = shares.index.get_level_values("of")
    usual = shares.loc[of == "usual", ("broken", "mean")]
    lowest = float(usual.to_numpy(np.float64).min()) if len(usual) else float("nan")
    mixed = shares[(of == "own") & (shares.index.get_level_values("arm") == "mixed")]
    if mixed.empty:
        nothing = {"networks": 0, "diverged": 0, "collapsed_share": float("nan"), "collapses": False}
        return nothing | {"usual_collapsed_share": lowest}
    found = mixed.iloc[0]
    share, broken = float(found["broken", "mean"]), int(found["broken", "sum"])
    return {
        "networks": int(found["broken", "size"]),
        "diverged": int(found["diverged", "sum"]),
        "collapsed_share": share,
        "usual_collapsed_share": lowest,
        "collapses": share >= rules.collapse_share and broken >= 2 and lowest < rules.collapse_share,
    }


def _cell(record: dict[str, Any], merits: pd.DataFrame, arms: list[str]) -> Cell:
    """One cell, from the merits of one size by seed and arm, NaN where there is no network."""
    if "mixed" not in merits or not arms:
        return _nothing(record)
    mixed: Vector = merits["mixed"].to_numpy(np.float64)
    others: Vector = merits[arms].to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        differences = mixed[:, None] - others
    # Both diverged without a value: neither is better.
    differences[np.isneginf(mixed)[:, None] & np.isneginf(others)] = 0.0
    paired = ~np.isnan(differences)
    pairs = paired.sum(axis=0)
    if not pairs.max():
        return _nothing(record)
    # An arm that has hardly a seed in common with the mix can neither be the best nor be beaten.
    counted = np.flatnonzero(2 * pairs >= pairs.max())
    best = max(counted, key=lambda arm: float(others[paired[:, arm], arm].mean()))  # the first of equal ones
    kept = paired[:, best]
    lost = int((~np.isnan(mixed) | ~np.isnan(others[:, best])).sum()) - int(kept.sum())
    record = record | {"rival_arm": arms[best], "pairs": int(pairs[counted].min()), "lost": lost}
    by_arm = tuple(differences[paired[:, arm], arm] for arm in counted)
    return Cell(record, by_arm, pd.Series(differences[kept, best], index=merits.index[kept]))


def _nothing(record: dict[str, Any]) -> Cell:
    return Cell(record | {"pairs": 0, "lost": 0}, (), pd.Series(dtype=float))
