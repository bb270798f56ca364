"""The scale passport: what happens to one activation set at other sizes, and one label for it.

    passport = scale_passport(run.evaluations, trial_id="gradient-0003")
    print(passport.label, *passport.sentences)
    write_passport(passport, "passport.parquet")

The rules of the labels stand in `analysis.passport_label`, what is tested and how in `analysis.passport_grid`, both for
readers in docs/passport.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.merit import LOSS
from analysis.passport_cells import BEST_USUAL, SIZE
from analysis.passport_grid import COLUMNS, Grid, passport_grid
from analysis.passport_label import KIND, Decision, Label, Rules, Standing, decide, where
from analysis.passport_rows import PassportError, passport_rows
from analysis.scaling import mean_over_sizes, slopes_per_doubling
from analysis.types_of_columns import typed
from analysis.words import count
from search.schema import CONTROLS

__all__ = ["SUMMARY_COLUMNS", "ControlResult", "Passport", "PassportError", "scale_passport"]

SUMMARY_COLUMNS: Final = {name: COLUMNS[name] for name in (*KIND, "metric")} | {
    "sizes": "sizes of this task; this and the rest are against the best usual arm",
    "learned_advantage": "advantage where the set was learned; null if that was not one evaluated size",
    "learned_low": "lower end of its 95 % interval",
    "learned_high": "upper end",
    "mean_advantage": "mean over sizes, each with its own true advantage (Paule and Mandel)",
    "mean_low": "lower end of its 95 % interval (Student, sizes - 1)",
    "mean_high": "upper end",
    "between_sizes": "standard deviation of the true advantage from size to size",
    "mean_note": "why there is no mean; empty if there is",
    "width_slope": "change of the advantage per doubling of the width; null if only one",
    "width_slope_low": "lower end of its 95 % interval",
    "width_slope_high": "upper end",
    "depth_slope": "the same per doubling of the depth",
    "depth_slope_low": "lower end of its 95 % interval",
    "depth_slope_high": "upper end",
    "worst_width": "width of the size with the lowest advantage, chosen by these rows",
    "worst_depth": "its depth",
    "worst_advantage": "its advantage",
    "worst_low": "lower end of its 95 % interval",
    "worst_high": "upper end",
}  # fmt: skip
"""Columns of the summary and what they are."""


@dataclass(frozen=True)
class ControlResult:
    """What became of one control.

    Attributes:
        name: key of `search.schema.CONTROLS`.
        beaten: sizes at which the mix is better than it, in words.
        failed: sizes at which it is not, though there were seeds enough to say so.
        unknown: sizes with too few seeds, or none.
    """

    name: str
    beaten: tuple[str, ...]
    failed: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Passport:
    """The cross-size verdict of one activation set.

    Attributes:
        run_id: the run it comes from.
        trial_id: the trial that found it.
        method: gradient or evolution.
        lr_protocol: how learning rates were chosen.
        mixing: how its types are spread.
        regime: under which training regime networks were trained.
        split: rows that judged: test, or val while there are no others.
        label: one word, or None where the data do not suffice for one.
        words: why it is that label, or why there is none.
        grid: one row per size and rival; columns `analysis.passport_grid.COLUMNS`; advantages in units of merit (share
            of right answers; logarithm of a ratio of losses).
        summary: one row per task and architecture: where learned, over sizes, slopes per doubling, worst size.
        controls: every control that was evaluated.
        notes: what else a reader must know: seeds lost, rows left out, what is missing.
        rules: the numbers in the rules.
    """

    run_id: str
    trial_id: str
    method: str
    lr_protocol: str
    mixing: str
    regime: str
    split: str
    label: Label | None
    words: str
    grid: pd.DataFrame
    summary: pd.DataFrame
    controls: tuple[ControlResult, ...]
    notes: tuple[str, ...]
    rules: Rules = field(default_factory=Rules)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Label, controls and notes in words."""
        label = "no label" if self.label is None else str(self.label)
        return (f"{self.trial_id}: {label}: {self.words}.", *_control_sentences(self.controls), *self.notes)

    @property
    def sizes(self) -> pd.DataFrame:
        """The rows of the grid that the label rests on: the mix against the best usual activation."""
        return self.grid[self.grid["rival"] == BEST_USUAL]


def scale_passport(
    evaluations: pd.DataFrame,
    *,
    trial_id: str,
    run_id: str | None = None,
    lr_protocol: str | None = None,
    mixing: str | None = None,
    regime: str | None = None,
    split: str | None = None,
    rules: Rules | None = None,
) -> Passport:
    """Judge one set at all sizes at which it was evaluated.

    Args:
        evaluations: rows of the evaluations table, usual arms and other sets included, best as a run has them
            (``run.evaluations``), which knows in each task what the accuracy of a guess is, whatever it is called.
        trial_id: the trial that found the set.
        run_id: its run; needed if the rows of several runs have such a trial.
        lr_protocol: rows of this protocol; if not given and there are several, per_arm_size.
        mixing: rows of this mixing; if not given and there are several, within_layer.
        regime: rows of this training regime; if not given and there are several, plain.
        split: test or val; if not given, val only as long as there are no test rows.
        rules: margins and shares; `Rules()` if not given.

    Raises:
        PassportError: the trial has no rows, or several runs have it.
    """
    rules = rules or Rules()
    rows = passport_rows(
        evaluations,
        trial_id=trial_id,
        run_id=run_id,
        split=split,
        lr_protocol=lr_protocol,
        mixing=mixing,
        regime=regime,
    )
    grid = passport_grid(rows.own, rows.usual, rows.singles, rules)
    sizes = grid.table[grid.table["rival"] == BEST_USUAL]
    decision = _decision(rows.own, rows.usual, sizes, rules)
    first = rows.own.iloc[0]
    return Passport(
        run_id=str(first["run_id"]),
        trial_id=trial_id,
        method=str(first["method"]),
        lr_protocol=str(first["lr_protocol"]),
        mixing=str(first["mixing"]),
        regime=str(first["regime"]),
        split=str(first["split"]),
        label=decision.label,
        words=decision.words,
        grid=grid.table,
        summary=_summary(grid),
        controls=tuple(_controls(grid.table)),
        notes=(*rows.notes, *_grid_notes(grid.table)),
        rules=rules,
    )


def _decision(own: pd.DataFrame, usual: pd.DataFrame, sizes: pd.DataFrame, rules: Rules) -> Decision:
    if "mixed" not in set(own["arm"]):
        return Decision(None, "the arm mixed has no networks; `ldnn evaluate` trains them")
    if usual.empty:
        return Decision(None, "no usual activation was evaluated under the same conditions, in the same run")
    if int(sizes["pairs"].max()) == 1:
        return Decision(None, "one seed only: it has no interval, and nothing can be tested")
    return decide(sizes, rules)


def _controls(table: pd.DataFrame) -> Iterator[ControlResult]:
    for name in CONTROLS:
        rows = table[table["rival"] == name]
        if rows.empty:
            continue
        named: dict[str, list[str]] = {"beaten": [], "failed": [], "unknown": []}
        for row in rows.to_dict("records"):
            unknown = row["standing"] in (Standing.TOO_FEW, Standing.NOT_MEASURED)
            outcome = "unknown" if unknown else "beaten" if row["standing"] == Standing.BETTER else "failed"
            named[outcome].append(where(row, table))
        yield ControlResult(name, *(tuple(named[outcome]) for outcome in ("beaten", "failed", "unknown")))


def _control_sentences(controls: tuple[ControlResult, ...]) -> Iterator[str]:
    for control in controls:
        if control.failed:
            beaten = f"; better at {', '.join(control.beaten)}" if control.beaten else ""
            yield f"Not better than the control {control.name} at {', '.join(control.failed)}{beaten}."
    won = [control.name for control in controls if control.beaten and not control.failed]
    if won:
        yield f"Better than {'these controls' if len(won) > 1 else 'the control'} wherever tested: {', '.join(won)}."


def _grid_notes(table: pd.DataFrame) -> Iterator[str]:
    for rival, rows in table.groupby("rival", sort=False):
        parts = [
            f"{where(row, table)}: {row['pairs']} pairs, {count(row['lost'], 'seed')} without a partner"
            for row in rows.to_dict("records")
            if row["lost"]
        ]
        if parts:
            yield f"Seeds of the mix and of {rival} differ at {'; '.join(parts)}."
        absent = rows[rows["standing"] == Standing.NOT_MEASURED]
        if len(absent):
            there = ", ".join(where(row, table) for row in absent.to_dict("records"))
            yield f"The mix or {rival} has no networks with common seeds at {there}."
    sizes = table[table["rival"] == BEST_USUAL]
    if not sizes["is_learned"].any():
        yield "It was not evaluated where it was learned (or its rows do not say where that was): no retention."
    by_loss = sizes[(sizes["metric"] == LOSS) & (sizes["diverged"] > 0)]
    if len(by_loss):
        there = ", ".join(where(row, table) for row in by_loss.to_dict("records"))
        yield f"Diverged networks have no loss at {there}: means leave them out, tests count them as lost."


def _summary(grid: Grid) -> pd.DataFrame:
    """Over the sizes of each task, from the differences to the best usual activation at each."""
    sizes = grid.table[(grid.table["rival"] == BEST_USUAL) & grid.table["advantage"].notna()]
    records = []
    for (task, architecture), rows in sizes.groupby(KIND, sort=False):
        series = [grid.differences[tuple(row[column] for column in SIZE)] for row in rows.to_dict("records")]
        together = pd.concat(series, axis=1).to_numpy(float)
        differences = np.where(np.isfinite(together), together, np.nan)
        mean = mean_over_sizes(differences)
        by_width, by_depth = slopes_per_doubling(differences, list(rows["width"]), list(rows["depth"]))
        worst = rows.sort_values("advantage", kind="stable").iloc[0]
        record: dict[str, Any] = {
            "task": task, "architecture": architecture, "metric": rows["metric"].iloc[0], "sizes": len(rows),
            "mean_advantage": mean.value, "mean_low": mean.low, "mean_high": mean.high,
            "between_sizes": mean.between, "mean_note": mean.words,
            "worst_width": worst["width"], "worst_depth": worst["depth"], "worst_advantage": worst["advantage"],
            "worst_low": worst["low"], "worst_high": worst["high"],
        }  # fmt: skip
        for name, slope in (("width_slope", by_width), ("depth_slope", by_depth)):
            record |= slope.columns(name) if slope else {}
        learned = rows[rows["is_learned"]]
        if len(learned) == 1:
            found = learned.iloc[0]
            record |= {f"learned_{end}": found[end] for end in ("advantage", "low", "high")}
        records.append(record)
    table = pd.DataFrame.from_records(records, columns=list(SUMMARY_COLUMNS))
    return typed(table)
