"""The verdict across sizes: where the mix of a learned set wins, where it does not, in a frame and in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import pandas as pd

from analysis.cross_size import RIVALS, SIZE, cross_size_table
from analysis.load import Run, counted_attempts
from analysis.merit import LOSS, metric_of
from analysis.sets import (
    CONDITIONS,
    SET,
    headline_sets,
    in_order,
    judged,
    judging_regime,
    judging_split,
    of_sets,
    regime_of,
)
from analysis.statistics import MIN_PAIRS
from analysis.types_of_columns import typed
from analysis.words import condition_words, count, percent, points, size_words, varying


class Outcome(StrEnum):
    """What a paired difference lets one say."""

    BETTER = "better"
    """The interval lies above zero."""
    WORSE = "worse"
    """The interval lies below zero."""
    UNCLEAR = "unclear"
    """The interval holds zero."""
    TOO_FEW = "too few seeds"
    """Fewer than `MIN_PAIRS` pairs: no claim either way."""
    NOT_MEASURED = "not measured"
    """The mix or its rival has no rows at that size."""


@dataclass(frozen=True)
class Verdict:
    """What the evaluation says about the sets of a run.

    Attributes:
        table: one row per set, size and rival: ``difference`` of the mix to it (share, 0..1) with ``low`` and ``high``,
            ``pairs``, ``lost``, ``won``, ``outcome`` and ``headline`` (whether the sentences speak about this set).
        headlines: the same in words at the size where a set was learned, for the set of each method with the
            highest validation score; and a warning where the table of a set is coarse.
        sentences: the headlines and what holds at the other sizes.
        sizes: the whole cross-size table that this rests on.
        split: which rows judged: test, or val as long as there are no test rows.
    """

    table: pd.DataFrame
    headlines: tuple[str, ...]
    sentences: tuple[str, ...]
    sizes: pd.DataFrame
    split: str


OUTSIDE_SHARE: Final = 0.01
"""Share of pre-activations outside the table above which the verdict says so."""

COARSE_TABLE: Final = 1e-4
"""Bound of the error of a looked-up value above which the verdict says so."""

_RIVAL_WORDS: Final = {
    "relu": "ReLU",
    "best_pure": "its best pure type",
    "best_usual": "the best usual activation",
}
_COLUMNS: Final = [
    *SET, "mixing", *SIZE, "learned_width", "learned_depth", "is_learned_size", "headline",
    "rival", "rival_arm", "difference", "low", "high", "interval", "pairs", "lost", "won", "outcome",
]  # fmt: skip


def verdict(run: Run) -> Verdict:
    """Judge the mix of every evaluated set against ReLU, its best pure type and the best usual activation.

    A claim needs an interval that excludes zero and at least `MIN_PAIRS` seeds; without them the sentence says so.

    Args:
        run: a run, whole or not; without evaluations the one sentence says how to have them.
    """
    split = judging_split(run.evaluations)
    sets = headline_sets(run)
    sizes = cross_size_table(run.evaluations, split=split)
    table = judge(sizes, sets)
    if sets.empty:
        words = "No learned set has been evaluated yet; `ldnn evaluate` trains the networks that a verdict needs."
        return Verdict(table, (words,), (words,), sizes, split)
    spoken = of_sets(table, sets)
    themes = list(_themes(spoken))
    headlines = [sentence for subject, rows in themes for sentence in _where_learned(subject, rows)]
    sentences = [sentence for subject, rows in themes for sentence in _sentences(subject, rows)]
    silent = sets[~sets["trial_id"].isin(spoken["trial_id"])]
    sentences += [_silence(run.evaluations, str(trial)) for trial in silent["trial_id"]]
    others = sorted(set(regime_of(run.evaluations)) - {judging_regime(run.evaluations)})
    if others:
        words = f"Networks trained under other regimes ({', '.join(others)}) are not in these sentences"
        sentences.append(f"{words}; `ldnn passport` with --regime speaks about them.")
    sentences += _outside_table(of_sets(run.evaluations, sets))
    coarse = list(_coarse_tables(of_sets(counted_attempts(run.activations, run.trials), sets)))
    headlines, sentences = headlines + coarse, sentences + coarse
    if split != "test":
        sentences.append("These are validation rows, which also chose the sets: the test is still to come.")
    return Verdict(table, tuple(headlines), tuple(sentences), sizes, split)


def _silence(evaluations: pd.DataFrame, trial_id: str) -> str:
    """Why nothing is said about a set that has evaluation rows."""
    if (metric_of(evaluations[evaluations["trial_id"] == trial_id]) == LOSS).any():
        words = "was judged by loss, and not by accuracy; `ldnn passport` holds it against its rivals"
        return f"mixed ({trial_id}) {words}."
    return f"mixed ({trial_id}) has no evaluation rows."


def _outside_table(evaluations: pd.DataFrame) -> Iterator[str]:
    """Where learned activations were used beyond the range on which they are tabulated."""
    rows = judged(evaluations)
    conditions = [*CONDITIONS, "regime"]
    keys = ["trial_id", "depth", "width", "arm", *conditions]
    grouped = rows.assign(regime=regime_of(rows)).groupby(keys, dropna=False)
    shares = grouped["outside_table"].mean().reset_index()
    said = ["trial_id", *varying(shares, conditions)]
    for row in shares[shares["outside_table"] > OUTSIDE_SHARE].to_dict("records"):
        networks = f"{row['arm']} ({condition_words(row, said)}) at {size_words(row)}"
        yield (
            f"{networks}: {percent(row['outside_table'])} % of the pre-activations lay outside the table, where the "
            "curve goes on as a straight line."
        )


def _coarse_tables(activations: pd.DataFrame) -> Iterator[str]:
    """Where the function that networks were trained with may differ from the one that a genome stands for."""
    final = activations[activations["final"].fillna(False).astype(bool)]
    errors = final.groupby("trial_id", sort=True)[["table_error", "table_scale"]].max()
    for trial, row in errors[errors["table_error"] > COARSE_TABLE].iterrows():
        yield (
            f"The table of {trial} is coarse: its values may be off by {row['table_error']:.1e}, more than "
            f"{COARSE_TABLE:.0e}; a search with a larger ldnn.table_scale than {row['table_scale']:.0f} looks up finer."
        )


def judge(table: pd.DataFrame, sets: pd.DataFrame) -> pd.DataFrame:
    """The rows of the arm mixed of a cross-size table, one for each rival; ``sets`` are the headline sets."""
    groups = [*SET, "mixing", *SIZE]
    sizes = table.drop_duplicates(groups)
    mixed = table[table["arm"] == "mixed"]
    # A size at which the mix has no rows is kept, as not measured.
    rest = sizes[~pd.MultiIndex.from_frame(sizes[groups]).isin(pd.MultiIndex.from_frame(mixed[groups]))]
    records: list[dict[str, Any]] = []
    for row in pd.concat([mixed, rest]).to_dict("records"):
        for rival in RIVALS:
            here = row["arm"] == "mixed"
            record = {str(column): row[column] for column in _COLUMNS if column in row}
            record |= {"rival": rival, "rival_arm": row[f"vs_{rival}_arm"] if here else None}
            ends = {"difference": "", "low": "_low", "high": "_high", "interval": "_interval"}
            ends |= {name: f"_{name}" for name in ("pairs", "lost", "won")}
            record |= {name: row[f"vs_{rival}{end}"] if here else None for name, end in ends.items()}
            records.append(record)
    table = pd.DataFrame.from_records(records, columns=_COLUMNS)
    table = typed(table.assign(headline=False))
    table["outcome"] = [str(_outcome(row)) for row in table.to_dict("records")]
    table["headline"] = table.index.isin(of_sets(table, sets).index)
    return in_order(table, [*SET, "mixing", *SIZE])


def _outcome(row: dict[Any, Any]) -> Outcome:
    if pd.isna(row["difference"]):
        return Outcome.NOT_MEASURED
    if row["pairs"] < MIN_PAIRS:
        return Outcome.TOO_FEW
    if row["low"] > 0:
        return Outcome.BETTER
    return Outcome.WORSE if row["high"] < 0 else Outcome.UNCLEAR


def _themes(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows that one group of sentences is about, and what to call them: one set under one protocol on one task."""
    said = ["trial_id", *varying(table, CONDITIONS)]
    for _, rows in table.groupby([*SET, *CONDITIONS], dropna=False, sort=False):
        yield f"mixed ({condition_words(rows.iloc[0], said)})", rows


def _where_learned(subject: str, rows: pd.DataFrame) -> Iterator[str]:
    first = rows.iloc[0]
    learned = rows[rows["is_learned_size"]]
    if learned.empty:
        width, depth = first["learned_width"], first["learned_depth"]
        if pd.isna(width):
            yield f"{subject}: its rows do not say at which size it was learned."
        else:
            option = f"--widths {width} --depths {depth}"
            yield (
                f"{subject} was not evaluated at width {width}, depth {depth}, where it was learned; "
                f"`ldnn evaluate` with {option} does that."
            )
    for row in learned.to_dict("records"):
        yield _at_learned_size(subject, row)


def _sentences(subject: str, rows: pd.DataFrame) -> Iterator[str]:
    yield from _where_learned(subject, rows)
    for rival in RIVALS:
        elsewhere = rows[(rows["rival"] == rival) & ~rows["is_learned_size"]].sort_values(["depth", "width"])
        if len(elsewhere):
            yield f"{subject} against {_RIVAL_WORDS[rival]} at other sizes: {_by_outcome(elsewhere)}."


def _at_learned_size(subject: str, row: dict[Any, Any]) -> str:
    rival, where = _rival(row), f"at {size_words(row)}, where it was learned"
    match row["outcome"]:
        case Outcome.BETTER:
            return f"{subject} beats {rival} {where}, by {_points(row)}, {_seeds(row)}."
        case Outcome.WORSE:
            return f"{subject} loses to {rival} {where}, by {_points(row, sign=-1)}, {_seeds(row)}."
        case Outcome.UNCLEAR:
            verdict_words = f"{subject} is neither clearly better nor clearly worse than {rival}"
            return f"{verdict_words} {where}: {_points(row)}, {_seeds(row)}."
        case Outcome.TOO_FEW:
            words = f"{count(row['pairs'], 'seed')}, at least {MIN_PAIRS} are needed"
            return f"{subject} cannot be judged against {rival} {where}: {words} (difference {_points(row)})."
        case _:
            return f"{subject} could not be compared with {rival} {where}: one of the two has no rows there."


def _by_outcome(rows: pd.DataFrame) -> str:
    words = {
        Outcome.BETTER: "wins at",
        Outcome.UNCLEAR: "no clear difference at",
        Outcome.WORSE: "loses at",
        Outcome.TOO_FEW: "too few seeds at",
        Outcome.NOT_MEASURED: "not measured at",
    }
    parts = []
    for outcome, phrase in words.items():
        there = [_elsewhere(row) for row in rows[rows["outcome"] == outcome].to_dict("records")]
        if there:
            parts.append(f"{phrase} {', '.join(there)}")
    return "; ".join(parts)


def _elsewhere(row: dict[Any, Any]) -> str:
    if row["outcome"] in (Outcome.TOO_FEW, Outcome.NOT_MEASURED):
        return size_words(row)
    arm = "" if row["rival"] == "relu" else f"{row['rival_arm']}, "
    return f"{size_words(row)} ({arm}{points(row['difference'], row['low'], row['high'], signed=True)})"


def _rival(row: dict[Any, Any]) -> str:
    words = _RIVAL_WORDS[row["rival"]]
    return words if row["rival"] == "relu" or pd.isna(row["rival_arm"]) else f"{words} ({row['rival_arm']})"


def _points(row: dict[Any, Any], sign: int = 1) -> str:
    low, high = sorted((sign * row["low"], sign * row["high"]))
    difference = points(sign * row["difference"], low, high)
    number, _, interval = difference.partition(" ")
    return f"{number} points {interval}".rstrip()


def _seeds(row: dict[Any, Any]) -> str:
    lost = f", {row['lost']} without a partner" if row["lost"] else ""
    return f"{count(row['pairs'], 'seed')} ({percent(row['won'], 0)} % won{lost})"
