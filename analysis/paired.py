"""Paired differences as the columns of a table: mean, interval, pairs, seeds without a partner, share won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from analysis.statistics import Pairs, mean_intervals, share_won

ENDS: Final = ("", "_low", "_high")
"""What is added to the name of a difference: nothing for its mean, and the ends of its interval."""

AGAINST: Final = ("interval", "pairs", "lost", "won")
"""What else is said of it."""


def paired_columns(pairs: Sequence[Pairs], name: str, prefix: str = "") -> list[dict[str, Any]]:
    """For each comparison its columns; all are resampled together.

    Args:
        pairs: differences seed by seed.
        name: of the difference; its interval is ``…_low`` and ``…_high``.
        prefix: of the other columns, `AGAINST`.
    """
    found = []
    for one, estimate in zip(pairs, mean_intervals([one.differences for one in pairs]), strict=True):
        values = (estimate.value, estimate.low, estimate.high)
        said = (str(estimate.interval), len(one.differences), one.lost, share_won(one.differences))
        found.append(
            {f"{name}{end}": value for end, value in zip(ENDS, values, strict=True)}
            | {f"{prefix}{column}": value for column, value in zip(AGAINST, said, strict=True)}
        )
    return found
