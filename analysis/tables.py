"""The tables of the report as text: cells are formatted, units stand in the heads, numbers are marked as such."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.comparison import LEARNED_AND_JUDGED, PROBES, Comparison, budget_words
from analysis.cross_size import RIVALS
from analysis.judgement import Verdict
from analysis.load import Run, counted_attempts
from analysis.pareto import objectives_of, pareto_table
from analysis.sets import CONDITIONS, METHODS, judged
from analysis.settings import regressions
from analysis.statistics import ENDS
from analysis.style import arm_order
from analysis.words import (
    NOTHING,
    condition_words,
    count,
    difference_words,
    number,
    percent,
    percent_interval,
    points,
    seconds,
    size_words,
    varying,
)
from search.schema import OBJECTIVES, Status


@dataclass(frozen=True)
class Column:
    """One column of a table: its head, and whether it holds numbers, which are set to the right."""

    head: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table ready to be set.

    Attributes:
        caption: what it shows; units that no head states.
        columns: heads from left to right.
        rows: cells as text; as many in each row as there are columns.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def without_empty_columns(self) -> Table:
        """The same table less the columns that say nothing in any row."""
        said = [any(row[place] not in {"", NOTHING} for row in self.rows) for place in range(len(self.columns))]
        kept = [place for place, anything in enumerate(said) if anything]
        columns = tuple(self.columns[place] for place in kept)
        return Table(self.caption, columns, tuple(tuple(row[place] for place in kept) for row in self.rows))


_OBJECTIVE_HEADS: Final = {
    "score": "score [%]",
    "cross_size_drop": "cross-size drop [points]",
    "num_params": "weights and biases",
    "flatness": "Hessian trace per parameter",
}
_RIVAL_HEADS: Final = {"relu": "– ReLU", "best_pure": "– best pure", "best_usual": "– best usual"}
_PANEL: Final = ["trial_id", *CONDITIONS]


def advantage_tables(verdict: Verdict) -> Iterator[Table]:
    """Per headline set: the mix's paired differences at each size."""
    spoken = verdict.table[verdict.table["headline"]]
    for _, rows in spoken.groupby(_PANEL, sort=False, dropna=False):
        heads = [_left("size"), *(Column(f"mixed {_RIVAL_HEADS[rival]} [points]") for rival in RIVALS)]
        heads += [Column("won against ReLU [%]"), Column("seeds"), _left("remarks")]
        lines = []
        for _, size in rows.groupby(["depth", "width"]):
            by_rival = {row["rival"]: row for row in size.to_dict("records")}
            cells = [_difference(by_rival[rival]) for rival in RIVALS]
            relu = by_rival["relu"]
            pairs = max((row["pairs"] for row in by_rival.values() if pd.notna(row["pairs"])), default=0)
            size_said = size_words(relu, learned=relu["is_learned_size"])
            lines.append((size_said, *cells, percent(relu["won"], 0), str(pairs), _remarks(list(by_rival.values()))))
        caption = (
            f"Advantage of the mix of {condition_words(rows.iloc[0], _PANEL)}, paired by seed, with 95 % intervals"
        )
        yield Table(caption, tuple(heads), tuple(lines)).without_empty_columns()


def accuracy_tables(verdict: Verdict, *, intervals: bool = True) -> Iterator[Table]:
    """Per headline set: the mean accuracy of every arm at each size; without intervals for narrow places."""
    spoken = set(verdict.table.loc[verdict.table["headline"], "trial_id"])
    for _, rows in verdict.sizes[verdict.sizes["trial_id"].isin(spoken)].groupby(_PANEL, sort=False, dropna=False):
        arms = arm_order(rows["arm"])
        lines = []
        for _, size in rows.groupby(["depth", "width"]):
            by_arm = {row["arm"]: row for row in size.to_dict("records")}
            first = next(iter(by_arm.values()))
            size_said = size_words(first, learned=first["is_learned_size"])
            lines.append((size_said, *(_accuracy(by_arm.get(arm), intervals) for arm in arms)))
        accuracy = f"Accuracy on {verdict.split} rows [%]{' with 95 % intervals' if intervals else ''}"
        caption = f"{accuracy}, set of {condition_words(rows.iloc[0], _PANEL)}"
        yield Table(caption, (_left("size"), *map(Column, arms)), tuple(lines))


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """Both methods at equal budgets, and their final sets."""
    if len(comparison.equal_budget):
        lines = []
        for row in comparison.equal_budget.to_dict("records"):
            values = [_method_value(row, method) for method in METHODS]
            difference = points(*(row[f"difference{end}"] for end in ENDS), signed=True)
            trials = "/".join(str(row[f"{method}_trials"]) for method in METHODS)
            budget = budget_words(row["budget_kind"], row["budget"])
            lines.append((f"validation {row['measure']} [%]", budget, *values, difference, trials))
        heads = (
            _left("best so far"),
            Column("budget per trial"),
            *map(Column, METHODS),
            Column("difference [points]"),
            Column("trials"),
        )
        caption = "Gradient minus evolution at equal budgets, means over trials with 95 % intervals"
        yield Table(f"{caption}. {PROBES}", heads, tuple(lines))
    for _, rows in comparison.final_sets.groupby(LEARNED_AND_JUDGED, dropna=False, sort=False):
        lines = []
        for row in rows.to_dict("records"):
            difference = points(*(row[f"difference{end}"] for end in ENDS), signed=True)
            accuracies = [percent(row[method]) for method in METHODS]
            lines.append((size_words(row), *accuracies, difference, percent(row["won"], 0), str(row["pairs"])))
        first = rows.iloc[0]
        heads = (_left("size"), *(Column(f"{first[f'{method}_trial']} [%]") for method in METHODS))
        heads = (*heads, Column("difference [points]"), Column("won by gradient [%]"), Column("seeds"))
        about = condition_words(first, LEARNED_AND_JUDGED)
        yield Table(f"Final sets on {first['split']} rows, paired by seed: {about}", heads, tuple(lines))


def trials_table(run: Run) -> Table:
    """Every trial: what it tried, how it ended, what it cost."""
    trials = counted_attempts(run.trials, run.trials).sort_values(["method", "number"], ascending=[False, True])
    # On the columns: a trial whose process was ended has neither.
    trials = trials.assign(rate=trials["inner_steps_total"].astype(float) / trials["wall_seconds"])
    heads = (
        _left("trial"), _left("status"), Column("score [%]"), Column("± sem"), Column("K"), _left("base"),
        Column("width"), Column("inner lr"), Column("outer lr"), Column("mutation"), Column("outer steps"),
        Column("inner steps"), Column("time"), Column("inner steps/s"),
    )  # fmt: skip
    lines = []
    for row in trials.to_dict("records"):
        rates = [_significant(row[name]) for name in ("inner_lr", "outer_lr", "mutation_scale")]
        lines.append((
            _text(row["trial_id"]), _ending(row), percent(row["score"]), percent(row["score_sem"]),
            number(row["num_types"], 0), _text(row["base"]), number(row["width"], 0), *rates,
            number(row["outer_steps"], 0), number(row["inner_steps_total"], 0), seconds(row["wall_seconds"]),
            number(row["rate"], 0),
        ))  # fmt: skip
    of_skill = set(trials["task"]) & regressions([run])
    score = "skill of fresh networks on validation rows, 1 - root mean squared error of standardised targets"
    score = score if of_skill else "accuracy of fresh networks on validation rows"
    return Table(f"Trials; the score is the mean {score}", heads, tuple(lines)).without_empty_columns()


def pareto_tables(run: Run) -> Iterator[Table]:
    """The Pareto set of a search for several objectives, if it was one."""
    rows, names = pareto_table(run), objectives_of(run)
    front = rows[rows["front"]]
    if front.empty:
        return
    heads = (_left("trial"), *(Column(f"{_OBJECTIVE_HEADS[name]} ({OBJECTIVES[name]})") for name in names))
    lines = [
        (_text(row["trial_id"]), *(_objective(name, row[name]) for name in names)) for row in front.to_dict("records")
    ]
    caption = f"Pareto set: {len(front)} of {count(len(rows), 'trial')}, beaten in all objectives by no other"
    yield Table(caption, heads, tuple(lines))


def failures_table(run: Run) -> Table:
    """Every trial attempt that did not end well, and what it said."""
    bad = run.trials[~run.trials["status"].isin([Status.OK, Status.PRUNED])].sort_values(["trial_id", "attempt"])
    heads = (_left("trial"), Column("attempt"), _left("status"), _left("error"))
    lines = []
    for row in bad.to_dict("records"):
        words = ": ".join(str(row[name]) for name in ("error_type", "error") if pd.notna(row[name]))
        lines.append((_text(row["trial_id"]), number(row["attempt"], 0), _text(row["status"]), words or NOTHING))
    return Table("Trial attempts that did not end with status ok or pruned", heads, tuple(lines))


def cost_table(run: Run) -> Table:
    """What a judged network costs, size by size."""
    heads = (
        _left("size"),
        Column("networks"),
        Column("weights"),
        Column("time per network"),
        Column("inner steps/s"),
    )
    lines = []
    networks = judged(run.evaluations)
    kinds = varying(networks, ["task", "architecture"])
    for _, rows in networks.groupby([*kinds, "depth", "width"]):
        total = rows["wall_seconds"].sum()
        rate = rows["inner_steps"].sum() / total if total else float("nan")
        weights, time = rows["num_params"].median(), rows["wall_seconds"].mean()
        first = rows.iloc[0]
        size = ", ".join(filter(None, [size_words(first), condition_words(first, kinds)]))
        lines.append((size, number(len(rows), 0), number(weights, 0), seconds(time), number(rate, 0)))
    return Table("Cost of a judged network (batched: time of a batch ÷ its networks)", heads, tuple(lines))


def settings_rows(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted keys with their values as text."""
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from settings_rows(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        text = ", ".join(map(str, settings)) if isinstance(settings, list) else str(settings)
        yield prefix, text if text not in {"", "{}", "None"} else NOTHING


def _left(head: str) -> Column:
    return Column(head, numeric=False)


def _ending(row: Mapping[Hashable, Any]) -> str:
    """A trial's status, with where the row comes from if the trial was not run."""
    copied = "" if pd.isna(row["copied_from"]) else f", copy of {row['copied_from']}"
    return _text(row["status"]) + copied


def _text(value: Any) -> str:
    return NOTHING if pd.isna(value) else str(value)


def _significant(value: Any) -> str:
    return NOTHING if pd.isna(value) else f"{value:.3g}"


def _objective(name: str, value: Any) -> str:
    if name in {"score", "cross_size_drop"}:
        return percent(value)
    return number(value, 0) if name == "num_params" else _significant(value)


def _difference(row: dict[Any, Any]) -> str:
    arm = None if row["rival"] == "relu" else row["rival_arm"]
    return difference_words(row["difference"], row["low"], row["high"], arm=arm)


def _remarks(rows: Sequence[dict[Any, Any]]) -> str:
    lost = max((row["lost"] for row in rows if pd.notna(row["lost"])), default=0)
    remarks = [f"{count(lost, 'seed')} without a partner"] if lost else []
    remarks += sorted({str(row["outcome"]) for row in rows} & {"too few seeds", "not measured"})
    return "; ".join(remarks)


def _accuracy(row: dict[Any, Any] | None, with_interval: bool) -> str:
    if row is None:
        return NOTHING
    diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
    interval = f" {percent_interval(row['accuracy_low'], row['accuracy_high'])}" if with_interval else ""
    return f"{percent(row['accuracy'])}{interval}{diverged}".strip()


def _method_value(row: dict[Any, Any], method: str) -> str:
    value, low, high = (row[f"{method}{end}"] for end in ENDS)
    return f"{percent(value)} {percent_interval(low, high)}".strip()
