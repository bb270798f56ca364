"""Compaction: all parts of a table become one file, without a moment in which a row is missing or there twice.

The compacted file (`search.compacted`) is made in a folder of its own, ``replaced/<table>-<n>``, and read again and
compared with the parts.  Parts that are not to be in it are linked beside it.  Then this folder and the table's folder
exchange their names in one step, which Linux can do (``renameat2``); so who lists the table's folder sees either all
parts or the compacted file.  The old parts lie in ``replaced/`` from then on, until they are removed on request.

After a crash at any step the table's folder is whole, and what lies in ``replaced/`` is either old parts or an
unfinished copy; the next compaction can tell which, and clears the latter away.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from search.compacted import COMPACTED, ROWS_IN_GROUP, read, regrouped, write
from search.driver_lock import driver_lock
from search.durable import StoreError, crash_point, doing, sync_folder
from search.part import same_rows
from search.reading import BadPart, Wanted, check, count_rows, load, load_compacted
from search.run_folder import RunFolder
from search.schema import TABLES
from search.seal import check_seal_of
from search.store import REPLACED, TRIAL_TABLES, Store

COMPACTION_CRASH_POINTS: Final = ("begun", "written", "compared", "linked", "exchanged", "removed")
"""The steps of compacting a table, for `search.durable.crash_point`."""

_KEYS_AT_ONCE: Final = 1000
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of linux/fs.h
_HERE: Final = -100  # AT_FDCWD of fcntl.h


class CompactionError(ValueError):
    """A run cannot be compacted where it lies, or as it is; the words say why and the way out."""


@dataclass(frozen=True)
class Compacted:
    """What became of a table.

    Attributes:
        table: its name.
        parts: how many parts the compacted file stands for; 0 if there was nothing to compact.
        rows: how many rows it has.
        bytes_before: of the files in the table's folder before.
        bytes_after: of those that are there now.
        replaced: folder of the old parts; None if they were removed.
    """

    table: str
    parts: int
    rows: int
    bytes_before: int
    bytes_after: int
    replaced: Path | None


def compact_run(run: RunFolder, *, remove_parts: bool = False) -> list[Compacted]:
    """Compact every table of a run: what is finished; parts of attempts that were not stay as they are.

    Raises:
        RunFolderError: another process drives the run.
        CompactionError, StoreError: see `compact_table`.
    """
    with driver_lock(run, threading.Event()):
        finished = run.store.finished_attempts()
        keys = {table: finished if table in TRIAL_TABLES else run.store.keys(table) for table in TABLES}
        # All before any: the row of a trial can be put aside, for its damaged steps say, while it is a part.
        for table in TABLES:
            _require_sound(run.store, table, keys[table])
        return [_compact(run.store, table, keys[table], remove_parts) for table in TABLES]


def compact_table(store: Store, table: str, keys: Collection[str], *, remove_parts: bool = False) -> Compacted:
    """Replace parts by one file.  Only for the driver, while no worker of the run is alive.

    Args:
        store: of a run in a folder.
        table: a name in `search.schema.TABLES`.
        keys: the parts that are to be in the file; others stay beside it.
        remove_parts: remove the old parts, those of earlier compactions too, once their rows are in the file.

    Raises:
        CompactionError: the run lies in an object store, or the file system cannot exchange two folders.
        StoreError: a part is damaged, the disk is full, or the folder is not writable.
    """
    _require_sound(store, table, keys)
    return _compact(store, table, keys, remove_parts)


def _require_sound(store: Store, table: str, keys: Collection[str]) -> None:
    """Refuse what cannot be compacted, before anything is changed."""
    if not isinstance(store.root, Path):
        raise CompactionError(
            f"only a run in a folder can be compacted, but got {store.root}: in an object store there is no moment at "
            "which many objects become one. Copy the run to a folder, compact it there and copy it back."
        )
    for bad in check(store.storage, table, [f"part-{key}.parquet" for key in _fresh(store, table, keys)]):
        _sound(bad)  # also where its rows could be read: the part may be removed


def _fresh(store: Store, table: str, keys: Collection[str]) -> list[str]:
    """Those of the keys that are loose parts."""
    return sorted(set(keys) & store.keys(table) - store.contained(table).keys())


def _compact(store: Store, table: str, keys: Collection[str], remove_parts: bool) -> Compacted:
    assert isinstance(store.root, Path)
    folder = store.root / table
    with doing(f"compact {folder}"):
        _recover(store, table)
        before, fresh = _bytes_in(folder), _fresh(store, table, keys)
        rows = _replace(store, table, fresh) if fresh else sum(store.contained(table).values())
        if remove_parts:
            for old in _replaced(store.root, table):
                shutil.rmtree(old)
            crash_point("removed", table)
        kept = _replaced(store.root, table)
        return Compacted(table, len(fresh), rows, before, _bytes_in(folder), kept[-1] if kept and fresh else None)


def _replace(store: Store, table: str, fresh: Sequence[str]) -> int:
    """Put one file into the place of these parts and of an earlier compacted file; returns its rows."""
    assert isinstance(store.root, Path)
    folder = store.root / table
    taken = [int(path.name.rpartition("-")[2]) for path in _replaced(store.root, table)]
    new = store.root / REPLACED / f"{table}-{max(taken, default=0) + 1}"
    new.mkdir(parents=True)
    crash_point("begun", table)
    made = write(new / COMPACTED, table, _parts(store, table, fresh))
    crash_point("written", table)
    _require_equal((rows for _, rows in _parts(store, table, fresh)), new / COMPACTED, table)
    crash_point("compared", table)
    inside = {f"part-{key}.parquet" for key in fresh} | {COMPACTED}
    for name in store.storage.names(table):
        if name not in inside:
            os.link(folder / name, new / name, follow_symlinks=False)
    for place in (new, new.parent, store.root):
        sync_folder(place)
    crash_point("linked", table)
    _exchange(new, folder)
    crash_point("exchanged", table)
    for place in (new.parent, store.root):
        sync_folder(place)
    _leave_old_parts(store, table, new)
    return sum(made.rows.values())


def _parts(store: Store, table: str, fresh: Sequence[str]) -> Iterator[tuple[Mapping[str, int], pa.Table]]:
    """The rows of the earlier compacted file and of loose parts, some at a time, with the keys that they begin."""
    wanted = Wanted(table, tuple(TABLES[table].names), {})
    earlier = store.contained(table)
    if earlier:
        for rows in load_compacted(store.storage, wanted):
            yield earlier, _sound(rows)
            earlier = {}  # they are told once, with the first rows
    for start in range(0, len(fresh), _KEYS_AT_ONCE):
        keys = fresh[start : start + _KEYS_AT_ONCE]
        parts = [f"part-{key}.parquet" for key in keys]
        counts = count_rows(store.storage, table, parts)
        loaded = [_sound(rows) for rows in load(store.storage, wanted, parts)]
        yield dict(zip(keys, counts, strict=True)), pa.concat_tables(loaded)


def _sound(rows: pa.Table | BadPart) -> pa.Table:
    if isinstance(rows, BadPart):
        raise StoreError(f"a damaged part cannot be compacted: {rows}. `ldnn resume` moves it and does its work again.")
    return rows


def _require_equal(parts: Iterable[pa.Table], path: Path, table: str) -> None:
    """Read the compacted file and compare its rows, group by group, with those of the parts."""
    with pa.OSFile(str(path)) as file:
        check_seal_of(file)
        groups = read(file, table, TABLES[table].names)
        for mine, theirs in itertools.zip_longest(regrouped(parts, ROWS_IN_GROUP), groups):
            if mine is None or theirs is None or not same_rows(mine, theirs):
                raise StoreError(
                    f"{path} was read again and has other rows than the parts of {table}: see to the disk. Nothing was "
                    "replaced."
                )


def _recover(store: Store, table: str) -> None:
    """Clear away what a crash has left of an unfinished compaction; old parts stay."""
    assert isinstance(store.root, Path)
    for folder in _replaced(store.root, table):
        _leave_old_parts(store, table, folder)
        held = {path.name for path in folder.iterdir()} - {COMPACTED}
        replaced = {f"part-{key}.parquet" for key in store.contained(table)}
        if not held or not held <= replaced:
            # All it has is a copy: nothing is moved before the names are exchanged.
            shutil.rmtree(folder)


def _leave_old_parts(store: Store, table: str, folder: Path) -> None:
    """Leave in a folder of old parts only these.

    Parts that were not to be compacted have a second name there.  What a worker that outlived its driver has published
    there at the last moment is given to the table.
    """
    assert isinstance(store.root, Path)
    replaced = {f"part-{key}.parquet" for key in store.contained(table)} | {COMPACTED}
    present = set(store.storage.names(table))
    for path in sorted(folder.iterdir()):
        if path.name in present and path.name not in replaced:
            path.unlink()
        elif path.name not in replaced:
            path.rename(store.root / table / path.name)


def _replaced(root: Path, table: str) -> list[Path]:
    """Folders of old parts of a table, oldest first."""
    found = [path for path in (root / REPLACED).glob(f"{table}-*") if path.name.removeprefix(f"{table}-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _bytes_in(folder: Path) -> int:
    return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))


def _exchange(one: Path, other: Path) -> None:
    """Let two folders have each other's names, in one step."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        raise _cannot_exchange(other, "this system has no renameat2") from None
    if renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise _cannot_exchange(other, os.strerror(number))
    raise OSError(number, os.strerror(number), str(other))


def _cannot_exchange(folder: Path, why: str) -> CompactionError:
    return CompactionError(
        f"the file system must be able to exchange two folders in one step, but that of {folder} is not ({why}): "
        "copy the run to a local disk of a Linux machine (ext4, XFS, Btrfs, tmpfs) and compact it there."
    )
