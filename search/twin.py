"""The rows of a small part once more, in a form that is read in microseconds: its *twin*.

To open a Parquet file takes some 300 µs and each column 10 µs more, however few the rows; for 10^5 parts that is a
minute.  So a small part also carries its rows like this, in front of the seal, in bytes that no footer refers to (other
readers do not see them):

- *lists*: an Arrow message with the columns of lists, which is looked at only if one of them is wanted;
- *cells*: one column after the other, 8 bytes for each row: numbers as they are, texts as places in a list of their
  values; behind a column that has gaps, one of 0 where a cell is missing and 1 elsewhere;
- two lines of JSON: the *layout*, which nearly all parts of a run share, and what is this part's own: the one value of
  each column that is the same in all its rows, and the texts;
- a fixed end: for which schema it is, how long these are, and the SHA-256 of all of it.

The rows of many parts together are then a concatenation, and a repetition of each part's one value.  With a checksum of
its own a twin can be used without the rest of the part: of files that are not in memory, reading is most of the cost.

A twin is used only if its fingerprint says that it was written under exactly the present schema of its table;
otherwise the Parquet pages are read, which is always possible.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search.runs import join
from search.schema import SCHEMA_VERSION, TABLES

_MARK: Final = b"LDNN-TWIN-CELLS3"
_SIZES: Final = struct.Struct("<8sII")  # fingerprint, bytes of JSON, bytes of lists
_TRAILER: Final = struct.Struct(f"<{_SIZES.size}s32s{len(_MARK)}s")  # the sizes, SHA-256 of all before, mark
_ALIGNMENT: Final = 64
_CELL: Final = 8
MOST_ROWS: Final = 1000
"""Of a part with a twin.  Where all columns are of one value, bytes do not bound the number of rows."""

BAD_TWIN: Final = (pa.ArrowException, ValueError, LookupError, TypeError, OverflowError, RecursionError)
"""What is raised about a twin that is not what a writer makes."""


@dataclass(frozen=True)
class _Layout:
    """Where the cells of a part lie.

    Attributes:
        rows: how many the part has.
        cells: columns of ``Twin.cells``, each with whether it has gaps.
        lists: columns of ``Twin.lists``.
        own: columns of ``Twin.own``, those of one value before those of text.
    """

    rows: int
    cells: tuple[tuple[str, bool], ...]
    lists: tuple[str, ...]
    own: tuple[str, ...]

    @cached_property
    def columns(self) -> tuple[Any, ...]:
        """What parts must share to be read together: all but the number of their rows."""
        return self.cells, self.lists, self.own

    @cached_property
    def places(self) -> Mapping[str, tuple[int, bool]]:
        """Column → how many stand before it, and whether the next one says where its gaps are."""
        before = itertools.accumulate((1 + has_gaps for _, has_gaps in self.cells), initial=0)
        return {name: (place, has_gaps) for place, (name, has_gaps) in zip(before, self.cells, strict=False)}

    @cached_property
    def own_places(self) -> Mapping[str, int]:
        """Column → its place in ``Twin.own``."""
        return {name: place for place, name in enumerate(self.own)}

    @cached_property
    def bytes_of_column(self) -> int:
        """Of each column of cells."""
        return self.rows * _CELL

    @cached_property
    def bytes_of_cells(self) -> int:
        """Of all of them."""
        return sum(1 + has_gaps for _, has_gaps in self.cells) * self.bytes_of_column


class Twin(NamedTuple):
    """The rows of one part; a tuple, because a hundred thousand are made while somebody waits.

    Attributes:
        table: name of the table.
        layout: where the cells lie.
        own: of each column that is the same in all rows its value, and of each text among the cells its values.
        lists: an Arrow message.
        cells: see the module.
    """

    table: str
    layout: _Layout
    own: list[Any]
    lists: memoryview
    cells: memoryview

    @property
    def rows(self) -> int:
        """How many."""
        return self.layout.rows

    def column(self, place: int) -> memoryview:
        """The cells of one column."""
        size = self.layout.bytes_of_column
        return self.cells[place * size : (place + 1) * size]


def pack(table: str, rows: pa.Table, *, place: int) -> bytes:
    """The bytes of a twin of rows that have the whole schema of their table; none if they cannot have one.

    Args:
        table: a name in `search.schema.TABLES`.
        rows: of one part.
        place: where in the file the bytes will stand.
    """
    versions = rows.column("schema_version")
    if rows.num_rows == 0 or versions.null_count or not pc.all(pc.equal(versions, SCHEMA_VERSION)).as_py():
        return b""
    same: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    cells: list[bytes] = []
    described: list[tuple[str, bool]] = []
    lists = []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if column.null_count == rows.num_rows:
            continue
        if _is_same(column):
            cell = column[0]
            same[name] = cell.value if pa.types.is_timestamp(column.type) else cell.as_py()
        elif pa.types.is_list(column.type):
            lists.append(name)
        else:
            array = column.combine_chunks()
            if pa.types.is_string(array.type):
                array = array.dictionary_encode()
                texts[name] = array.dictionary.to_pylist()
                array = array.indices
            kind = pa.float64() if pa.types.is_floating(array.type) else pa.int64()
            cells.append(pc.fill_null(array.cast(kind), 0).to_numpy().tobytes())
            if has_gaps := array.null_count > 0:
                cells.append(array.is_valid().cast(pa.int64()).to_numpy().tobytes())
            described.append((name, has_gaps))
    message = b""
    if lists:
        arrays = [rows.column(name).combine_chunks() for name in lists]
        message = pa.RecordBatch.from_arrays(arrays, schema=_schema(table, tuple(lists))).serialize().to_pybytes()
    layout = {"rows": rows.num_rows, "cells": described, "lists": lists, "own": [*same, *texts]}
    own = [*same.values(), *texts.values()]
    lines = [json.dumps(one, separators=(",", ":")).encode() for one in (layout, own)]
    words = b"\n".join(lines)
    sizes = _SIZES.pack(_fingerprint(table), len(words), len(message))
    content = b"".join([message, *cells, words, sizes])
    return b"".join([bytes(-place % _ALIGNMENT), content, hashlib.sha256(content).digest(), _MARK])


def unpack(table: str, data: bytes, end: int) -> Twin | None:
    """The twin that ends there; None if there is none, or none of the present schema.

    Args:
        table: a name in `search.schema.TABLES`.
        data: a part, or so much of it as holds the twin.
        end: where the twin ends and the seal begins.

    Raises:
        one of `BAD_TWIN`: it is not what a writer makes.
    """
    if end < _TRAILER.size or not data.endswith(_MARK, 0, end):
        return None
    sizes, digest, _ = _TRAILER.unpack_from(data, end - _TRAILER.size)
    found, size, size_lists = _SIZES.unpack(sizes)
    if found != _fingerprint(table):
        return None
    end -= _TRAILER.size
    shared, own = data[end - size : end].split(b"\n")
    layout = _layout(table, shared)
    start = end - size - layout.bytes_of_cells
    if start < size_lists:
        raise ValueError(f"it says {layout.rows} rows and is too short for them")
    view = memoryview(data)
    if hashlib.sha256(view[start - size_lists : end + _SIZES.size]).digest() != digest:
        raise ValueError("its bytes have changed since it was written")
    values = json.loads(own.decode())
    if len(values) != len(layout.own):
        raise ValueError(f"it has {len(values)} values for {len(layout.own)} columns")
    return Twin(table, layout, values, view[start - size_lists : start], view[start : end - size])


def assemble(
    twins: Sequence[Twin], columns: Sequence[str], *, dictionaries: Collection[str] = (), runs: bool = False
) -> pa.Table:
    """The rows of several parts of one table, in their order.

    Args:
        twins: at least one.
        columns: the columns wanted, in that order.
        dictionaries: those of them that are wanted as dictionaries.
        runs: whether what is the same in all rows of a part comes as one run, be it text or not.

    Raises:
        one of `BAD_TWIN`: a twin is not what a writer makes.
    """
    alike = [list(group) for _, group in itertools.groupby(twins, key=lambda one: one.layout.columns)]
    return join([_assemble_alike(group, columns, dictionaries, runs) for group in alike])


def explained(error: Exception) -> str:
    """One of `BAD_TWIN` in words."""
    return f"its twin cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}"


def _assemble_alike(twins: list[Twin], columns: Sequence[str], dictionaries: Collection[str], runs: bool) -> pa.Table:
    schema, layout = TABLES[twins[0].table], twins[0].layout
    counts = np.array([twin.rows for twin in twins])
    owners = np.repeat(np.arange(len(twins), dtype=np.int32), counts)
    ends = pa.array(np.cumsum(counts), pa.int32())
    lists = _lists(twins, [name for name in columns if name in layout.lists])
    arrays, fields = [], []
    for name in columns:
        field, is_coded = schema.field(name), name in dictionaries
        if name in layout.places:
            array = _cells(twins, field, owners)
            array = array if is_coded or not pa.types.is_dictionary(array.type) else array.dictionary_decode()
        elif name in layout.lists:
            array = lists.column(name).combine_chunks()
        else:
            place = layout.own_places.get(name)
            values = itertools.repeat(None, len(twins)) if place is None else [twin.own[place] for twin in twins]
            array = pa.array(values, field.type)
            if runs and not pa.types.is_list(field.type):
                array = pa.RunEndEncodedArray.from_arrays(ends, array)
            else:
                array = (array.dictionary_encode() if is_coded else array).take(pa.array(owners))
        arrays.append(array)
        fields.append(field.with_type(array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _cells(twins: list[Twin], field: pa.Field, owners: NDArray[np.int32]) -> pa.Array:
    """A column of cells; text as a dictionary."""
    kind = field.type
    place, has_gaps = twins[0].layout.places[field.name]
    found = b"".join([twin.column(place) for twin in twins])
    missing = None
    if has_gaps:
        missing = np.frombuffer(b"".join([twin.column(place + 1) for twin in twins]), np.int64) == 0
    if pa.types.is_string(kind):
        own = twins[0].layout.own_places[field.name]
        return _texts([twin.own[own] for twin in twins], np.frombuffer(found, np.int64), missing, owners)
    if missing is None and not pa.types.is_boolean(kind):
        return pa.Array.from_buffers(kind, len(owners), [None, pa.py_buffer(found)])
    if pa.types.is_floating(kind):
        return pa.array(np.frombuffer(found, np.float64), kind, mask=missing)
    numbers = np.frombuffer(found, np.int64)
    if pa.types.is_boolean(kind):
        return pa.array(numbers != 0, kind, mask=missing)
    return pa.array(numbers, pa.int64(), mask=missing).cast(kind)


def _texts(
    values: list[list[str]],
    codes: NDArray[np.int64],
    missing: NDArray[np.bool_] | None,
    owners: NDArray[np.int32],
) -> pa.Array:
    """Text of several parts, each with its own values, as a dictionary."""
    counts = np.array([len(one) for one in values])
    if codes.min() < 0 or (codes >= counts[owners]).any():
        raise ValueError("a text has a place outside the list of texts")
    coded = pa.array(itertools.chain.from_iterable(values), pa.string()).dictionary_encode()
    starts = np.cumsum(counts) - counts
    indices = coded.indices.to_numpy()[codes + starts[owners]]
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=missing), coded.dictionary)


def _lists(twins: list[Twin], names: Sequence[str]) -> pa.Table:
    """Columns of lists, of all these parts."""
    if not names:
        return pa.table({})
    schema, batches = _schema(twins[0].table, twins[0].layout.lists), []
    for twin in twins:
        batch = pa.ipc.read_record_batch(pa.py_buffer(twin.lists), schema)
        # What lies in a buffer is used as it is: offsets that point elsewhere must not be.
        batch.validate(full=True)
        if batch.num_rows != twin.rows:
            raise ValueError(f"it says {twin.rows} rows and has lists for {batch.num_rows}")
        batches.append(batch.select(names))
    return pa.Table.from_batches(batches)


def _is_same(column: pa.ChunkedArray) -> bool:
    """Whether all cells are there and alike, numbers to the last bit: 0.0 is not -0.0."""
    if column.null_count or pa.types.is_list(column.type):
        return False
    if pa.types.is_floating(column.type):
        column = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks])
    return bool(column.slice(1).equals(column.slice(0, len(column) - 1)))


@lru_cache(maxsize=1024)
def _layout(table: str, words: bytes) -> _Layout:
    """What the first line says; nearly all parts of a run have one of a few."""
    said = json.loads(words)
    cells = tuple((name, has_gaps) for name, has_gaps in said["cells"])
    layout = _Layout(said["rows"], cells, tuple(said["lists"]), tuple(said["own"]))
    if not isinstance(layout.rows, int) or not {gaps for _, gaps in layout.cells} <= {True, False}:
        raise ValueError("it does not say how many rows it has, or which columns have gaps")
    if not 1 <= layout.rows <= MOST_ROWS:
        raise ValueError(f"it says {layout.rows} rows")
    kinds = [TABLES[table].field(name).type for name in [*layout.places, *layout.lists]]
    if [pa.types.is_list(kind) for kind in kinds] != [False] * len(layout.cells) + [True] * len(layout.lists):
        raise ValueError("its lists are not the columns of lists")
    return layout


@cache
def _fingerprint(table: str) -> bytes:
    fields = [(field.name, str(field.type)) for field in TABLES[table]]
    return hashlib.sha256(repr((table, SCHEMA_VERSION, fields)).encode()).digest()[:8]


@cache
def _schema(table: str, names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([pa.field(name, TABLES[table].field(name).type) for name in names])
