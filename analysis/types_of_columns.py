"""The types of a table's columns: the same whatever its rows are, also when there are none."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd


def typed(
    table: pd.DataFrame, *, counts: Collection[str], texts: Collection[str], flags: Collection[str] = ()
) -> pd.DataFrame:
    """A table whose columns are numbers (float64), but for those that are named; ``*_won`` names all that end so.

    A column that is named twice is of the first kind.

    Args:
        table: with rows or without.
        counts: whole numbers that may be missing (Int64).
        texts: words.
        flags: true or false, never missing.
    """

    def is_of(column: str, names: Collection[str]) -> bool:
        return column in names or any(name[0] == "*" and column.endswith(name[1:]) for name in names)

    kinds = {"Int64": counts, "str": texts, "bool": flags}
    return table.astype(
        {
            column: next((kind for kind, names in kinds.items() if is_of(column, names)), "float64")
            for column in table.columns
        }
    )
