"""One part of a table as bytes: rows to Parquet and back, with every cell and every byte checked.

Parquet's own checksums cover the pages only, so a flipped bit in the footer can change a result unseen.  A *seal*
(a mark and the SHA-256 of all other bytes) therefore stands between the pages and the footer, where the format
allows bytes that nobody refers to: any Parquet reader reads a sealed part, and whoever looks at all of it sees every
flipped bit.  A small part has its rows there once more, in a form that is quicker to read and has a checksum of its own
(`search.twin`): who wants its rows looks at no more.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from numbers import Integral, Real
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from search import twin
from search.schema import SCHEMA_VERSION, TABLES
from search.seal import SEAL_SIZE, SEALED, PartError, check_seal, footer_start, sealed

_SMALL: Final = twin.MOST_ROWS
"""Up to how many rows zstd and dictionaries do not pay.

A small part has as many pages as columns, of a few hundred bytes each: there zstd saves nothing over snappy and takes
two thirds of the time of reading, and a dictionary is a second page for each column.  Nor has it statistics or Arrow's
copy of the schema, which together were half of its bytes.
"""


class SchemaError(ValueError):
    """A table, column, key or value that the schema does not allow."""


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


def check_values(table: str, column: str, values: Collection[Any]) -> None:
    """Refuse values that no cell of a column can have.

    Raises:
        SchemaError: one is of another type than the column, or the column has lists.
    """
    kind = TABLES[table].field(column).type
    try:
        if pa.types.is_list(kind) or isinstance(values, str):
            raise TypeError("a list of values of a column without lists is needed")
        pa.array(list(values), kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(f"values of {table}.{column} ({kind}) cannot be {values!r}: {error}") from error


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
    given = dict.fromkeys(itertools.chain.from_iterable(rows))
    check_names(f"column of {table}", given, dict.fromkeys(schema.names))
    cells_of = _transposed(rows, list(given))
    columns = []
    for field in schema:
        if field.name not in given and field.name not in defaults:
            columns.append(pa.nulls(len(rows), field.type))
            continue
        cells = cells_of.get(field.name) or [None] * len(rows)
        if field.name in defaults:
            cells = [defaults[field.name] if cell is None else cell for cell in cells]
        columns.append(_column(table, field, cells))
    return encode_table(table, pa.Table.from_arrays(columns, schema=schema))


def encode_table(table: str, rows: pa.Table) -> bytes:
    """`encode` for rows that are an Arrow table with the whole schema already; their cells are not checked."""
    is_large = rows.num_rows > _SMALL
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        rows.schema,
        compression="zstd" if is_large else "snappy",
        use_dictionary=is_large,
        write_statistics=is_large,
        store_schema=is_large,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(SEALED)
    data = sink.getvalue().to_pybytes()
    footer = footer_start(data)
    between = b"" if is_large else twin.pack(table, rows, place=footer)
    return sealed(data[:footer], between, data[footer:])


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
    found = open_part(table, data, columns)
    if isinstance(found, twin.Twin):
        try:
            return twin.assemble([found], TABLES[table].names if columns is None else columns)
        except twin.BAD_TWIN as error:
            raise PartError(twin.explained(error)) from error
    return found


def open_end(table: str, end: bytes) -> twin.Twin | None:
    """The rows of a part as its twin, given the end of the file; None if `open_part` has to see all of it.

    The twin is checked, and nothing else is.
    """
    place = footer_start(end) - SEAL_SIZE
    if place < 0:
        return None
    try:
        return twin.unpack(table, end, place)
    except twin.BAD_TWIN:
        return None


def open_part(table: str, data: bytes, columns: Sequence[str] | None = None) -> twin.Twin | pa.Table:
    """The rows of a part, given all its bytes, as its twin with all columns, or else as `decode` gives them.

    Raises what `decode` raises.
    """
    return _opened(table, data, check_seal(data), columns)


def _opened(table: str, data: bytes, seal: int | None, columns: Sequence[str] | None) -> twin.Twin | pa.Table:
    """`open_part`, given where the seal begins, which matches."""
    if seal is not None:
        try:
            if found := twin.unpack(table, data, seal):
                return found
        except twin.BAD_TWIN as error:
            raise PartError(twin.explained(error)) from error
    return _read(table, data, columns)


def _read(table: str, data: bytes, columns: Sequence[str] | None) -> pa.Table:
    wanted = list(TABLES[table].names if columns is None else columns)
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            found = file.schema_arrow
            rows = file.read(columns=needed(found, wanted), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PartError(f"it cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    return conform(table, found, rows, wanted)


def needed(found: pa.Schema, wanted: Sequence[str]) -> list[str]:
    """What has to be read of a part with this schema so that `conform` can make the wanted columns of it."""
    return [name for name in dict.fromkeys([*wanted, "schema_version"]) if name in found.names]


def conform(table: str, found: pa.Schema, rows: pa.Table, wanted: Sequence[str]) -> pa.Table:
    """Rows as the present schema has them: missing columns null, columns that it does not know left out.

    Args:
        table: a name in `search.schema.TABLES`.
        found: the schema of the part.
        rows: its `needed` columns; text may be there as dictionaries, and stays so.
        wanted: the columns wanted, in that order.

    Raises:
        PartError: columns or types are not the table's.
        NewerSchemaError: a row has a later schema version than `search.schema.SCHEMA_VERSION`.
    """
    schema = TABLES[table]
    version = _version(rows)
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(f"schema version {version}, but this version of ldnn reads up to {SCHEMA_VERSION}")
    if not found.equals(schema):
        _check_columns(schema, found, version)
    arrays, fields = [], []
    for name in wanted:
        field = schema.field(name)
        array = rows.column(name) if name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        if pa.types.is_list(array.type):
            array = array.cast(field.type)  # without Arrow's copy of the schema its items have another name
        arrays.append(array)
        fields.append(field.with_type(array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _transposed(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Column name → its cells; None where a row does not have one."""
    if len(names) > 1:
        with suppress(KeyError):  # as a rule all rows have all names, and then this is much quicker
            return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))
    return {name: [row.get(name) for row in rows] for name in names}


def _column(table: str, field: pa.Field, cells: Sequence[Any]) -> pa.Array:
    description, is_right = _RULES.get(field.type, ("", None))
    # Cells of Python's own types, which nearly all are, need no look at each of them.
    kinds = set(map(type, cells)) - {type(None)}
    is_plain = kinds <= _PLAIN.get(field.type, set()) and (
        float not in kinds or all(map(math.isfinite, filter(None, cells)))
    )
    if is_right and not is_plain:
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

_PLAIN: Final[dict[pa.DataType, set[type]]] = {pa.int64(): {int}, pa.float64(): {float}, pa.string(): {str}}
"""Python's own types for it."""


def verify(table: str, data: bytes, *, deep: bool = False) -> None:
    """Raise what `decode` would raise for these bytes; what is sealed need not be decoded for that.

    Only a twin that no writer makes, and that is sealed all the same, is found later, by `decode`.

    Args:
        table: a name in `search.schema.TABLES`.
        data: the whole file.
        deep: whether to decode them all the same, and compare them with the twin if there is one.

    Raises:
        PartError: the bytes are damaged, or their columns or types are not the table's.
        NewerSchemaError: the part has a later schema version than `search.schema.SCHEMA_VERSION`.
    """
    seal = check_seal(data)
    if not deep:
        # Sealed pages are as they were written.
        _opened(table, data, seal, None if seal is None else [])
    elif not same_rows(decode(table, data), _read(table, data, None)):
        raise PartError("its twin has other rows than its pages")


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables of one schema have the same cells; NaN, which lists may hold, is the same as NaN."""
    return one.num_rows == other.num_rows and all(
        mine.equals(theirs) or (pa.types.is_list(mine.type) and _same_lists(mine, theirs))
        for mine, theirs in zip(one.columns, other.columns, strict=True)
    )


def _same_lists(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    lengths = pc.list_value_length(one).equals(pc.list_value_length(other))
    mine, theirs = (pc.list_flatten(lists) for lists in (one, other))
    if mine.equals(theirs) or not pa.types.is_floating(mine.type):
        return lengths and bool(mine.equals(theirs))
    return lengths and bool(np.array_equal(mine.to_numpy(), theirs.to_numpy(), equal_nan=True))


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
