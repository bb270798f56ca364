"""The tables of the report as text: cells are formatted, units stand in the heads, numbers are marked as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import pandas as pd

from analysis.comparison import LEARNED_AND_JUDGED, PROBES, Comparison, budget_words
from analysis.cross_size import RIVALS
from analysis.judgement import Verdict
from analysis.load import Run, counted_attempts
from analysis.pareto import objectives_of, pareto_table
from analysis.sets import CONDITIONS, METHODS, judged
from analysis.settings import flat_settings, regressions
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


Row: TypeAlias = dict[Any, Any]
Cells: TypeAlias = Mapping[Column, Callable[[Row], str]]


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

    @classmethod
    def of(cls, caption: str, rows: Iterable[Row], cells: Cells) -> Table:
        """A table of such rows; ``cells`` says what stands in each column, and one that says nothing is left out."""
        lines = [[cell(row) for cell in cells.values()] for row in rows]
        kept = [place for place, said in enumerate(zip(*lines, strict=True)) if set(said) - {"", NOTHING}]
        columns = tuple(cells)
        found = tuple(tuple(line[place] for place in kept) for line in lines)
        return cls(caption, tuple(columns[place] for place in kept), found)


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
        sizes = [{row["rival"]: row for row in size.to_dict("records")} for _, size in rows.groupby(["depth", "width"])]
        cells: Cells = {
            _left("size"): lambda by: size_words(by["relu"], learned=by["relu"]["is_learned_size"]),
            **{Column(f"mixed {_RIVAL_HEADS[rival]} [points]"): partial(_difference_to, rival) for rival in RIVALS},
            Column("won against ReLU [%]"): lambda by: percent(by["relu"]["won"], 0),
            Column("seeds"): lambda by: str(
                max((row["pairs"] for row in by.values() if pd.notna(row["pairs"])), default=0)
            ),
            _left("remarks"): _remarks,
        }
        caption = (
            f"Advantage of the mix of {condition_words(rows.iloc[0], _PANEL)}, paired by seed, with 95 % intervals"
        )
        yield Table.of(caption, sizes, cells)


def accuracy_tables(verdict: Verdict, *, intervals: bool = True) -> Iterator[Table]:
    """Per headline set: the mean accuracy of every arm at each size; without intervals for narrow places."""
    spoken = set(verdict.table.loc[verdict.table["headline"], "trial_id"])
    for _, rows in verdict.sizes[verdict.sizes["trial_id"].isin(spoken)].groupby(_PANEL, sort=False, dropna=False):
        sizes = [{row["arm"]: row for row in size.to_dict("records")} for _, size in rows.groupby(["depth", "width"])]
        cells: Cells = {
            _left("size"): _size_of_arms,
            **{Column(arm): partial(_accuracy_of, arm, with_interval=intervals) for arm in arm_order(rows["arm"])},
        }
        accuracy = f"Accuracy on {verdict.split} rows [%]{' with 95 % intervals' if intervals else ''}"
        caption = f"{accuracy}, set of {condition_words(rows.iloc[0], _PANEL)}"
        yield Table.of(caption, sizes, cells)


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """Both methods at equal budgets, and their final sets."""
    difference = {Column("difference [points]"): _difference}
    if len(comparison.equal_budget):
        cells: Cells = {
            _left("best so far"): lambda row: f"validation {row['measure']} [%]",
            Column("budget per trial"): lambda row: budget_words(row["budget_kind"], row["budget"]),
            **{Column(method): partial(percent_cell, name=method) for method in METHODS},
            **difference,
            Column("trials"): lambda row: "/".join(str(row[f"{method}_trials"]) for method in METHODS),
        }
        caption = "Gradient minus evolution at equal budgets, means over trials with 95 % intervals"
        yield Table.of(f"{caption}. {PROBES}", comparison.equal_budget.to_dict("records"), cells)
    for _, rows in comparison.final_sets.groupby(LEARNED_AND_JUDGED, dropna=False, sort=False):
        first = rows.iloc[0]
        trials = {method: Column(f"{first[f'{method}_trial']} [%]") for method in METHODS}
        cells = {
            _left("size"): size_words,
            **{trials[method]: partial(percent_cell, name=method, with_interval=False) for method in METHODS},
            **difference,
            Column("won by gradient [%]"): lambda row: percent(row["won"], 0),
            Column("seeds"): lambda row: str(row["pairs"]),
        }
        about = condition_words(first, LEARNED_AND_JUDGED)
        caption = f"Final sets on {first['split']} rows, paired by seed: {about}"
        yield Table.of(caption, rows.to_dict("records"), cells)


def trials_table(run: Run) -> Table:
    """Every trial: what it tried, how it ended, what it cost."""
    trials = counted_attempts(run.trials, run.trials).sort_values(["method", "number"], ascending=[False, True])
    # On the columns: a trial whose process was ended has neither.
    trials = trials.assign(rate=trials["inner_steps_total"].astype(float) / trials["wall_seconds"])
    cells: Cells = {
        _left("trial"): lambda row: _text(row["trial_id"]),
        _left("status"): _ending,
        Column("score [%]"): lambda row: percent(row["score"]),
        Column("± sem"): lambda row: percent(row["score_sem"]),
        Column("K"): lambda row: number(row["num_types"], 0),
        _left("base"): lambda row: _text(row["base"]),
        Column("width"): lambda row: number(row["width"], 0),
        Column("inner lr"): lambda row: _significant(row["inner_lr"]),
        Column("outer lr"): lambda row: _significant(row["outer_lr"]),
        Column("mutation"): lambda row: _significant(row["mutation_scale"]),
        Column("outer steps"): lambda row: number(row["outer_steps"], 0),
        Column("inner steps"): lambda row: number(row["inner_steps_total"], 0),
        Column("time"): lambda row: seconds(row["wall_seconds"]),
        Column("inner steps/s"): lambda row: number(row["rate"], 0),
    }
    of_skill = set(trials["task"]) & regressions([run])
    score = "skill of fresh networks on validation rows, 1 - root mean squared error of standardised targets"
    score = score if of_skill else "accuracy of fresh networks on validation rows"
    caption = f"Trials; the score is the mean {score}"
    return Table.of(caption, trials.to_dict("records"), cells)


def pareto_tables(run: Run) -> Iterator[Table]:
    """The Pareto set of a search for several objectives, if it was one."""
    rows, names = pareto_table(run), objectives_of(run)
    front = rows[rows["front"]]
    if front.empty:
        return
    heads = {name: Column(f"{_OBJECTIVE_HEADS[name]} ({OBJECTIVES[name]})") for name in names}
    cells: Cells = {_left("trial"): lambda row: _text(row["trial_id"])}
    cells = {**cells, **{head: partial(_objective, name) for name, head in heads.items()}}
    caption = f"Pareto set: {len(front)} of {count(len(rows), 'trial')}, beaten in all objectives by no other"
    yield Table.of(caption, front.to_dict("records"), cells)


def failures_table(run: Run) -> Table:
    """Every trial attempt that did not end well, and what it said."""
    bad = run.trials[~run.trials["status"].isin([Status.OK, Status.PRUNED])].sort_values(["trial_id", "attempt"])
    said = ("error_type", "error")
    cells: Cells = {
        _left("trial"): lambda row: _text(row["trial_id"]),
        Column("attempt"): lambda row: number(row["attempt"], 0),
        _left("status"): lambda row: _text(row["status"]),
        _left("error"): lambda row: ": ".join(str(row[name]) for name in said if pd.notna(row[name])) or NOTHING,
    }
    return Table.of("Trial attempts that did not end with status ok or pruned", bad.to_dict("records"), cells)


def cost_table(run: Run) -> Table:
    """What a judged network costs, size by size."""
    networks = judged(run.evaluations)
    kinds = varying(networks, ["task", "architecture"])
    sizes = networks.groupby([*kinds, "depth", "width"]).agg(
        networks=("seed", "size"), weights=("num_params", "median"), each=("wall_seconds", "mean"),
        total=("wall_seconds", "sum"), steps=("inner_steps", "sum"),
    )  # fmt: skip
    cells: Cells = {
        _left("size"): lambda row: ", ".join(filter(None, [size_words(row), condition_words(row, kinds)])),
        Column("networks"): lambda row: number(row["networks"], 0),
        Column("weights"): lambda row: number(row["weights"], 0),
        Column("time per network"): lambda row: seconds(row["each"]),
        Column("inner steps/s"): lambda row: number(row["steps"] / row["total"], 0) if row["total"] else NOTHING,
    }
    caption = "Cost of a judged network (batched: time of a batch ÷ its networks)"
    return Table.of(caption, sizes.reset_index().to_dict("records"), cells)


def settings_rows(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested settings as dotted keys with their values as text."""
    for key, value in flat_settings(settings):
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield key, text if text not in {"", "{}", "None"} else NOTHING


def _left(head: str) -> Column:
    return Column(head, numeric=False)


def _ending(row: Mapping[str, Any]) -> str:
    """A trial's status, with where the row comes from if the trial was not run."""
    copied = "" if pd.isna(row["copied_from"]) else f", copy of {row['copied_from']}"
    return _text(row["status"]) + copied


def _text(value: Any) -> str:
    return NOTHING if pd.isna(value) else str(value)


def _significant(value: Any) -> str:
    return NOTHING if pd.isna(value) else f"{value:.3g}"


def _objective(name: str, row: Row) -> str:
    value = row[name]
    if name in {"score", "cross_size_drop"}:
        return percent(value)
    return number(value, 0) if name == "num_params" else _significant(value)


def _difference_to(rival: str, by_rival: Row) -> str:
    row = by_rival[rival]
    arm = None if rival == "relu" else row["rival_arm"]
    return difference_words(row["difference"], row["low"], row["high"], arm=arm)


def _difference(row: Row) -> str:
    """Of a row that has the column ``difference``, with the ends of its interval, and it may be the seeds lost."""
    return difference_words(*(row[f"difference{end}"] for end in ENDS), lost=row.get("lost"))


def _remarks(by_rival: Row) -> str:
    rows = by_rival.values()
    lost = max((row["lost"] for row in rows if pd.notna(row["lost"])), default=0)
    remarks = [f"{count(lost, 'seed')} without a partner"] if lost else []
    remarks += sorted({str(row["outcome"]) for row in rows} & {"too few seeds", "not measured"})
    return "; ".join(remarks)


def _size_of_arms(by_arm: Row) -> str:
    first = next(iter(by_arm.values()))
    return size_words(first, learned=first["is_learned_size"])


def _accuracy_of(arm: str, by_arm: Row, *, with_interval: bool) -> str:
    if arm not in by_arm:
        return NOTHING
    diverged = by_arm[arm]["diverged"]
    return percent_cell(by_arm[arm], name="accuracy", with_interval=with_interval) + (
        f", {diverged} diverged" if diverged else ""
    )


def percent_cell(row: Row, *, name: str, with_interval: bool = True) -> str:
    """A share of a row in percent, with its interval if that is wanted and there is one."""
    interval = percent_interval(row[f"{name}_low"], row[f"{name}_high"]) if with_interval else ""
    return f"{percent(row[name])} {interval}".rstrip()
