"""Reading many parts: hundreds at a time, of each only what is asked for."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from search import compacted, twin
from search.durable import StoreError, describe_failure
from search.location import Location
from search.part import NewerSchemaError, open_end, open_part, verify
from search.runs import in_runs, join, spread
from search.schema import TABLES
from search.seal import PartError, check_seal_of
from search.storage import NotAFileError, Storage

NOT_THERE: Final = "it is not there"
"""Why a part is left out whose file is gone."""

T = TypeVar("T")

_FIRST: Final = 32
_AT_ONCE: Final = 1024
_AT_ONCE_IN_THREADS: Final = 256
_FEWEST: Final = 8


@dataclass(frozen=True)
class BadPart:
    """A file that is left out of a table.

    Attributes:
        table: name of the table.
        path: where it lies: in the table's folder or, once the driver has moved it, in quarantine.
        reason: what is wrong with it, as the end of the sentence "it was left out because ...".
        size: its bytes on disk.
    """

    table: str
    path: Location
    reason: str
    size: int

    def __str__(self) -> str:
        return f"{self.path} ({self.size} bytes): {self.reason}"


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a table.

    Attributes:
        table: its name.
        columns: the columns wanted, in that order.
        where: column → the values of which its cells must have one.
        dictionaries: whether text comes as dictionaries, each value stored once.
        runs: whether what is the same in many rows one after the other comes as one run (`search.runs`).
    """

    table: str
    columns: tuple[str, ...]
    where: Mapping[str, Collection[Any]]
    dictionaries: bool = False
    runs: bool = False

    @cached_property
    def read(self) -> list[str]:
        """All columns that have to be read."""
        return list(dict.fromkeys([*self.columns, *self.where]))

    @cached_property
    def as_dictionaries(self) -> list[str]:
        """Those of them that come as dictionaries."""
        return [
            name
            for name in self.read
            if (self.dictionaries or self.runs) and pa.types.is_string(TABLES[self.table].field(name).type)
        ]

    def of(self, rows: pa.Table) -> pa.Table:
        """What is wanted of rows that have all columns of ``read``."""
        if self.where or not self.runs:
            coded = self.as_dictionaries
            columns = [spread(rows.column(name), coded=name in coded) for name in rows.column_names]
            rows = pa.table(columns, names=rows.column_names)
        for name, values in self.where.items():
            rows = rows.filter(_mask(rows.column(name), values))
        rows = rows.select(list(self.columns))
        return in_runs(rows) if self.runs else rows

    def joined(self, tables: Sequence[pa.Table]) -> pa.Table:
        """What is wanted of several tables, one below the other."""
        rows = join(tables) if tables else self.schema.empty_table()
        return rows.unify_dictionaries() if self.dictionaries or self.runs else rows.combine_chunks()

    @property
    def schema(self) -> pa.Schema:
        """Of what is wanted."""
        kinds = [TABLES[self.table].field(name) for name in self.columns]
        coded = set(self.as_dictionaries)
        return pa.schema(
            [kind.with_type(pa.dictionary(pa.int32(), kind.type)) if kind.name in coded else kind for kind in kinds]
        )


def load(storage: Storage, wanted: Wanted, parts: Sequence[str]) -> Iterator[pa.Table | BadPart]:
    """The rows of parts, told by their names in the folder of the table, and what is wrong with the others.

    Several parts come in one table, in the order of the names.

    Raises:
        StoreError: a part cannot be read at all, or was written under a newer schema.
    """
    yield from _each(storage, parts, lambda chunk: _load(storage, wanted, chunk))


def load_compacted(storage: Storage, wanted: Wanted, keys: Sequence[str] | None = None) -> Iterator[pa.Table | BadPart]:
    """The rows of the compacted file, or of some of its keys in their order, or what is wrong with it.

    Raises:
        StoreError: it cannot be read at all, or was written under a newer schema.
    """
    bad = _bad(storage, wanted.table, compacted.COMPACTED)
    try:
        with storage.open(f"{wanted.table}/{compacted.COMPACTED}") as file:
            bad = replace(bad, size=file.size())
            check_seal_of(file)
            rows = compacted.read(file, wanted.table, wanted.read, keys=keys, dictionaries=wanted.as_dictionaries)
            yield from map(wanted.of, rows)
    except (OSError, PartError, NewerSchemaError) as error:
        yield _explained(bad, error)


def count_rows(storage: Storage, table: str, parts: Sequence[str]) -> list[int]:
    """Rows of each of some parts, told by their names; 0 for one that is damaged, which `load` tells.

    Raises:
        StoreError: a part cannot be read at all, or was written under a newer schema.
    """

    def counts(chunk: Sequence[str]) -> list[int]:
        return [_rows_of(one) for one in _opened(storage, table, chunk, ["schema_version"])]

    return list(_each(storage, parts, counts))


def check(storage: Storage, table: str, parts: Sequence[str], *, deep: bool = False) -> Iterator[BadPart]:
    """What is wrong with parts, told by their names; deep: see `part.verify`.

    At most a few are held in memory at a time.

    Raises:
        StoreError: a part cannot be read at all, or was written under a newer schema.
    """
    checked = _each(storage, parts, lambda chunk: [_check(storage, table, part, deep) for part in chunk])
    yield from filter(None, checked)


def _check(storage: Storage, table: str, part: str, deep: bool) -> BadPart | None:
    bad, name = _bad(storage, table, part), f"{table}/{part}"
    try:
        if part == compacted.COMPACTED:
            with storage.open(name) as file:
                bad = replace(bad, size=file.size())
                check_seal_of(file)
                rows = sum(
                    group.num_rows
                    for group in compacted.read(file, table, TABLES[table].names if deep else ["schema_version"])
                )
                if rows != sum(compacted.contents(file).rows.values()):
                    raise PartError("it has other rows than its table of contents says")
            return None
        data = storage.read(name)
        bad = replace(bad, size=len(data))
        verify(table, data, deep=deep)
        return None
    except (OSError, PartError, NewerSchemaError) as error:
        if isinstance(error, NotAFileError):
            bad = replace(bad, size=storage.size(name) or 0)
        return _explained(bad, error)


def _each(storage: Storage, parts: Sequence[str], work: Callable[[Sequence[str]], list[T]]) -> Iterator[T]:
    """What is made of the parts, many at a time, in their order."""
    wall, busy = time.perf_counter(), time.thread_time()
    first = work(parts[:_FIRST])
    is_waiting = _is_waiting(time.perf_counter() - wall, time.thread_time() - busy)
    yield from first
    rest, at_once = parts[_FIRST:], _AT_ONCE
    if is_waiting:
        at_once = min(_AT_ONCE_IN_THREADS, max(_FEWEST, math.ceil(len(rest) / storage.readers)))
    chunks = [rest[start : start + at_once] for start in range(0, len(rest), at_once)]
    if is_waiting:
        with ThreadPoolExecutor(max_workers=storage.readers) as pool:
            for found in pool.map(work, chunks):
                yield from found
    else:
        yield from itertools.chain.from_iterable(map(work, chunks))


def _is_waiting(wall: float, busy: float) -> bool:
    """Whether most of a time is waiting, for a network say: many can do that at once.

    Threads that compute would only wait for Python's lock.
    """
    return busy < wall / 2


def _load(storage: Storage, wanted: Wanted, parts: Sequence[str]) -> list[pa.Table | BadPart]:
    """Neighbours that have twins become one table."""
    found: list[pa.Table | BadPart] = []
    twins: list[tuple[str, twin.Twin]] = []
    for part, one in zip(parts, _opened(storage, wanted.table, parts, wanted.read), strict=True):
        if isinstance(one, twin.Twin):
            twins.append((part, one))
            continue
        found += _assembled(storage, wanted, twins)
        twins = []
        found.append(one if isinstance(one, BadPart) else wanted.of(one))
    return found + _assembled(storage, wanted, twins)


def _opened(
    storage: Storage, table: str, parts: Sequence[str], columns: Sequence[str]
) -> Iterator[twin.Twin | pa.Table | BadPart]:
    """The rows of each part; of one that has a twin no more is looked at."""
    for part, end in zip(parts, storage.read_ends([f"{table}/{part}" for part in parts], storage.end), strict=True):
        found = None if isinstance(end, OSError) else open_end(table, end)
        yield found or _opened_whole(storage, table, part, columns)


def _opened_whole(storage: Storage, table: str, part: str, columns: Sequence[str]) -> twin.Twin | pa.Table | BadPart:
    name, size = f"{table}/{part}", 0
    try:
        data = storage.read(name)
        size = len(data)
        return open_part(table, data, columns)
    except (OSError, PartError, NewerSchemaError) as error:
        if isinstance(error, NotAFileError):
            size = storage.size(name) or 0
        return _explained(_bad(storage, table, part, size), error)


def _rows_of(one: twin.Twin | pa.Table | BadPart) -> int:
    if isinstance(one, BadPart):
        return 0
    return one.rows if isinstance(one, twin.Twin) else int(one.num_rows)


def _assembled(storage: Storage, wanted: Wanted, twins: Sequence[tuple[str, twin.Twin]]) -> list[pa.Table | BadPart]:
    """The rows of parts in one table, unless one of them is not what a writer makes: then in one for each."""
    if not twins:
        return []
    try:
        parts, coded = [one for _, one in twins], wanted.as_dictionaries
        return [wanted.of(twin.assemble(parts, wanted.read, dictionaries=coded, runs=wanted.runs and not wanted.where))]
    except twin.BAD_TWIN as error:
        if len(twins) == 1:
            [(part, _)] = twins
            size = storage.size(f"{wanted.table}/{part}") or 0
            return [replace(_bad(storage, wanted.table, part, size), reason=twin.explained(error))]
        return list(itertools.chain.from_iterable(_assembled(storage, wanted, [one]) for one in twins))


def _bad(storage: Storage, table: str, part: str, size: int = 0) -> BadPart:
    """A part of which the reason is still to be told."""
    return BadPart(table, storage.root / table / part, reason="", size=size)


def _explained(bad: BadPart, error: Exception) -> BadPart:
    """The part with what is wrong with it; raises StoreError for what is not the part's fault."""
    if isinstance(error, FileNotFoundError):
        return replace(bad, reason=NOT_THERE)
    if isinstance(error, NotAFileError):
        return replace(bad, reason="it is not a regular file")
    if isinstance(error, OSError):
        # No reason to move it: too many open files, no permission, a failing disk.
        raise StoreError(describe_failure(f"read {bad.path}", error)) from error
    if isinstance(error, NewerSchemaError):
        raise StoreError(f"{bad.path} has {error}. Install a newer one: `pip install --upgrade ldnn`.") from error
    return replace(bad, reason=str(error))


def _mask(column: pa.ChunkedArray, values: Collection[Any]) -> pa.ChunkedArray:
    """Which cells have one of the values; None stands for a cell without a value."""
    if not pa.types.is_dictionary(column.type):
        return pc.is_in(column, value_set=pa.array(list(values), column.type))
    allowed = pa.array(list(values), column.type.value_type)
    masks = [
        pc.fill_null(pc.is_in(chunk.dictionary, value_set=allowed).take(chunk.indices), None in values)
        for chunk in column.chunks
    ]
    return pa.chunked_array(masks, pa.bool_())
