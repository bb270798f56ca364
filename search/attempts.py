"""Which attempt of a trial counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from search.schema import FINISHED


def counted(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row of every trial: that of its first attempt that has finished, or else of its last.

    An attempt may finish late, after a later one has failed: what is finished is never run again.

    Args:
        rows: of ``trials``, with ``trial_id``, ``attempt`` and ``status``.

    Returns:
        The rows in the order in which their trials first appear.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        found[row["trial_id"]] = min(found.get(row["trial_id"], row), row, key=_precedence)
    return list(found.values())


def _precedence(row: Mapping[str, Any]) -> tuple[bool, int]:
    is_finished = row["status"] in FINISHED
    return not is_finished, row["attempt"] if is_finished else -row["attempt"]
