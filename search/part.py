"""One part of a table as bytes: rows to Parquet and back, with every cell and every byte checked.

Parquet's own checksums cover the pages only, so a flipped bit in the footer can change a result unseen.  A *seal*
(a mark and the SHA-256 of all other bytes) therefore stands between the pages and the footer, where the format
allows bytes that nobody refers to: any Parquet reader reads a sealed part, and ours sees every flipped bit.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from search.schema import SCHEMA_VERSION, TABLES

_SEAL_MARK: Final = b"LDNN-SEAL-SHA256"
_SEAL_SIZE: Final = len(_SEAL_MARK) + 32
# Also named in the footer, so that a seal whose mark is damaged is missed.
_SEALED: Final = {b"ldnn.sealed": b"sha256"}
_MAGIC: Final = b"PAR1"

_DICTIONARY_ROWS: Final = 1000
"""From how many rows on dictionaries pay; in small parts they cost a page, and so time, per column."""


class SchemaError(ValueError):
    """A table, column, key or value that the schema does not allow."""


class PartError(ValueError):
    """The bytes of a part are damaged or were never a part; the words say how."""


class NewerSchemaError(ValueError):
    """A part was written under a later schema than this code knows."""


def check_names(what: str, names: Collection[str], allowed: Collection[str]) -> None:
    """Refuse unknown names.

    Raises:
        SchemaError: a name is not allowed; the words give the nearest allowed one.
    """
    for name in names:
        if name not in allowed:
            nearest = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.0)
            raise SchemaError(f"unknown {what} {name!r}: did you mean {nearest[0]!r}? Allowed: {', '.join(allowed)}")


def encode(table: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as the bytes of a sealed Parquet file with the whole schema of their table.

    Missing cells become null; ``schema_version`` and ``created_at`` are filled in where they are missing.

    Args:
        table: a name in `search.schema.TABLES`.
        rows: column name → value; numpy scalars and arrays are fine.

    Raises:
        SchemaError: an unknown table or column; a value of another type; a real number that is not finite, other
            than inside a list; a time without a time zone.
    """
    check_names("table", [table], TABLES)
    schema = TABLES[table]
    defaults = {"schema_version": SCHEMA_VERSION, "created_at": datetime.now(UTC)}
    for row in rows:
        check_names(f"column of {table}", row, schema.names)
    columns = []
    for field in schema:
        cells = [row.get(field.name) for row in rows]
        if field.name in defaults:
            cells = [defaults[field.name] if cell is None else cell for cell in cells]
        columns.append(_column(table, field, cells))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema.with_metadata(_SEALED)),
        sink,
        compression="zstd",
        use_dictionary=len(rows) >= _DICTIONARY_ROWS,
        write_page_checksum=True,
    )
    return _sealed(sink.getvalue().to_pybytes())


def decode(table: str, data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a part, with the explicit schema of their table.

    A column that the part does not have is null.  A column that only an older schema had is dropped.

    Args:
        table: a name in `search.schema.TABLES`.
        data: the whole file.
        columns: the columns wanted, in that order; all if None.

    Raises:
        PartError: the bytes are damaged, or their columns or types are not the table's.
        NewerSchemaError: the part has a later schema version than `search.schema.SCHEMA_VERSION`.
    """
    _check_seal(data)
    schema = TABLES[table]
    wanted = list(schema.names if columns is None else columns)
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            found = file.schema_arrow
            needed = [name for name in dict.fromkeys([*wanted, "schema_version"]) if name in found.names]
            rows = file.read(columns=needed, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PartError(f"it cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    _check_columns(schema, found, _version(rows))
    fields = [schema.field(name) for name in wanted]
    arrays = [
        rows.column(field.name) if field.name in found.names else pa.nulls(rows.num_rows, field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _column(table: str, field: pa.Field, cells: list[Any]) -> pa.Array:
    for cell in cells:
        if cell is not None and (fault := _fault(field.type, cell)):
            raise SchemaError(f"{table}.{field.name} must be {fault}, but got {cell!r}")
    try:
        return pa.array(cells, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(f"{table}.{field.name} must be {field.type}, but: {error}") from error


def _fault(kind: pa.DataType, cell: Any) -> str | None:
    """What the cell should have been, where Arrow would convert it without a word; else None."""
    if pa.types.is_list(kind) and pa.types.is_integer(kind.value_type):
        is_list = isinstance(cell, Iterable) and not any(_fault(kind.value_type, item) for item in cell)
        return None if is_list else "a list of whole numbers"
    if pa.types.is_integer(kind):
        return None if isinstance(cell, Integral) and not isinstance(cell, bool) else "a whole number"
    if pa.types.is_floating(kind):
        is_real = isinstance(cell, Real) and not isinstance(cell, bool)
        return None if is_real and math.isfinite(cell) else "a finite number or null (a status says why)"
    if pa.types.is_string(kind):
        return None if isinstance(cell, str) else "text"
    if pa.types.is_timestamp(kind):
        return None if isinstance(cell, datetime) and cell.tzinfo is not None else "a time with its time zone"
    return None


def _sealed(data: bytes) -> bytes:
    """The Parquet file ``data`` with a seal in front of its footer."""
    footer = len(data) - len(_MAGIC) - 4 - int.from_bytes(data[-8:-4], "little")
    return data[:footer] + _SEAL_MARK + hashlib.sha256(data).digest() + data[footer:]


def _check_seal(data: bytes) -> None:
    """Raise PartError if the bytes are not those that were sealed.  Files that never had a seal pass."""
    if not data:
        raise PartError("it is empty")
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise PartError("it is truncated, or no Parquet file")
    start = data.rfind(_SEAL_MARK)
    if start < 0:
        if any(name in data for name in _SEALED):
            raise PartError("its bytes have changed since it was written: the seal is damaged")
        return
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(view[start + _SEAL_SIZE :])
    if digest.digest() != view[start + len(_SEAL_MARK) : start + _SEAL_SIZE]:
        raise PartError("its bytes have changed since it was written: the seal does not match")


def _version(rows: pa.Table) -> int:
    """The latest schema version among the rows; 0 if they do not say, the present one if there are none."""
    if rows.num_rows == 0:
        return SCHEMA_VERSION
    if "schema_version" not in rows.column_names or rows.schema.field("schema_version").type != pa.int64():
        return 0
    return pc.max(rows.column("schema_version")).as_py() or 0


def _check_columns(schema: pa.Schema, found: pa.Schema, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(f"schema version {version}, but this version of ldnn reads up to {SCHEMA_VERSION}")
    if len(set(found.names)) < len(found.names):
        raise PartError("two of its columns have the same name")
    for field in found:
        if field.name not in schema.names:
            if version == SCHEMA_VERSION:
                raise PartError(f"its column {field.name} is not in schema version {version}")
        elif field.type != schema.field(field.name).type:
            right = schema.field(field.name).type
            raise PartError(f"its column {field.name} has the type {field.type}, but the schema says {right}")
