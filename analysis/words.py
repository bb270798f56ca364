"""Numbers as people read them: percent, points, intervals; a dash where there is no number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pandas as pd

NOTHING: Final = "–"
"""What stands where there is no number."""

_BEFORE: Final = {"depth": "depth ", "lr_protocol": "lr ", "learned_on": "learned on "}
"""Column of conditions → what is said before its value, where that alone says too little."""


def number(value: Any, digits: int = 2) -> str:
    """A number with a fixed count of decimals and thousands set apart by thin spaces."""
    if pd.isna(value) or not math.isfinite(value):
        return NOTHING
    return f"{value:,.{digits}f}".replace(",", "\u2009")


def percent(value: Any, digits: int = 1) -> str:
    """A share (0..1) in percent, without the sign; the unit stands in the head of the column."""
    return NOTHING if pd.isna(value) else f"{100 * value:.{digits}f}"


def percent_interval(low: Any, high: Any) -> str:
    """The ends of an interval of shares, in percent, with a decimal more where rounding would hide that zero is out."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return f"[{', '.join(_ends(100 * low, 100 * high))}]"


def points(value: Any, low: Any, high: Any, *, signed: bool = False) -> str:
    """A difference of shares in percentage points, with its interval if there is one."""
    if pd.isna(value):
        return NOTHING
    return f"{100 * value:{'+' if signed else ''}.1f} {percent_interval(low, high)}".rstrip()


def difference_words(value: Any, low: Any, high: Any, *, arm: Any = None, lost: Any = 0) -> str:
    """A paired difference in points with its interval, the arm it is to, and how many seeds have no partner."""
    if pd.isna(value):
        return NOTHING
    to = f" ({arm})" if pd.notna(arm) else ""
    alone = f", {count(lost, 'seed')} lost" if pd.notna(lost) and lost else ""
    return points(value, low, high, signed=True) + to + alone


def p_value(value: Any) -> str:
    """A p-value to three decimals."""
    if pd.isna(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: Any) -> str:
    """A duration in the unit that fits: seconds, minutes, or hours."""
    if pd.isna(value):
        return NOTHING
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if value >= length:
            return f"{value / length:.1f}\u2009{unit}"
    return f"{value:.3g}\u2009s"


def count(amount: int, noun: str) -> str:
    """A number with its noun: 1 seed, 2 seeds."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def size_words(row: Mapping[Any, Any] | pd.Series[Any], *, learned: bool = False) -> str:
    """The size of the networks that a row of a table is about, width 20, depth 2, and whether a set was learned there.

    A depth of 1 is not said.
    """
    depth = "" if row["depth"] == 1 else f", depth {row['depth']}"
    return f"width {row['width']}{depth}{' (learned)' if learned else ''}"


def varying(rows: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Those of the columns that have several values: what has to be said to tell the rows apart."""
    return [column for column in columns if len(rows[column].unique()) > 1]


def condition_words(row: Mapping[Any, Any] | pd.Series[Any], columns: Iterable[str]) -> str:
    """Under which conditions the numbers of a row were obtained: mnist1d, mlp, lr shared."""
    return ", ".join(f"{_BEFORE.get(column, '')}{row[column]}" for column in columns if pd.notna(row[column]))


def _ends(low: float, high: float) -> tuple[str, str]:
    hides_sign = (low > 0 and round(low, 1) == 0) or (high < 0 and round(high, 1) == 0)
    digits = 2 if hides_sign else 1
    # Adding zero turns minus zero into zero.
    return f"{round(low, digits) + 0.0:.{digits}f}", f"{round(high, digits) + 0.0:.{digits}f}"
