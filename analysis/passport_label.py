"""The label of a scale passport: one word by stated rules, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import pandas as pd

from analysis.merit import ACCURACY, LOSS
from analysis.words import condition_words, count, number, percent, varying


class Label(StrEnum):
    """What a passport says about a set in one word."""

    SCALE_SAFE = "scale-safe"
    """Better than the best usual activation at every size, more of them than where it was learned."""
    SIZE_SPECIFIC = "size-specific"
    """Better at one size at least, and at another one worse, or shown to have no advantage that matters."""
    COLLAPSES = "collapses"
    """At one size at least its networks diverge or stay at chance level, where a usual activation does not."""
    NO_BETTER = "no better than usual"
    """Better nowhere, though an advantage that matters would have been seen."""


class Standing(StrEnum):
    """What one size says about the mix against one rival."""

    BETTER = "better"
    """Signed ranks after Holm's correction over sizes, and the interval lies above zero."""
    WORSE = "worse"
    """The same below zero."""
    NO_ADVANTAGE = "no advantage"
    """Neither, and its advantage is below the margin, by signed ranks after Holm's correction over sizes."""
    UNCLEAR = "unclear"
    """None of these: there may be an advantage that matters, or none."""
    TOO_FEW = "too few seeds"
    """Fewer pairs than any claim at so many sizes needs."""
    NOT_MEASURED = "not measured"
    """The mix or the rival has no networks there."""


@dataclass(frozen=True)
class Rules:
    """The numbers in the rules; a passport keeps those that it was made with.

    Attributes:
        margin: advantage that matters, by metric, in units of merit: a share of right answers, or of a loss (log).
        collapse_share: share of a size's networks from which on it is called a collapse; two networks at least.
        min_sizes: fewest sizes for a label.
        min_width_ratio: how far apart the widths must be for a label, largest by smallest ...
        min_depth_ratio: ... unless depths are as far apart as this.
    """

    margin: dict[str, float] = field(default_factory=lambda: {ACCURACY: 0.01, LOSS: 0.05})
    collapse_share: float = 0.2
    min_sizes: int = 3
    min_width_ratio: float = 4.0
    min_depth_ratio: float = 2.0

    def visible(self, metric: str) -> float:
        """Advantage that must have been detectable at every size before its absence is claimed: two margins."""
        return 2 * self.margin[metric]


@dataclass(frozen=True)
class Decision:
    """A label with its reasons.

    Attributes:
        label: None where the data do not suffice for one.
        words: a sentence that says why it is this one, or why there is none.
    """

    label: Label | None
    words: str


KIND: Final = ["task", "architecture"]
"""Columns that say which sizes are of one kind: only these can be told to be smaller or larger."""

_JUDGED: Final = (Standing.BETTER, Standing.WORSE, Standing.NO_ADVANTAGE, Standing.UNCLEAR)


def decide(sizes: pd.DataFrame, rules: Rules) -> Decision:
    """The label from the rows of a passport's grid that hold the mix against the best usual activation.

    The rules are tried in this order: collapse; enough seeds, sizes and span; a win everywhere; a win nowhere; a win
    here and a failure there.  What none of them covers has no label.
    """
    broken = sizes[sizes["collapses"]]
    if len(broken):
        parts = [
            f"{where(row, sizes)}, {percent(row['collapsed_share'], 0)} % of its networks (of the best usual arm's "
            f"{percent(row['usual_collapsed_share'], 0)} %)"
            for row in broken.to_dict("records")
        ]
        return Decision(Label.COLLAPSES, f"diverged or at chance level at {'; at '.join(parts)}")
    judged = sizes[sizes["standing"].isin(_JUDGED)]
    lacking = _lacking(sizes, judged, rules)
    if lacking:
        return Decision(None, lacking)
    better = judged[judged["standing"] == Standing.BETTER]
    failed = judged[judged["standing"].isin([Standing.WORSE, Standing.NO_ADVANTAGE])]
    if len(better) == len(judged):
        return _everywhere(sizes, judged)
    if better.empty:
        return _nowhere(judged, failed, rules)
    words = f"better at {_list(better, sizes)}"
    for standing in (Standing.WORSE, Standing.NO_ADVANTAGE, Standing.UNCLEAR):
        there = judged[judged["standing"] == standing]
        words += f"; {standing} at {_list(there, sizes)}" if len(there) else ""
    if len(failed):
        return Decision(Label.SIZE_SPECIFIC, words)
    return Decision(None, f"{words}: more seeds there would tell")


def where(row: dict[Any, Any], among: pd.DataFrame | None = None) -> str:
    """A size in words, with its task and kind of network if those that it is among have several."""
    said = ["depth"] if row["depth"] != 1 else []
    said += varying(among, KIND) if among is not None else []
    return f"width {row['width']}" + (f" ({condition_words(row, said)})" if said else "")


def _list(rows: pd.DataFrame, sizes: pd.DataFrame) -> str:
    return ", ".join(where(row, sizes) for row in rows.to_dict("records"))


def _lacking(sizes: pd.DataFrame, judged: pd.DataFrame, rules: Rules) -> str:
    """What the data lack for a label; empty if nothing."""
    if sizes.empty or (sizes["standing"] == Standing.NOT_MEASURED).all():
        return "the mix and a usual activation have no common size"
    if len(judged) < rules.min_sizes:
        few = sizes[sizes["standing"] == Standing.TOO_FEW]
        words = f"{count(len(judged), 'size')} could be judged, at least {rules.min_sizes} are needed"
        if len(few):
            row = few.iloc[0]
            words += f" ({_list(few, sizes)}: too few seeds, at least {row['needed']} in common are needed)"
        return words
    # Widths of different kinds of network are different things.
    kinds = judged.groupby(KIND)[["width", "depth"]]
    spans = (kinds.max() / kinds.min()).max().astype(float)
    if spans["width"] < rules.min_width_ratio and spans["depth"] < rules.min_depth_ratio:
        found = f"{number(spans['width'], 1)} in width and {number(spans['depth'], 1)} in depth"
        needed = f"{number(rules.min_width_ratio, 0)} in width or {number(rules.min_depth_ratio, 0)} in depth"
        return f"the sizes span a factor of {found}; at least {needed} are needed"
    return ""


def _everywhere(sizes: pd.DataFrame, judged: pd.DataFrame) -> Decision:
    if judged["is_learned"].all():
        return Decision(None, "better at every size, but all of them are where it was learned: evaluate it at others")
    left = len(sizes) - len(judged)
    rest = f" ({count(left, 'more size')} could not be judged)" if left else ""
    return Decision(Label.SCALE_SAFE, f"better at each of {count(len(judged), 'size')}{rest}: {_list(judged, sizes)}")


def _nowhere(judged: pd.DataFrame, failed: pd.DataFrame, rules: Rules) -> Decision:
    unclear = judged[~judged.index.isin(failed.index)]
    blind = [row for row in unclear.to_dict("records") if not row["detectable"] <= rules.visible(str(row["metric"]))]
    if blind:
        parts = [f"{where(row, judged)} from {_amount(row['detectable'], row)} up" for row in blind]
        wanted = _amount(rules.visible(str(blind[0]["metric"])), blind[0])
        return Decision(
            None,
            f"better nowhere, but with these seeds an advantage would have been seen at {', '.join(parts)} only; "
            f"for a label it has to be {wanted}",
        )
    seen = ", ".join(sorted({_amount(rules.visible(str(metric)), {"metric": metric}) for metric in judged["metric"]}))
    return Decision(
        Label.NO_BETTER,
        f"better at none of {count(len(judged), 'size')}, where an advantage of {seen} would have been seen",
    )


def _amount(value: float, row: dict[Any, Any]) -> str:
    if pd.isna(value):
        return "an unknown advantage"
    return f"{number(100 * value, 1)} {'points' if row['metric'] == ACCURACY else 'log points of loss'}"
