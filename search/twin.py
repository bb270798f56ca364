"""The rows of a small part once more, in a form that is read in microseconds: its *twin*.

To open a Parquet file takes some 300 µs and each column 10 µs more, however few the rows; for 10^5 parts that is a
minute.  So a small part also carries its rows like this: JSON with the cells of the columns that have one value in the
whole part, once, and an Arrow message with the other columns, which is used where it lies.  Many parts together are
then a concatenation, and a repetition of each part's one value.  Both stand in front of the seal, in bytes that no
footer refers to: other readers do not see them, and the seal covers them.

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
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.schema import SCHEMA_VERSION, TABLES

_MARK: Final = b"LDNN-TWIN-ARROW1"
_TRAILER: Final = struct.Struct(f"<8sII{len(_MARK)}s")  # fingerprint, bytes of JSON, bytes of Arrow, mark
_ALIGNMENT: Final = 64


@dataclass(frozen=True)
class Twin:
    """The rows of one part.

    Attributes:
        table: name of the table.
        rows: how many.
        same: column → its value in all rows; columns that are nowhere here have none.
        own: the other columns; None if there are none.
    """

    table: str
    rows: int
    same: Mapping[str, Any]
    own: pa.RecordBatch | None

    @property
    def varying(self) -> tuple[str, ...]:
        """The columns in ``own``."""
        return () if self.own is None else tuple(self.own.schema.names)


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
    same, varying = {}, []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if column.null_count == rows.num_rows:
            continue
        if _is_same(column):
            cell = column[0]
            same[name] = cell.value if pa.types.is_timestamp(column.type) else cell.as_py()
        else:
            varying.append(name)
    described = json.dumps({"rows": rows.num_rows, "own": varying, "same": same}, separators=(",", ":")).encode()
    message = b""
    if varying:
        arrays = [rows.column(name).combine_chunks() for name in varying]
        message = pa.RecordBatch.from_arrays(arrays, schema=_schema(table, tuple(varying))).serialize().to_pybytes()
    trailer = _TRAILER.pack(_fingerprint(table), len(described), len(message), _MARK)
    return b"".join([bytes(-place % _ALIGNMENT), message, described, trailer])


def unpack(table: str, data: bytes, end: int) -> Twin | None:
    """The twin that ends there; None if there is none, or none of the present schema.

    Args:
        table: a name in `search.schema.TABLES`.
        data: the whole part, whose seal was found to match.
        end: where the seal begins.

    Raises:
        pyarrow.ArrowException, ValueError, LookupError, TypeError: it is not what a writer makes.
    """
    if data[end - len(_MARK) : end] != _MARK:
        return None
    found, size, size_own, _ = _TRAILER.unpack_from(data, end - _TRAILER.size)
    end_own = end - _TRAILER.size - size
    if found != _fingerprint(table):
        return None
    described = json.loads(data[end_own : end - _TRAILER.size])
    rows, varying, same = described["rows"], described["own"], described["same"]
    own = None
    if varying:
        message = pa.py_buffer(data).slice(end_own - size_own, size_own)
        own = pa.ipc.read_record_batch(message, _schema(table, tuple(varying)))
        # What lies in a buffer is used as it is: offsets that point elsewhere must not be.
        own.validate(full=True)
        if own.num_rows != rows:
            raise ValueError(f"it says {rows} rows and has {own.num_rows}")
    return Twin(table, rows, same, own)


def assemble(twins: Sequence[Twin], columns: Sequence[str], *, dictionaries: Collection[str] = ()) -> pa.Table:
    """The rows of several parts of one table, in their order.

    Args:
        twins: at least one.
        columns: the columns wanted, in that order.
        dictionaries: those of them that are wanted as dictionaries.

    Raises:
        pyarrow.ArrowException, ValueError, TypeError: a twin is not what a writer makes.
    """
    alike = [list(group) for _, group in itertools.groupby(twins, key=lambda twin: twin.varying)]
    return pa.concat_tables([_assemble_alike(group, columns, dictionaries) for group in alike])


def _assemble_alike(twins: list[Twin], columns: Sequence[str], dictionaries: Collection[str]) -> pa.Table:
    schema, varying = TABLES[twins[0].table], twins[0].varying
    in_own = [name for name in columns if name in varying]
    batches = [twin.own.select(in_own) for twin in twins if twin.own is not None]
    own = pa.Table.from_batches(batches) if in_own else None
    places = pa.array(np.repeat(np.arange(len(twins), dtype=np.int32), [twin.rows for twin in twins]))
    arrays, fields = [], []
    for name in columns:
        field = schema.field(name)
        if own is not None and name in in_own:
            array = own.column(name).combine_chunks()
        else:
            array = pa.array([twin.same.get(name) for twin in twins], field.type)
        if name in dictionaries:
            array = array.dictionary_encode()
        arrays.append(array if name in in_own else array.take(places))
        fields.append(field.with_type(array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _is_same(column: pa.ChunkedArray) -> bool:
    """Whether all cells are there and alike; never of numbers with a fraction, as 0.0 and -0.0 are hard to compare."""
    if column.null_count or pa.types.is_floating(column.type) or pa.types.is_list(column.type):
        return False
    return bool(column.slice(1).equals(column.slice(0, len(column) - 1)))


@cache
def _fingerprint(table: str) -> bytes:
    fields = [(field.name, str(field.type)) for field in TABLES[table]]
    return hashlib.sha256(repr((table, SCHEMA_VERSION, fields)).encode()).digest()[:8]


@cache
def _schema(table: str, names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([pa.field(name, TABLES[table].field(name).type) for name in names])
