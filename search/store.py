"""The results store: the system of record of a run.

A table is a folder of immutable Parquet parts, ``<run>/<table>/part-<key>.parquet``; the run lies in a folder or in an
object store (`search.storage`).  A part is published whole and
durably or not at all, and is never overwritten; so what a reader sees is done, whatever is killed next.  Any number
of processes may publish and read at the same time.  Only the driver of a run, which holds its lock, may move parts:
damaged and orphaned ones go to ``<run>/quarantine/<table>/`` with a report beside them, never away.

This module needs only pyarrow, numpy and the standard library: `analysis` uses it where nothing else is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa

from search.compacted import COMPACTED, contents
from search.durable import StoreError, crash_point, doing
from search.location import Location, LocationError, parse_location
from search.part import SchemaError, check_names, check_values, encode
from search.reading import NOT_THERE, BadPart, Wanted, check, load, load_compacted
from search.runs import cells_and_counts, is_in_runs, spread
from search.schema import FINISHED, TABLES, Status
from search.seal import PartError
from search.storage import STAGING, NotAFileError, Storage, storage_at
from search.unjudged import read_unjudged

__all__ = [
    "STAGING",
    "BadPart",
    "Location",
    "LocationError",
    "Published",
    "SchemaError",
    "Store",
    "StoreError",
    "cells_and_counts",
    "is_in_runs",
    "parse_location",
    "read_table",
    "read_unjudged",
    "spread",
    "storage_at",
    "trial_key",
]

QUARANTINE: Final = "quarantine"
"""The folder beside the tables that takes what the driver moves away."""

REPLACED: Final = "replaced"
"""The folder that takes the parts that a compacted file stands for, see `search.compaction`."""

MOVE_CRASH_POINTS: Final = ("reported", "moved")
"""The steps of moving a part to quarantine, for `search.durable.crash_point`."""

LONGEST_KEY: Final = 128
"""Characters of a part's key."""

_KEY: Final = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_KEY - 1}}}"
_PART: Final = re.compile(rf"part-({_KEY})\.parquet")
_COMPACTED_KEY: Final = COMPACTED.removeprefix("part-").removesuffix(".parquet")
_LEFT_BEHIND_SECONDS: Final = 3600.0
ADDED_TABLES: Final = ("spectral_bias", "initial_variance")
"""Tables that runs of earlier code were made without."""

TRIAL_TABLES: Final = ("steps", "activations")
"""Tables of which a trial's attempt publishes one part each before its row in ``trials``."""

_COMPLETE: Final = frozenset({Status.OK, Status.PRUNED})
"""Ends of trials that have steps and activations; one that diverged may have none."""


class Published(StrEnum):
    """What became of rows that were handed to `Store.publish`.

    A worker need not look: the rows of a key follow from the configuration, so that those which stand say the same.
    """

    NEW = "new"
    """They are on disk now."""
    ALREADY_THERE = "already there"
    """An earlier part of that key stands, and these rows were dropped: the first wins."""


def trial_key(trial_id: str, attempt: int) -> str:
    """The key under which a trial's attempt publishes its parts of ``trials``, ``steps`` and ``activations``."""
    return f"{trial_id}-a{attempt}"


def read_table(
    root: Location | str,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Collection[Any]] | None = None,
    dictionaries: bool = False,
    runs: bool = False,
) -> tuple[pa.Table, list[BadPart]]:
    """The sound rows of one table of a run folder, and the parts that were left out.

    Args:
        root: the run folder, or its address in an object store.
        table: its name; this and the other arguments are those of `Store.read_checked`.
        columns: the columns wanted; all if None.
        where: column → values that its rows may have.
        dictionaries: whether text comes as Arrow dictionaries.
        runs: whether, besides, what is the same in many rows one after the other is held once.

    Raises:
        LocationError: the address is none.
        SchemaError: an unknown table or column.
        StoreError: the run folder or a part cannot be read at all, or a part was written under a newer schema.
    """
    store = Store(parse_location(root))
    return store.read_checked(table, columns=columns, where=where, dictionaries=dictionaries, runs=runs)


@dataclass(frozen=True)
class Store:
    """The tables of one run folder.

    Attributes:
        root: the run folder, or its prefix in an object store.
    """

    root: Location

    @classmethod
    def create(cls, root: Location) -> Store:
        """The store of a folder, whose tables' folders are made if they are missing.

        Raises:
            StoreError: ``root`` does not exist or is not writable.
        """
        with doing(f"make the tables' folders in {root}"):
            storage_at(root).prepare((*TABLES, QUARANTINE))
        return cls(root)

    def make_added_folders(self) -> None:
        """Make the folders of tables that the code which made the run did not have; for the driver.

        No other folder: one that is missing was removed, and what it held is not to be passed over in silence.

        Raises:
            StoreError: the run folder does not exist or is not writable.
        """
        with doing(f"make the tables' folders in {self.root}"):
            self.storage.prepare(ADDED_TABLES)

    @property
    def storage(self) -> Storage:
        """The place where the run lies."""
        return storage_at(self.root)

    def publish(self, table: str, key: str, rows: Sequence[Mapping[str, Any]]) -> Published:
        """Publish rows as one part, durably; when this returns they will survive any crash.

        Args:
            table: a name in `search.schema.TABLES`.
            key: names the part; unique in the table.  For a trial's tables use `trial_key`.
            rows: column name → value.  Missing cells become null; ``schema_version`` and ``created_at`` are
                filled in.

        Returns:
            Whether the part is new or an earlier one of that key stands.

        Raises:
            SchemaError: an unknown table or column, a bad key, a value of the wrong type or not finite.
            StoreError: the disk is full, or the run folder is gone or not writable.
        """
        name, data = f"{table}/{self._part(table, key).name}", encode(table, rows)
        is_new = key not in self.contained(table) and self.storage.place_once(name, data)
        return Published.NEW if is_new else Published.ALREADY_THERE

    def keys(self, table: str) -> set[str]:
        """The keys of the parts that are there, damaged ones included.

        Raises:
            SchemaError: an unknown table.
            StoreError: the run folder is gone or not readable.
        """
        return {*self._loose_keys(table), *self.contained(table)}

    def finished_attempts(self) -> set[str]:
        """The keys of the attempts whose row in ``trials`` says one of `search.schema.FINISHED`.

        Raises:
            StoreError: ``trials`` has damaged parts, or cannot be read.
        """
        rows = self.read("trials", columns=["trial_id", "attempt", "status"]).to_pylist()
        return {trial_key(row["trial_id"], row["attempt"]) for row in rows if row["status"] in FINISHED}

    def _loose_keys(self, table: str) -> set[str]:
        """Of parts that are files of their own."""
        keys = {key for name in self._names(table) if (key := _key(name)) is not None}
        return keys - {_COMPACTED_KEY}

    def attempts(self, trial_id: str) -> list[str]:
        """The keys of a trial's parts of ``trials``, found by their names alone, in order of these.

        Raises:
            StoreError: the run folder is gone or not readable.
        """
        return sorted(key for key in self.keys("trials") if key.rpartition("-a")[0] == trial_id)

    def read(self, table: str, *, columns: Sequence[str] | None = None, keys: Iterable[str] | None = None) -> pa.Table:
        """All rows of a table, or of some of its parts; for the driver, which has called `repair` before.

        Raises:
            SchemaError: an unknown table or column, a bad key.
            StoreError: a part is damaged, has a newer schema, or cannot be read at all.
        """
        rows, bad = self.read_checked(table, columns=columns, keys=keys)
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise StoreError(
                f"{table} has damaged parts: {bad[0]}{more}. `ldnn resume {self.root}` moves them to {QUARANTINE}/ "
                "and does their work again."
            )
        return rows

    def read_checked(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        keys: Iterable[str] | None = None,
        where: Mapping[str, Collection[Any]] | None = None,
        dictionaries: bool = False,
        runs: bool = False,
    ) -> tuple[pa.Table, list[BadPart]]:
        """The rows of all sound parts, with the table's schema, and the parts that were left out.

        Parts may appear, and may vanish into a compacted file or into quarantine, meanwhile.

        Args:
            table: a name in `search.schema.TABLES`.
            columns: the columns wanted, in that order; all if None.
            keys: the parts wanted; all if None.  One that is not there counts as left out.
            where: column → values: only rows that have one of the values in each of these columns; None among the
                values stands for a missing one.
            dictionaries: whether text comes as Arrow dictionaries, which take little memory where values repeat.
            runs: whether, besides, what is the same in many rows one after the other is held once (`search.runs`).

        Raises:
            SchemaError: an unknown table or column, a bad key, a value in ``where`` of another type than its column.
            StoreError: the run folder or a part cannot be read at all, or a part was written under a newer schema.
        """
        check_names("table", [table], TABLES)
        names = TABLES[table].names
        wanted = Wanted(table, tuple(names if columns is None else columns), dict(where or {}), dictionaries, runs)
        check_names(f"column of {table}", wanted.read, names)
        for name, values in wanted.where.items():
            check_values(table, name, values)
        loaded = self._load_all(wanted) if keys is None else list(self._load_keys(wanted, sorted(set(keys))))
        bad = [part for part in loaded if isinstance(part, BadPart)]
        good = [part for part in loaded if not isinstance(part, BadPart)]
        return wanted.joined(good), bad

    def _load_all(self, wanted: Wanted) -> list[pa.Table | BadPart]:
        names = self._names(wanted.table)
        while True:
            loaded = list(self._load_files(wanted, names))
            gone = [part for part in loaded if isinstance(part, BadPart) and part.reason == NOT_THERE]
            # What has gone since it was listed may be in a compacted file now, or in quarantine: look again.
            if not gone or (listed := self._names(wanted.table)) == names:
                return loaded
            names = listed

    def _load_files(self, wanted: Wanted, names: Sequence[str]) -> Iterator[pa.Table | BadPart]:
        parts = []
        for name in names:
            if _key(name) is None:
                yield self._misnamed(wanted.table, name)
            elif name == COMPACTED:
                yield from load_compacted(self.storage, wanted)
            else:
                parts.append(name)
        yield from load(self.storage, wanted, parts)

    def _load_keys(self, wanted: Wanted, keys: Sequence[str]) -> Iterator[pa.Table | BadPart]:
        names = [self._part(wanted.table, key).name for key in keys]
        contained = self.contained(wanted.table)
        if inside := [key for key in contained if key in set(keys)]:
            yield from load_compacted(self.storage, wanted, inside)
        held = set(inside)
        yield from load(self.storage, wanted, [name for key, name in zip(keys, names, strict=True) if key not in held])

    def contained(self, table: str) -> Mapping[str, int]:
        """The keys in the compacted file with their numbers of rows; none without one, or if it is damaged."""
        name = f"{table}/{COMPACTED}"
        with doing(f"read {self.root / name}"):
            try:
                if self.storage.size(name) is None:
                    return {}
                with self.storage.open(name) as file:
                    return contents(file).rows
            except (FileNotFoundError, NotAFileError, PartError):
                return {}

    def check(self, table: str, *, deep: bool = False) -> list[BadPart]:
        """The damaged parts of a table, of which at most a few are held in memory at a time.

        Args:
            table: a name in `search.schema.TABLES`.
            deep: whether pages are decoded too, also where the seal says that no byte has changed.

        Raises:
            SchemaError: an unknown table.
            StoreError: the run folder or a part cannot be read at all, or a part was written under a newer schema.
        """
        names = self._names(table)
        misnamed = [self._misnamed(table, name) for name in names if _key(name) is None]
        parts = [name for name in names if _key(name) is not None]
        return misnamed + list(check(self.storage, table, parts, deep=deep))

    def _misnamed(self, table: str, name: str) -> BadPart:
        size = self.storage.size(f"{table}/{name}")
        return BadPart(table, self.root / table / name, "its name is not part-<key>.parquet", size or 0)

    def repair(self) -> list[BadPart]:
        """Move damaged parts to quarantine.  Only for the driver, while no worker of the run is alive.

        A trial stands or falls as one: if a part of its steps or activations is damaged or missing, its row in
        ``trials`` goes too, so that the trial is done again; `sweep_orphans` then takes what else it left.  Files
        that publishing left in the staging folder more than an hour ago are removed.

        Returns:
            What was moved, with its new place.

        Raises:
            StoreError: the run folder cannot be read or written, or a part was written under a newer schema.
        """
        moved = []
        for table in TABLES:
            for bad in self.check(table):
                key = _key(bad.path.name)
                if key == _COMPACTED_KEY:
                    # The rows of all its parts would be lost by one bit; a copy of it, or of them, is better.
                    raise StoreError(
                        f"{bad}. Put a copy back; or, if {self.root / REPLACED} has the parts of {table} that it is "
                        f"made of, move them to {self.root / table} and remove it."
                    )
                if table in TRIAL_TABLES and key in self._loose_keys("trials"):
                    # The row first: after a crash in between, the damaged part is still there to be found again.
                    moved.append(self._quarantine("trials", self._part("trials", key), f"its {table} are damaged"))
                moved.append(self._quarantine(table, bad.path, bad.reason))
        moved += self._move_incomplete()
        with doing(f"clear {self.root / STAGING}"):
            self.storage.clear_staging(older_than=_LEFT_BEHIND_SECONDS)
        return moved

    def _move_incomplete(self) -> list[BadPart]:
        """Move rows of trials that ended well and whose steps or activations are not there.

        A worker that outlives its driver can leave one, when the next driver sweeps between two of its parts.
        """
        rows = self.read("trials", columns=["trial_id", "attempt", "status", "copied_from"]).to_pylist()
        complete = set.intersection(*(self.keys(table) for table in TRIAL_TABLES))
        # A copy has the rows of the trial that it was copied from.
        own = [row for row in rows if row["status"] in _COMPLETE and row["copied_from"] is None]
        ended_well = {trial_key(row["trial_id"], row["attempt"]) for row in own}
        return [
            self._quarantine("trials", self._part("trials", key), "its steps or activations are not there")
            for key in sorted((ended_well & self._loose_keys("trials")) - complete)
        ]

    def sweep_orphans(self) -> list[BadPart]:
        """Move parts of attempts that never finished to quarantine.  Only for the driver, with no worker alive.

        A trial publishes its row in ``trials`` last.  Steps and activations without such a row, or whose row says
        none of `search.schema.FINISHED`, belong to an attempt that died in between.

        Returns:
            What was moved, with its new place.

        Raises:
            StoreError: the run folder cannot be read or written, or ``trials`` has damaged parts (`repair` it first).
        """
        finished = self.finished_attempts()
        reason = "its attempt did not finish: trials has no row of it with the status ok, diverged or pruned"
        return [
            self._quarantine(table, self.root / table / name, reason)
            for table in TRIAL_TABLES
            for name in self._names(table)
            if _key(name) not in finished and name != COMPACTED
        ]

    def _part(self, table: str, key: str) -> Location:
        check_names("table", [table], TABLES)
        if not re.fullmatch(_KEY, key) or key == _COMPACTED_KEY:
            raise SchemaError(f"a part's key must match {_KEY} and not be {_COMPACTED_KEY}, but got {key!r}")
        return self.root / table / f"part-{key}.parquet"

    def _names(self, table: str) -> list[str]:
        """What readers of the folder would take for parts, in order."""
        check_names("table", [table], TABLES)
        with doing(f"read {self.root / table}"):
            # A table without a folder has no rows; a run without a folder is a fault.
            names = self.storage.names(table)
        return [name for name in names if not name.startswith((".", "_"))]

    def _quarantine(self, table: str, path: Location, reason: str) -> BadPart:
        storage, folder = self.storage, f"{QUARANTINE}/{table}"
        with doing(f"move {path} to {self.root / folder}"):
            size = storage.size(f"{table}/{path.name}") or 0
            taken = set(storage.names(folder))
            number = 0
            while (home := path.name if number == 0 else f"{path.name}.{number}") in taken:
                number += 1
            report = {
                "table": table,
                "part": path.name,
                "reason": reason,
                "size": size,
                "moved_at": datetime.now(UTC).isoformat(),
            }
            # The report first: a part in quarantine always has one.
            storage.replace(f"{folder}/{home}.json", (json.dumps(report, indent=2) + "\n").encode())
            crash_point("reported", f"{table}/{path.name}")
            storage.move(f"{table}/{path.name}", f"{folder}/{home}")
        return BadPart(table, self.root / folder / home, reason, size)


def _key(name: str) -> str | None:
    """The key in a part's name; None if it is no name of a part."""
    match = _PART.fullmatch(name)
    return match and match[1]
