"""One part of a table as bytes: rows to Parquet and back, with every cell and every byte checked.

Parquet's own checksums cover the pages only, so a flipped bit in the footer can change a result unseen.  A *seal*
(a mark and the SHA-256 of all other bytes) therefore stands between the pages and the footer, where the format
allows bytes that nobody refers to: any Parquet reader reads a sealed part, and ours sees every flipped bit.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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

_LARGE: Final = 1000
"""From how many rows on zstd and dictionaries pay.

A small part has as many pages as columns, of a few hundred bytes each: there zstd saves nothing over snappy and takes
two thirds of the time of reading, and a dictionary is a second page for each column.
"""


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
    is_large = len(rows) >= _LARGE
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema.with_metadata(_SEALED)),
        sink,
        compression="zstd" if is_large else "snappy",
        use_dictionary=is_large,
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
    return _read(table, data, columns)


def _read(table: str, data: bytes, columns: Sequence[str] | None) -> pa.Table:
    schema = TABLES[table]
    wanted = list(schema.names if columns is None else columns)
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            found = file.schema_arrow
            present = set(found.names)
            needed = [name for name in dict.fromkeys([*wanted, "schema_version"]) if name in present]
            rows = file.read(columns=needed, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PartError(f"it cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    version = _version(rows)
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(f"schema version {version}, but this version of ldnn reads up to {SCHEMA_VERSION}")
    if not found.equals(schema):
        _check_columns(schema, found, version)
    fields = [schema.field(name) for name in wanted]
    arrays = [
        rows.column(field.name) if field.name in present else pa.nulls(rows.num_rows, field.type) for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _column(table: str, field: pa.Field, cells: list[Any]) -> pa.Array:
    description, is_right = _RULES.get(field.type, ("", None))
    if is_right:
        for cell in cells:
            if cell is not None and not is_right(cell):
                raise SchemaError(f"{table}.{field.name} must be {description}, but got {cell!r}")
    try:
        return pa.array(cells, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(f"{table}.{field.name} must be {field.type}, but: {error}") from error


def _is_whole(cell: Any) -> bool:
    return type(cell) is int or (isinstance(cell, Integral) and not isinstance(cell, bool))


def _is_finite(cell: Any) -> bool:
    is_real = type(cell) is float or (isinstance(cell, Real) and not isinstance(cell, bool))
    return is_real and math.isfinite(cell)


_RULES: Final[dict[pa.DataType, tuple[str, Callable[[Any], bool]]]] = {
    pa.int64(): ("a whole number", _is_whole),
    pa.list_(pa.int64()): (
        "a list of whole numbers",
        lambda cell: isinstance(cell, Iterable) and all(one is None or _is_whole(one) for one in cell),
    ),
    pa.float64(): ("a finite number or null (a status says why)", _is_finite),
    pa.string(): ("text", lambda cell: isinstance(cell, str)),
    pa.timestamp("us", tz="UTC"): (
        "a time with its time zone",
        lambda cell: isinstance(cell, datetime) and cell.tzinfo is not None,
    ),
}
"""What cells of a type must be, where Arrow would otherwise convert them without a word."""


def _sealed(data: bytes) -> bytes:
    """The Parquet file ``data`` with a seal in front of its footer."""
    footer = len(data) - len(_MAGIC) - 4 - int.from_bytes(data[-8:-4], "little")
    return data[:footer] + _SEAL_MARK + hashlib.sha256(data).digest() + data[footer:]


def verify(table: str, data: bytes) -> None:
    """Raise what `decode` would raise for these bytes; the pages of a sealed part need not be decoded for that.

    Args:
        table: a name in `search.schema.TABLES`.
        data: the whole file.

    Raises:
        PartError: the bytes are damaged, or their columns or types are not the table's.
        NewerSchemaError: the part has a later schema version than `search.schema.SCHEMA_VERSION`.
    """
    _read(table, data, [] if _check_seal(data) else None)


def _check_seal(data: bytes) -> bool:
    """Whether there is a seal; raises PartError if the bytes are not those that were sealed."""
    if not data:
        raise PartError("it is empty")
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise PartError("it is truncated, or no Parquet file")
    start = data.rfind(_SEAL_MARK)
    if start < 0:
        if any(name in data for name in _SEALED):
            raise PartError("its bytes have changed since it was written: the seal is damaged")
        return False
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(view[start + _SEAL_SIZE :])
    if digest.digest() != view[start + len(_SEAL_MARK) : start + _SEAL_SIZE]:
        raise PartError("its bytes have changed since it was written: the seal does not match")
    return True


def _version(rows: pa.Table) -> int:
    """The latest schema version among the rows; 0 if they do not say, the present one if there are none."""
    if rows.num_rows == 0:
        return SCHEMA_VERSION
    if "schema_version" not in rows.column_names or rows.schema.field("schema_version").type != pa.int64():
        return 0
    return pc.max(rows.column("schema_version")).as_py() or 0


def _check_columns(schema: pa.Schema, found: pa.Schema, version: int) -> None:
    if len(set(found.names)) < len(found.names):
        raise PartError("two of its columns have the same name")
    for field in found:
        if field.name not in schema.names:
            if version == SCHEMA_VERSION:
                raise PartError(f"its column {field.name} is not in schema version {version}")
        elif field.type != schema.field(field.name).type:
            right = schema.field(field.name).type
            raise PartError(f"its column {field.name} has the type {field.type}, but the schema says {right}")
