"""Columns in runs: what is the same in thousands of rows one after the other is held once, with how many they are.

Of an evaluations table most columns are the same in all rows of a part: task, width, trial.  Spread over 10 million
rows each takes 40 to 80 MB, and to touch new memory costs more than what is then done with it.  Arrow calls such an
array run-end encoded; only some of its operations know it, hence this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_WORTHWHILE: Final = 16
"""Rows per run from which on runs take less memory and time than cells."""


def is_in_runs(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether a column is held in runs."""
    return bool(pa.types.is_run_end_encoded(column.type))


def _lengths(chunk: pa.RunEndEncodedArray) -> NDArray[np.int64]:
    """Rows of each run of a chunk that is no slice of another."""
    ends: NDArray[np.int64] = chunk.run_ends.to_numpy().astype(np.int64)
    return np.diff(ends, prepend=0)


def cells_and_counts(chunk: pa.Array) -> tuple[pa.Array, NDArray[np.int64] | None]:
    """The cells that a chunk holds, and of each how many rows have it; None if each is one row."""
    return (chunk.values, _lengths(chunk)) if is_in_runs(chunk) else (chunk, None)


def in_runs(rows: pa.Table) -> pa.Table:
    """The same rows, with those columns in runs for which that is less; dictionaries are then plain values."""
    for place, (name, column) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
        is_coded = pa.types.is_dictionary(column.type)
        if pa.types.is_list(column.type) or pa.types.is_string(column.type) or is_in_runs(column):
            continue
        chunks = []
        for chunk in column.chunks:
            found = pc.run_end_encode(chunk.indices if is_coded else chunk)
            if len(found.values) * _WORTHWHILE > len(chunk):
                break
            values = chunk.dictionary.take(found.values) if is_coded else found.values
            chunks.append(pa.RunEndEncodedArray.from_arrays(found.run_ends, values))
        if chunks and len(chunks) == column.num_chunks:
            rows = rows.set_column(place, name, pa.chunked_array(chunks))
    return rows


def spread(column: pa.ChunkedArray, *, coded: bool = False) -> pa.ChunkedArray:
    """The same column with a cell for each row, if coded as a dictionary."""
    if not is_in_runs(column):
        return column.dictionary_encode() if coded and not pa.types.is_dictionary(column.type) else column
    kind = column.type.value_type
    if not coded:
        return pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind)
    chunks = []
    for chunk in column.chunks:
        places = np.repeat(np.arange(len(chunk.values), dtype=np.int32), _lengths(chunk))
        chunks.append(chunk.values.dictionary_encode().take(pa.array(places)))
    return pa.chunked_array(chunks, pa.dictionary(pa.int32(), kind))


def join(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns one below the other; what is in runs in some only is spread there."""
    if len(tables) == 1:
        return tables[0]
    columns = {}
    for name in tables[0].column_names:
        found = [table.column(name) for table in tables]
        if not all(map(is_in_runs, found)):
            coded = any(pa.types.is_dictionary(column.type) for column in found)
            found = [spread(column, coded=coded) for column in found]
        columns[name] = pa.chunked_array([chunk for column in found for chunk in column.chunks], found[0].type)
    return pa.table(columns)
