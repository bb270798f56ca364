"""The types of a table's columns: the same whatever its rows are, also when there are none."""

from __future__ import annotations

from typing import Final

import pandas as pd

_COUNTS: Final = {
    "depth", "width", "learned_depth", "learned_width", "worst_depth", "worst_width", "sizes", "seeds", "networks",
    "diverged", "needed", "inner_steps", "snapshots", "pairs", "lost",
}  # fmt: skip
_TEXTS: Final = {
    "run_id", "method", "trial_id", "task", "architecture", "mixing", "lr_protocol", "regime", "plain", "split", "arm",
    "metric", "label", "words", "rival", "interval", "standing", "outcome", "note",
}  # fmt: skip
_FLAGS: Final = {"is_learned", "is_learned_size", "headline", "collapses"}


def kind_of(column: str) -> str:
    """What pandas calls the type of a column of that name; what ends in ``_pairs``, ``_arm``, ... is like these.

    Returns:
        Int64 for whole numbers, which may be missing; str; bool for flags, which are never missing; else float64.
    """
    last = column.rpartition("_")[2]
    if column in _COUNTS or last in {"pairs", "lost"}:
        return "Int64"
    if column in _TEXTS or last in {"interval", "arm", "note"}:
        return "str"
    return "bool" if column in _FLAGS else "float64"


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the type of every column by its name, with rows or without."""
    return table.astype({column: kind_of(column) for column in table.columns})
