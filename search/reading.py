"""Reading many parts: a few hundred at a time, in several threads, of each only what is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from search import compacted, twin
from search.durable import StoreError, describe_failure
from search.location import Location
from search.part import NewerSchemaError, open_part, verify
from search.runs import in_runs, join, spread
from search.schema import TABLES
from search.seal import PartError, check_seal_of
from search.storage import NotAFileError, Storage

NOT_THERE: Final = "it is not there"
"""Why a part is left out whose file is gone."""

_AT_ONCE: Final = 256


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


def load(storage: Storage, wanted: Wanted, paths: Sequence[Location]) -> Iterator[pa.Table | BadPart]:
    """The rows of parts, several parts in one table, in the order of the paths; and what is wrong with the others.

    Raises:
        StoreError: a part cannot be read at all, or was written under a newer schema.
    """
    chunks = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    # Reading is mostly hashing and copying in C++, or waiting for a network, which lets other threads run.
    with ThreadPoolExecutor(max_workers=storage.readers) as pool:
        for found in pool.map(lambda chunk: _load(storage, wanted, chunk), chunks):
            yield from found


def load_compacted(
    storage: Storage, wanted: Wanted, path: Location, keys: Sequence[str] | None = None
) -> Iterator[pa.Table | BadPart]:
    """The rows of a compacted file, or of some of its keys in their order, or what is wrong with it.

    Raises:
        StoreError: it cannot be read at all, or was written under a newer schema.
    """
    bad, name = BadPart(wanted.table, path, reason="", size=0), f"{wanted.table}/{path.name}"
    try:
        with storage.open(name) as file:
            bad = replace(bad, size=file.size())
            check_seal_of(file)
            rows = compacted.read(file, wanted.table, wanted.read, keys=keys, dictionaries=wanted.as_dictionaries)
            yield from map(wanted.of, rows)
    except (OSError, PartError, NewerSchemaError) as error:
        yield _explained(bad, error)


def count_rows(storage: Storage, table: str, paths: Sequence[Location]) -> list[int]:
    """Rows of each of some parts; 0 for one that is damaged, which `load` tells.

    Raises:
        StoreError: a part cannot be read at all, or was written under a newer schema.
    """

    def count(path: Location) -> int:
        try:
            one = open_part(table, storage.read(f"{table}/{path.name}"), ["schema_version"])
        except (OSError, PartError, NewerSchemaError) as error:
            _explained(BadPart(table, path, reason="", size=0), error)
            return 0
        return one.rows if isinstance(one, twin.Twin) else int(one.num_rows)

    with ThreadPoolExecutor(max_workers=storage.readers) as pool:
        return list(pool.map(count, paths))


def check(storage: Storage, table: str, paths: Sequence[Location], *, deep: bool = False) -> Iterator[BadPart]:
    """What is wrong with parts, of which at most a few are held in memory at a time; deep: see `part.verify`.

    Raises:
        StoreError: a part cannot be read at all, or was written under a newer schema.
    """
    with ThreadPoolExecutor(max_workers=storage.readers) as pool:
        yield from filter(None, pool.map(lambda path: _check(storage, table, path, deep), paths))


def _check(storage: Storage, table: str, path: Location, deep: bool) -> BadPart | None:
    bad, name = BadPart(table, path, reason="", size=0), f"{table}/{path.name}"
    try:
        if path.name == compacted.COMPACTED:
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


def _load(storage: Storage, wanted: Wanted, paths: Sequence[Location]) -> list[pa.Table | BadPart]:
    """Neighbours that have twins become one table."""
    found: list[pa.Table | BadPart] = []
    twins: list[tuple[Location, twin.Twin]] = []
    for path in paths:
        name, size = f"{wanted.table}/{path.name}", 0
        try:
            data = storage.read(name)
            size = len(data)
            one = open_part(wanted.table, data, wanted.read)
        except (OSError, PartError, NewerSchemaError) as error:
            if isinstance(error, NotAFileError):
                size = storage.size(name) or 0
            found.append(_explained(BadPart(wanted.table, path, "", size), error))
            continue
        if isinstance(one, twin.Twin):
            twins.append((path, one))
            continue
        found += _assembled(wanted, twins)
        twins = []
        found.append(wanted.of(one))
    return found + _assembled(wanted, twins)


def _assembled(wanted: Wanted, twins: Sequence[tuple[Location, twin.Twin]]) -> list[pa.Table | BadPart]:
    """The rows of parts in one table, unless one of them is not what a writer makes: then in one for each."""
    if not twins:
        return []
    try:
        parts, coded = [one for _, one in twins], wanted.as_dictionaries
        return [wanted.of(twin.assemble(parts, wanted.read, dictionaries=coded, runs=wanted.runs and not wanted.where))]
    except twin.BAD_TWIN as error:
        if len(twins) == 1:
            path, one = twins[0]
            return [BadPart(wanted.table, path, twin.explained(error), one.size)]
        return list(itertools.chain.from_iterable(_assembled(wanted, [one]) for one in twins))


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
