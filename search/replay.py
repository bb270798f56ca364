"""Running a trial of a run once more, and comparing what comes out with what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from search.attempts import counted
from search.config import stored_config, stored_trial
from search.data_checksum import require_same_data, task_checksum
from search.leg import Leg
from search.part import decode, encode
from search.run_folder import RunFolder
from search.schema import FINISHED, TABLES, Status
from search.store import trial_key
from search.trial import run_trial

_TABLES: Final = ("trials", "steps", "activations")
_ELSEWHERE: Final = frozenset(
    {"run_id", "trial_id", "attempt", "schema_version", "created_at", "started_at", "wall_seconds"}
    | {"code_version", "code_dirty", "versions", "hostname", "device", "threads"}
)
"""Columns that say when and where a trial was run."""

_DERIVED: Final = frozenset({"config", "config_hash", "params"})
"""Columns that repeat what the trial was asked to be; equal configurations may be written differently."""


@dataclass(frozen=True)
class ColumnDifference:
    """One column in which the trial came out otherwise.

    Attributes:
        table: name of the table.
        column: its name.
        rows: how many rows differ.
        largest: the largest difference of two numbers; None where something else differs.
        old: the first value that differs, as stored.
        new: what it is now.
    """

    table: str
    column: str
    rows: int
    largest: float | None
    old: Any
    new: Any

    def __str__(self) -> str:
        size = (
            f"by at most {self.largest:.3g}"
            if self.largest is not None
            else f"{_short(self.old)} -> {_short(self.new)}"
        )
        return f"{self.table}.{self.column}: {self.rows} rows differ, {size}"


@dataclass(frozen=True)
class Replay:
    """A trial that was run again.

    Attributes:
        trial_id: of the trial.
        compared: table → rows that were compared.
        differences: none if it came out the same to the bit.
        stored: how it ended when it was first run, and where: status, code_version, device, threads, versions.
    """

    trial_id: str
    compared: Mapping[str, int]
    differences: Sequence[ColumnDifference]
    stored: Mapping[str, Any]

    @property
    def equal(self) -> bool:
        """Whether every number is the same, to the bit."""
        return not self.differences


def replay(run: RunFolder, trial_id: str) -> Replay:
    """Run a trial again in this process; nothing is written.

    Args:
        run: the run.
        trial_id: a trial of it that has ended ok, diverged or pruned.

    Raises:
        ValueError: there is no such trial, or it has no numbers of its own.
        DataError: the data cannot be had, or is not that which the run was made with.
        StoreError: a part of the trial cannot be read.
    """
    row = _ended(run, trial_id)
    task = stored_config(run.info.config, run.path).task
    config = stored_trial(row["config"], task)
    require_same_data(task.name, task_checksum(task), run.info.data_checksum)
    leg = Leg()
    if row["status"] == Status.PRUNED:
        last = len(row["rung_accuracies"]) - 1
        # A trial that a scheduler has stopped ends where it did then, whatever others do.
        leg = Leg(until=last)
    records = run_trial(config, leg=leg)
    now = {"trials": [dict(records.trial)], "steps": records.steps, "activations": records.activations}
    if leg.until is not None:
        # It was the scheduler's, and is no number of the trial.
        now["trials"][0]["rung_threshold"] = row["rung_threshold"]
    key = trial_key(trial_id, row["attempt"])
    compared, differences = {}, []
    for table in _TABLES:
        old = _sorted(table, run.store.read(table, keys=[key] if key in run.store.keys(table) else []))
        # Through the same bytes as the stored rows, so that both have the types of the schema.
        new = _sorted(table, decode(table, encode(table, now[table]), TABLES[table].names) if now[table] else old[:0])
        compared[table] = len(old)
        differences += _differences(table, old, new)
    where = ("status", "code_version", "code_dirty", "device", "threads", "versions", "hostname")
    return Replay(trial_id, compared, differences, {name: row[name] for name in where})


def _ended(run: RunFolder, trial_id: str) -> Mapping[str, Any]:
    rows = run.store.read("trials", keys=run.store.attempts(trial_id)).to_pylist()
    if not rows:
        raise ValueError(f"there is no trial {trial_id!r} in {run.path}; `ldnn status {run.path}` lists them")
    [row] = counted(rows)
    if original := row["copied_from"]:
        raise ValueError(f"{trial_id} is a copy of {original} and was not run itself: replay {original}")
    if row["status"] not in FINISHED:
        raise ValueError(
            f"{trial_id} ended {row['status']} ({row['error']}), which depends on machines: there are no "
            f"numbers to compare. `ldnn resume {run.path}` runs it again where that can help"
        )
    return row


def _sorted(table: str, rows: pa.Table) -> pa.Table:
    keys = [name for name in ("step", "type_index") if name in TABLES[table].names]
    return rows.sort_by([(name, "ascending") for name in keys]) if keys else rows


def _differences(table: str, old: pa.Table, new: pa.Table) -> list[ColumnDifference]:
    if len(old) != len(new):
        return [ColumnDifference(table, "(rows)", abs(len(old) - len(new)), None, len(old), len(new))]
    found = []
    for name in TABLES[table].names:
        if name in _ELSEWHERE | _DERIVED:
            continue
        pairs = zip(old[name].to_pylist(), new[name].to_pylist(), strict=True)
        unequal = [(one, other) for one, other in pairs if one != other]
        if unequal:
            sizes = [_size(one, other) for one, other in unequal]
            largest = None if any(size is None for size in sizes) else max(size for size in sizes if size is not None)
            found.append(ColumnDifference(table, name, len(unequal), largest, *unequal[0]))
    return found


def _size(one: Any, other: Any) -> float | None:
    """How far two values are from each other; None if they are no numbers, or lists of other lengths."""
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return None
        sizes = [_size(*pair) for pair in zip(one, other, strict=True)]
        return None if any(size is None for size in sizes) else max((size for size in sizes if size), default=0.0)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return abs(one - other) if numbers else None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
