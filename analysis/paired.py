"""Paired differences as the columns of a table: mean, interval, pairs, seeds without a partner, share won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from analysis.statistics import Pairs, mean_intervals, share_won

AGAINST: Final = ("interval", "pairs", "lost", "won")
"""What else is said of a difference."""


def paired_columns(pairs: Sequence[tuple[str, Pairs]], *, prefixed: bool = True) -> list[dict[str, Any]]:
    """For each comparison its columns; all are resampled together.

    Args:
        pairs: the name of each difference, and the differences seed by seed; the ends of its interval are ``name_low``
            and ``name_high``.
        prefixed: whether the other columns are called ``name_pairs`` and so on, or as in `AGAINST`.
    """
    found = []
    for (name, one), estimate in zip(pairs, mean_intervals([one.differences for _, one in pairs]), strict=True):
        said = (str(estimate.interval), len(one.differences), one.lost, share_won(one.differences))
        prefix = f"{name}_" if prefixed else ""
        others = {f"{prefix}{column}": value for column, value in zip(AGAINST, said, strict=True)}
        found.append(estimate.columns(name) | others)
    return found
