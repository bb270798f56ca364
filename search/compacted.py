"""A compacted file: the rows of many parts of a table in one Parquet file, with a table of contents.

It has the one name `COMPACTED`, and may stand beside parts that came later.  Its table of contents, the keys of the
parts that it is made of and their numbers of rows in order, stands in front of the seal, where other readers do not see
it; so the store knows which keys it holds, and can read the rows of one of them.
"""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from search.part import NewerSchemaError, conform, needed
from search.schema import TABLES
from search.seal import SEALED, PartError, seal_file, seal_start

COMPACTED: Final = "part-compacted.parquet"
"""Its name; no unit has such a key."""

ROWS_IN_GROUP: Final = 1 << 18
"""Rows of each row group but the last."""

_MARK: Final = b"LDNN-CONTENTS-01"
_TRAILER: Final = struct.Struct(f"<Q{len(_MARK)}s")


@dataclass(frozen=True)
class Contents:
    """What a compacted file is made of.

    Attributes:
        rows: key of a part → how many rows it had, in the order in which they stand.
    """

    rows: dict[str, int]

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Key → its first row and the one after its last."""
        ends = list(itertools.accumulate(self.rows.values()))
        return {key: (end - count, end) for (key, count), end in zip(self.rows.items(), ends, strict=True)}


def write(path: Path, table: str, parts: Iterable[tuple[Mapping[str, int], pa.Table]]) -> Contents:
    """Write a compacted file and flush it to the disk.

    Args:
        path: a new file.
        table: a name in `search.schema.TABLES`.
        parts: rows with the whole schema, some at a time, each time with the keys that begin there and their numbers
            of rows.
    """
    rows: dict[str, int] = {}

    def told() -> Iterator[pa.Table]:
        for begun, some in parts:
            rows.update(begun)
            yield some

    with pq.ParquetWriter(path, TABLES[table], compression="zstd", write_page_checksum=True) as writer:
        for group in regrouped(told(), ROWS_IN_GROUP):
            writer.write_table(group, row_group_size=ROWS_IN_GROUP)
        writer.add_key_value_metadata(SEALED)
    packed = zlib.compress(json.dumps(rows, separators=(",", ":")).encode())
    seal_file(path, packed + _TRAILER.pack(len(packed), _MARK))
    return Contents(rows)


def contents(file: pa.NativeFile) -> Contents:
    """The table of contents; the seal is not checked.

    Raises:
        PartError: there is none, or it is damaged.
    """
    end = seal_start(file)
    file.seek(max(0, end - _TRAILER.size))
    size, mark = _TRAILER.unpack(file.read(_TRAILER.size))
    if mark != _MARK or size > end - _TRAILER.size:
        raise PartError("it has no table of contents")
    file.seek(end - _TRAILER.size - size)
    try:
        return _unpacked(file.read(size))
    except (zlib.error, ValueError) as error:
        raise PartError(f"its table of contents is damaged: {error}") from error


@lru_cache(maxsize=2 * len(TABLES))
def _unpacked(packed: bytes) -> Contents:
    # Remembered, because a run asks for its keys again and again.
    return Contents(json.loads(zlib.decompress(packed)))


def read(
    file: pa.NativeFile,
    table: str,
    columns: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    dictionaries: Collection[str] = (),
) -> Iterator[pa.Table]:
    """Rows, group by group; of some keys only, in their order.

    Raises:
        PartError: the file is damaged where this is noticed without its seal, or columns are not the table's.
        NewerSchemaError: a row was written under a later schema.
    """
    try:
        metadata = pq.read_metadata(file)
        found = metadata.schema.to_arrow_schema()
        coded = [name for name in dictionaries if name in found.names]
        with pq.ParquetFile(file, metadata=metadata, read_dictionary=coded, page_checksum_verification=True) as parquet:

            def group(number: int) -> pa.Table:
                rows = parquet.read_row_group(number, columns=needed(found, columns))
                return conform(table, found, rows, columns)

            if keys is None:
                yield from map(group, range(parquet.num_row_groups))
                return
            counts = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
            yield from _slices(group, counts, [contents(file).ranges[key] for key in keys])
    except (PartError, NewerSchemaError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PartError(f"it cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _slices(
    group: Callable[[int], pa.Table], counts: Sequence[int], ranges: Sequence[tuple[int, int]]
) -> Iterator[pa.Table]:
    """The rows of these ranges; only groups that have some of them are read."""
    start = 0
    for number, count in enumerate(counts):
        inside = [(max(a - start, 0), min(b - start, count)) for a, b in ranges if a < start + count and b > start]
        if inside:
            rows = group(number)
            yield pa.concat_tables([rows.slice(a, b - a) for a, b in inside])
        start += count


def regrouped(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``size`` rows, but for the last."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size)
            held, count = [whole.slice(size)], count - size
    if count:
        yield pa.concat_tables(held)
