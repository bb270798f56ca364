"""A scale passport as one table, one row per size; and the passports of the sets that a run speaks about."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import pandas as pd

from analysis.load import Run
from analysis.merit import ACCURACY, LOSS
from analysis.passport import Passport, PassportError, scale_passport
from analysis.passport_cells import BEST_USUAL, SIZE
from analysis.passport_label import KIND, where
from analysis.sets import PLAIN, headline_sets
from analysis.tables import Cells, Column, Row, Table
from analysis.words import (
    NOTHING,
    condition_words,
    count,
    difference_words,
    number,
    p_value,
    percent,
    points,
    size_words,
    varying,
)

_UNITS: Final = {ACCURACY: "points", LOSS: "log points of loss"}


def passport_table(passport: Passport) -> Table:
    """One row per size: the advantage over every rival with its interval, what is kept of it, and what it amounts to.

    Differences of accuracy are in percentage points, those of loss in hundredths of a natural logarithm, which is about
    the percentage by which the loss is lower.

    Args:
        passport: the passport, of which a row of the table is one size.
    """
    rivals = list(dict.fromkeys(passport.grid["rival"]))
    unit = " or ".join(_UNITS[metric] for metric in (ACCURACY, LOSS) if metric in set(passport.grid["metric"]))
    said = varying(passport.grid, KIND)
    cells: Cells = {
        Column("size", numeric=False): lambda by: size_words(by[BEST_USUAL], learned=by[BEST_USUAL]["is_learned"]),
        Column("of", numeric=False): lambda by: condition_words(by[BEST_USUAL], said),
        **{Column(f"mixed – {rival} [{unit}]"): partial(_difference, rival) for rival in rivals},
        Column("p (Holm)"): lambda by: p_value(by[BEST_USUAL]["p_holm"]),
        Column("seeds"): lambda by: str(by[BEST_USUAL]["pairs"]),
        Column("won [%]"): lambda by: percent(by[BEST_USUAL]["won"], 0),
        Column("kept [%]"): lambda by: _kept(by[BEST_USUAL]),
        Column("at chance or diverged [%]"): lambda by: percent(by[BEST_USUAL]["collapsed_share"] or None, 0),
        Column("against best usual", numeric=False): lambda by: str(by[BEST_USUAL]["standing"]),
    }
    sizes = [
        {row["rival"]: row for row in size.to_dict("records")} for _, size in passport.grid.groupby(SIZE, sort=False)
    ]
    label = "no label" if passport.label is None else str(passport.label)
    regime = "" if passport.regime == PLAIN else f", {passport.regime}"
    conditions = f"{passport.split} rows, lr {passport.lr_protocol}, {passport.mixing}{regime}"
    caption = f"Scale passport of {passport.trial_id}: {label}; {conditions}, paired by seed, with 95 % intervals"
    return Table.of(caption, sizes, cells)


def passport_summary(passport: Passport) -> Iterator[str]:
    """What holds over the sizes of each task, against the best usual activation, in words."""
    said = varying(passport.summary, KIND)
    for row in passport.summary.to_dict("records"):
        unit = _UNITS[row["metric"]]
        place = f"{condition_words(row, said)}: " if said else ""
        if pd.isna(row["mean_advantage"]):
            yield f"{place}No mean over sizes: {row['mean_note']}."
        else:
            mean = points(row["mean_advantage"], row["mean_low"], row["mean_high"], signed=True)
            spread = number(100 * row["between_sizes"], 1)
            sizes = count(row["sizes"], "size")
            yield f"{place}Mean over {sizes}: {mean} {unit}; standard deviation from size to size {spread}."
        slopes = [
            f"{points(row[f'{name}_slope'], row[f'{name}_slope_low'], row[f'{name}_slope_high'], signed=True)} {unit} "
            f"per doubling of the {name}"
            for name in ("width", "depth")
            if pd.notna(row[f"{name}_slope"])
        ]
        if slopes:
            yield f"{place}The advantage changes by {' and '.join(slopes)}."
        worst = points(row["worst_advantage"], row["worst_low"], row["worst_high"], signed=True)
        at = where({"width": row["worst_width"], "depth": row["worst_depth"]})
        yield f"{place}Least advantage at {at}: {worst} {unit}."


def headline_passports(
    run: Run, *, lr_protocol: str | None = None, regime: str | None = None
) -> tuple[list[Passport], list[str]]:
    """The passports of each method's headline set, and in words why one of them has none.

    Args:
        run: the run.
        lr_protocol: as in `scale_passport`.
        regime: as in `scale_passport`.
    """
    found: list[Passport] = []
    words: list[str] = []
    for chosen in headline_sets(run).itertuples():
        try:
            trial, own = str(chosen.trial_id), str(chosen.run_id)
            found.append(
                scale_passport(run.evaluations, trial_id=trial, run_id=own, lr_protocol=lr_protocol, regime=regime)
            )
        except PassportError as error:
            words.append(str(error))
    if not found and not words:
        words.append(
            "No learned set has been evaluated yet; `ldnn evaluate` trains the networks that a passport needs."
        )
    return found, words


def passport_tables(run: Run) -> Iterator[Table]:
    """The tables of those passports."""
    return (passport_table(passport) for passport in headline_passports(run)[0])


def _difference(rival: str, by_rival: Row) -> str:
    row = by_rival[rival]
    arm = None if row["rival_arm"] == rival else row["rival_arm"]
    return difference_words(row["advantage"], row["low"], row["high"], arm=arm, lost=row["lost"])


def _kept(row: Row) -> str:
    if row["is_learned"] or pd.isna(row["retention"]):
        return NOTHING
    return f"{100 * row['retention']:.0f} [{100 * row['retention_low']:.0f}, {100 * row['retention_high']:.0f}]"
