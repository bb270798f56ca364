"""The rows of a small part once more, in a form that is read in microseconds: its *twin*.

To open a Parquet file takes some 300 µs and each column 10 µs more, however few the rows; for 10^5 parts that is a
minute.  So a small part also carries its rows as two Arrow messages, which are used where they lie: `Twin.same`, one
row of the columns that have one value in the whole part, and `Twin.own`, the other columns.  Many parts together are
then two concatenations and a repetition of each part's one row.  The messages stand in front of the seal, in bytes
that no footer refers to: other readers do not see them, and the seal covers them.

A twin is used only if its fingerprint says that it was written under exactly the present schema of its table;
otherwise the Parquet pages are read, which is always possible.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.schema import SCHEMA_VERSION, TABLES

_MARK: Final = b"LDNN-TWIN-ARROW1"
_TRAILER: Final = struct.Struct(f"<8sIII{len(_MARK)}s")  # fingerprint, rows, bytes of same, bytes of own, mark
_ALIGNMENT: Final = 64


@dataclass(frozen=True)
class Twin:
    """The rows of one part.

    Attributes:
        table: name of the table.
        flags: bit i of these bytes, lowest first, says whether column i of the schema is in ``same``.
        rows: how many.
        same: one row.
        own: ``rows`` rows.
    """

    table: str
    flags: bytes
    rows: int
    same: pa.RecordBatch
    own: pa.RecordBatch


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
    bits = [_is_same(column) for column in rows.columns]
    flags = bytes(np.packbits(bits, bitorder="little"))
    same, own = _schemas(table, flags)
    first = [column.chunk(0).slice(0, 1) for column, bit in zip(rows.columns, bits, strict=True) if bit]
    others = [column.combine_chunks() for column, bit in zip(rows.columns, bits, strict=True) if not bit]
    messages = [
        pa.RecordBatch.from_arrays(first, schema=same).serialize().to_pybytes(),
        pa.RecordBatch.from_arrays(others, schema=own).serialize().to_pybytes() if others else b"",
    ]
    trailer = _TRAILER.pack(_fingerprint(table), rows.num_rows, *map(len, messages), _MARK)
    return b"".join([bytes(-place % _ALIGNMENT), *messages, flags, trailer])


def unpack(table: str, data: bytes, end: int) -> Twin | None:
    """The twin that ends there; None if there is none, or none of the present schema.

    Args:
        table: a name in `search.schema.TABLES`.
        data: the whole part, whose seal was found to match.
        end: where the seal begins.

    Raises:
        pyarrow.ArrowException: the messages are not what a writer makes.
    """
    if data[end - len(_MARK) : end] != _MARK:
        return None
    found, rows, size_same, size_own, _ = _TRAILER.unpack_from(data, end - _TRAILER.size)
    flags_end = end - _TRAILER.size
    flags_start = flags_end - (len(TABLES[table]) + 7) // 8
    start = flags_start - size_own - size_same
    if found != _fingerprint(table) or start < 0:
        return None
    flags = data[flags_start:flags_end]
    same_schema, own_schema = _schemas(table, flags)
    whole = pa.py_buffer(data)
    same = pa.ipc.read_record_batch(whole.slice(start, size_same), same_schema)
    if size_own:
        own = pa.ipc.read_record_batch(whole.slice(start + size_same, size_own), own_schema)
    else:
        own = pa.RecordBatch.from_arrays([], schema=own_schema)
    # What lies in a buffer is used as it is: offsets that point elsewhere must not be.
    same.validate(full=True)
    own.validate(full=True)
    if same.num_rows != 1 or (size_own and own.num_rows != rows):
        raise pa.ArrowInvalid("the messages of the twin have other numbers of rows than its trailer says")
    return Twin(table, flags, rows, same, own)


def assemble(twins: Sequence[Twin], columns: Sequence[str], *, dictionaries: Collection[str] = ()) -> pa.Table:
    """The rows of several parts of one table, in their order.

    Args:
        twins: at least one.
        columns: the columns wanted, in that order.
        dictionaries: those of them that are wanted as dictionaries.
    """
    alike = [list(group) for _, group in itertools.groupby(twins, key=lambda twin: twin.flags)]
    return pa.concat_tables([_assemble_alike(group, columns, dictionaries) for group in alike])


def _assemble_alike(twins: list[Twin], columns: Sequence[str], dictionaries: Collection[str]) -> pa.Table:
    schema = TABLES[twins[0].table]
    in_same = [name for name in columns if name in twins[0].same.schema.names]
    in_own = [name for name in columns if name in twins[0].own.schema.names]
    same = pa.Table.from_batches([twin.same.select(in_same) for twin in twins])
    own = pa.Table.from_batches([twin.own.select(in_own) for twin in twins])
    places = pa.array(np.repeat(np.arange(len(twins), dtype=np.int32), [twin.rows for twin in twins]))
    arrays = []
    for name in columns:
        array = (same if name in in_same else own).column(name).combine_chunks()
        if name in dictionaries:
            array = array.dictionary_encode()
        arrays.append(array.take(places) if name in in_same else array)
    kinds = [schema.field(name).with_type(array.type) for name, array in zip(columns, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(kinds))


def _is_same(column: pa.ChunkedArray) -> bool:
    """Whether all cells are alike; numbers with a fraction, which 0.0 and -0.0 make hard to compare, only if null."""
    if column.null_count == len(column):
        return True
    if column.null_count or pa.types.is_floating(column.type) or pa.types.is_list(column.type):
        return False
    least, most = pc.min_max(column).values()
    return bool(least.equals(most))


@cache
def _fingerprint(table: str) -> bytes:
    fields = [(field.name, str(field.type)) for field in TABLES[table]]
    return hashlib.sha256(repr((table, SCHEMA_VERSION, fields)).encode()).digest()[:8]


@cache
def _schemas(table: str, flags: bytes) -> tuple[pa.Schema, pa.Schema]:
    fields = [pa.field(field.name, field.type) for field in TABLES[table]]
    bits = np.unpackbits(np.frombuffer(flags, np.uint8), bitorder="little")[: len(fields)]
    same = pa.schema([field for field, bit in zip(fields, bits, strict=True) if bit])
    return same, pa.schema([field for field, bit in zip(fields, bits, strict=True) if not bit])
